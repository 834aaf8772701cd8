"""The time axis of a file: whether it is where it is assumed to be, and what frames and their times mean."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Num

FEWEST = 3
"""Minimum number of slices and of frames for a comparison."""
SHORTEST_CYCLE_MS, LONGEST_CYCLE_MS = 200.0, 3000.0
"""Range of plausible lengths of a cardiac cycle: 300 to 20 beats per minute."""
MOST = 64
"""Maximum number of pairs of neighbours to compare; more would not change the result."""


def plausible_cycle(length_ms: float | None) -> float | None:
    """A length of the cycle, ms, if a heart can have it; else None.

    Headers often give another time instead: the repetition time (3 ms), 1 for unknown, or the wrong unit.
    """
    plausible = length_ms is not None and SHORTEST_CYCLE_MS <= length_ms <= LONGEST_CYCLE_MS
    return length_ms if plausible else None


def frames_may_be_slices(image: Num[np.ndarray, "x y z t c"]) -> bool:
    """Whether a volume changes less than half as much from slice to slice as from frame to frame.

    In a cine it is the other way round: slices are millimetres apart, frames milliseconds. The usual cause is
    a file stored as (x, y, time, z). Thin slices of something that moves fast look the same: this is only a
    hint.
    """
    if min(image.shape[2:4]) < FEWEST:
        return False
    return 2 * _change(image) < _change(image.swapaxes(2, 3))


def same_images(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether the images of every pair are equal to a bit, as no two measurements are."""
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)


def repeated_frames(image: Num[np.ndarray, "x y z t c"]) -> int:
    """How many frames have exactly the image of the frame before."""
    slices = range(image.shape[2])
    return sum(
        same_images((image[:, :, z, t], image[:, :, z, t - 1]) for z in slices)
        for t in range(1, image.shape[3])
    )


def _change(image: np.ndarray) -> float:
    """Mean absolute difference of neighbours along the third axis, over some of the pairs and pixels."""
    pairs = [(i, t) for t in range(image.shape[3]) for i in range(image.shape[2] - 1)]
    chosen = pairs[:: len(pairs) // MOST + 1]
    coarse = image[::2, ::2]
    changes = [np.abs(coarse[:, :, i, t].astype(np.float64) - coarse[:, :, i + 1, t]) for i, t in chosen]
    return float(np.nanmean(changes))
