"""Limits on what files may declare; beyond them a file is considered broken before anything is allocated."""

MAX_VOXELS = 2**31
"""Maximum number of voxels of an image, all frames together."""
