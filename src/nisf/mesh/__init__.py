"""Watertight surfaces of a subject's structures, on the field's own level sets."""
