"""A trained prior whatever its kind: its folder, where it looks for the region, how a case is fitted."""
