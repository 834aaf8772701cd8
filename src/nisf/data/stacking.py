"""Which array axis of a file runs across the slices, and which way round a stack is looked at.

Files store the same scan in 48 ways. Where they say how they lie in the patient, all of them are brought to
one arrangement, so that the answer in the world does not depend on the file.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import Anatomy
from nisf.data.arrangement import Arrangement, towards_world
from nisf.data.geometry import Affine

COARSER = 1.2
"""Factor between the slice spacing and the next coarser one from which the spacing alone decides."""

UNEVEN = 0.1
"""Of the slice distance: how far a slice may lie from its place in an even stack."""

IN_PLANE = np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
"""Directions (RAS+) in which the first in-plane axis should point, the best first: left, posterior, inferior,
the way in which scanners write images."""


def slice_axis(shape: tuple[int, int, int], affine: Affine) -> int | None:
    """The array axis across the slices, from geometry alone; None where that does not decide.

    Args:
        shape: of the file's array.
        affine: voxel to world, mm.
    """
    spacing = affine.spacing
    order = np.argsort(spacing)
    if spacing[order[2]] > COARSER * spacing[order[1]]:
        return int(order[2])
    flat = [axis for axis, size in enumerate(shape) if size == 1]
    return flat[0] if len(flat) == 1 else None


def even_places(along: Float[np.ndarray, "n"]) -> list[int] | None:
    """The place of each slice in an even stack, which may have gaps; None if there is no such stack.

    Args:
        along: positions of at least two slices along their normal, mm, ascending and distinct.
    """
    apart = np.diff(along)
    counts = np.maximum(1, np.round(apart / apart.min())).astype(int)
    places = np.concatenate([[0], np.cumsum(counts)])
    step = (along[-1] - along[0]) / places[-1]
    # With fewer than half of its slices, a stack is more likely a set of slices that do not belong together.
    if np.abs(along - along[0] - places * step).max() > UNEVEN * step or len(along) < places[-1] / 2:
        return None
    return [int(place) for place in places]


def arrangement_of(
    shape: tuple[int, int, int], affine: Affine, anatomy: Anatomy, *, oriented: bool
) -> Arrangement:
    """How a file's array axes become those of its stack: slices along the third.

    Args:
        shape: of the file's array.
        affine: voxel to world, mm, RAS+.
        anatomy: says whether its files show it one way, and which.
        oriented: whether the affine is true; if not, nothing is turned or mirrored.
    """
    if anatomy.orientation is not None:
        return towards_world(affine, anatomy.orientation) if oriented else Arrangement()
    if not anatomy.turn:
        return Arrangement()  # its files show it one way, and nobody says which
    across = slice_axis(shape, affine)
    across = 2 if across is None else across
    first, second = (axis for axis in range(3) if axis != across)
    if not oriented:
        return Arrangement((first, second, across))
    return _one_way(affine, first, second, across, count=anatomy.reorder)


def _one_way(affine: Affine, first: int, second: int, across: int, *, count: bool) -> Arrangement:
    """The one of the arrangements of slices along ``across`` that all files of a scan have in common.

    Args:
        affine: voxel to world, mm, RAS+.
        first: an axis in the plane.
        second: the other one.
        across: the axis across the slices.
        count: whether slices may be counted from the other end.
    """
    directions = affine.axes
    normal = _normal(directions, first, second)
    wanted = max(IN_PLANE, key=lambda d: np.linalg.norm(d - (d @ normal) * normal).round(6))
    if abs(directions[:, second] @ wanted) > abs(directions[:, first] @ wanted):
        first, second = second, first
    # The second axis, like the slices, is counted along the world's axis that it is nearest to.
    flips = (
        directions[:, first] @ wanted < 0,
        _falls(-directions[:, second]),
        count and _falls(directions[:, across]),
    )
    x, y, z = (bool(flip) for flip in flips)
    return Arrangement((first, second, across), (x, y, z))


def _normal(directions: np.ndarray, first: int, second: int) -> np.ndarray:
    """Unit normal of the plane of two axes (3,), whichever side."""
    normal = np.cross(directions[:, first], directions[:, second])
    return normal / np.linalg.norm(normal)


def _falls(direction: np.ndarray) -> bool:
    """Whether a direction runs against the world's axis that it is nearest to."""
    return bool(direction[np.abs(direction).round(6).argmax()] < 0)
