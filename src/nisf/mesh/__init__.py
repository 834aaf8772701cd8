"""Watertight surfaces of a subject's structures, on the level sets of the field."""
