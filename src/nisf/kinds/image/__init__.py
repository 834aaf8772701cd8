"""The image-conditioned kind: a field that sees the measured slices."""
