"""Beating-heart phantoms: analytic hearts, known at every position and time, and a simulated scanner."""

from nisf.phantom.chest import tissue_intensity
from nisf.phantom.cohort import cohort, random_heart, write_cohort
from nisf.phantom.heart import LABELS, Heart, ejection_fraction, label, volumes_ml
from nisf.phantom.scanner import Scan, Scanner, long_axis, scan, scan_plane, short_axis

__all__ = [
    "LABELS",
    "Heart",
    "Scan",
    "Scanner",
    "cohort",
    "ejection_fraction",
    "label",
    "long_axis",
    "random_heart",
    "scan",
    "scan_plane",
    "short_axis",
    "tissue_intensity",
    "volumes_ml",
    "write_cohort",
]
