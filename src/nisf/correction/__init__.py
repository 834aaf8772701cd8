"""Corrections: what a person says of places that a subject gets wrong, as strokes, and their files."""
