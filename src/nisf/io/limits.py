"""What files may declare: more is taken as broken, before anything is allocated."""

MAX_VOXELS = 2**31
"""Voxels of an image, all its frames together."""
