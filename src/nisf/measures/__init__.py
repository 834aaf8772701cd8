"""Measures of a subject: volumes, curves over the cycle, ejection fraction, mass, wall thickness."""
