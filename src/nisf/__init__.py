"""Continuous segmentation of medical image volumes with neural implicit segmentation functions."""

__version__ = "0.1.0"
