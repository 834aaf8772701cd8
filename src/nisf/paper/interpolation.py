"""Interpolate segmentations of the seen slices to the hidden slices: the baselines of figure 4."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int16
from scipy import ndimage

from nisf.data.case import Case
from nisf.networks.canvas import plane_of

How = Literal["shape", "nearest"]
FAR = 20.0
"""Maximum distance outside (pixels): a structure that ends between two slices fades according to its size."""


def signed_distance(mask: Bool[np.ndarray, "x y"]) -> Float[np.ndarray, "x y"]:
    """Distance to the outline in pixels: positive inside; `-FAR` everywhere if the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, -FAR)
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return np.maximum(distance, -FAR)


def between(
    below: Int16[np.ndarray, "x y"], above: Int16[np.ndarray, "x y"], share: float, classes: int
) -> Int16[np.ndarray, "x y"]:
    """Shape-based interpolation (Raya and Udupa 1990) of two slices' classes at the fraction ``share``."""
    distances = np.zeros((classes, *below.shape))
    for k in range(1, classes):
        distances[k] = (1 - share) * signed_distance(below == k) + share * signed_distance(above == k)
    return distances.argmax(0).astype(np.int16)


def interpolated(
    seen: dict[tuple[int, int], np.ndarray], case: Case, classes: int, how: How
) -> Int16[np.ndarray, "x y z t"]:
    """Classes on the whole grid of the reference stack.

    Args:
        seen: classes (x, y) of the seen slices, by position and frame.
        case: the whole case; its other slices are filled in.
        classes: number of classes, background included.
        how: by shape between two seen slices, or nearest slice; beyond the last slice always the nearest.
    """
    grid = case.stacks[0].grid
    volume = np.zeros((*grid.shape, len(grid.times)), dtype=np.int16)
    for (position, frame), label in seen.items():
        volume[:, :, position, frame] = label
    slices = [item for item in case.slices if item.stack == 0]
    z = {s.position: float(plane_of(slices[0])(s.affine.origin)[2]) for s in slices}
    for item in slices:
        have = sorted(position for position, frame in seen if frame == item.frame)
        if item.position in have:
            continue
        before = [p for p in have if p < item.position]
        after = [p for p in have if p > item.position]
        if before and after and how == "shape":
            a, b = before[-1], after[0]
            share = (z[item.position] - z[a]) / (z[b] - z[a])
            label = between(seen[a, item.frame], seen[b, item.frame], share, classes)
        else:
            label = seen[min(have, key=lambda p: abs(z[p] - z[item.position])), item.frame]
        volume[:, :, item.position, item.frame] = label
    return volume
