"""Numbers of a subject: volumes, curves over the cycle, ejection fraction, mass, thickness of a wall."""
