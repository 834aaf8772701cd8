"""The image-conditioned kind: a field conditioned on the measured slices."""
