"""The kinds of field, each with a prior, subjects and a recipe; see `nisf.kinds.registry`."""
