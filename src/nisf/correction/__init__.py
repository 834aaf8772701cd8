"""Corrections: strokes that a person draws where a subject is wrong, and their files."""
