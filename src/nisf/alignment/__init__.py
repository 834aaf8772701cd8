"""Slices that breathing has shifted, put in line by the planes that cut them.

Each slice of a stack is imaged in a breath-hold of its own, and the heart does not come back to the same
place. Where a long-axis plane cuts a slice, both images show the same line of tissue, shifted by as much as
the two breath-holds differ. Intensities alone tell by how much; neither labels nor a network are needed.
"""

from nisf.alignment.planes import Plane, planes_of
from nisf.alignment.shifts import Shift, aligned, find_shifts, shift_of

__all__ = ["Plane", "Shift", "aligned", "find_shifts", "planes_of", "shift_of"]
