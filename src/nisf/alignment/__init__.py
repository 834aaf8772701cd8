"""Align slices that breathing has shifted, from the planes that intersect them.

Each slice of a stack is imaged in its own breath-hold, and the heart does not return to exactly the same
position. Where a long-axis plane cuts a slice, both images show the same line of tissue, shifted by the
difference of the two breath-holds. The shifts follow from intensities alone, without labels or a network.
"""

from nisf.alignment.planes import Plane, planes_of
from nisf.alignment.shifts import Shift, aligned, find_shifts, shift_of

__all__ = ["Plane", "Shift", "aligned", "find_shifts", "planes_of", "shift_of"]
