"""The part of the images shown in pictures: the labelled structures with a margin."""

from __future__ import annotations

import numpy as np

from nisf.data.case import Case
from nisf.evaluation.scores import label_volume


def window_of(case: Case, room: float = 1.5) -> tuple[slice, slice]:
    """Square window of pixels (i, j) of the reference stack around the structures of all frames.

    Args:
        case: labelled.
        room: side of the window, relative to the extent of the structures.
    """
    i, j = np.nonzero((label_volume(case) > 0).any((2, 3)))
    half = int(room / 2 * max(np.ptp(i), np.ptp(j), 8))
    centre = [int((a.min() + a.max()) // 2) for a in (i, j)]
    return slice(max(0, centre[0] - half), centre[0] + half), slice(
        max(0, centre[1] - half), centre[1] + half
    )
