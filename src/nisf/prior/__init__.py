"""A trained prior of any kind: its folder, the search for the region, and fitting a case."""
