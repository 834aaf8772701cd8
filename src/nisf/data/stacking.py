"""Find a file's array axis across the slices, and a common arrangement for all files of a scan.

Files can store the same scan in 48 ways. If they give the orientation in the patient, all are brought to one
arrangement, so that the result in the world does not depend on the file.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import Anatomy
from nisf.data.arrangement import Arrangement, towards_world
from nisf.data.geometry import Affine

COARSER = 1.2
"""Minimum ratio of the slice spacing to the next coarser spacing for the spacing alone to decide."""

UNEVEN = 0.1
"""Maximum deviation of a slice from its position in an even stack, as a fraction of the slice distance."""

IN_PLANE = np.array([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
"""Preferred directions (RAS+) of the first in-plane axis, best first: left, posterior, inferior, as scanners
write images."""


def slice_axis(shape: tuple[int, int, int], affine: Affine) -> int | None:
    """The array axis across the slices, from geometry alone; None if the geometry does not decide.

    A single slice decides it, whatever its spacing, because its thickness is often unknown.

    Args:
        shape: shape of the file's array.
        affine: voxel to world, mm.
    """
    flat = [axis for axis, size in enumerate(shape) if size == 1]
    if len(flat) == 1:
        return flat[0]
    spacing = affine.spacing
    order = np.argsort(spacing)
    return int(order[2]) if spacing[order[2]] > COARSER * spacing[order[1]] else None


def even_places(along: Float[np.ndarray, "n"]) -> list[int] | None:
    """Positions of the slices in an even stack, which may have gaps; None if they do not form one.

    Args:
        along: positions of at least two slices along their normal, mm, ascending and distinct.
    """
    apart = np.diff(along)
    counts = np.maximum(1, np.round(apart / apart.min())).astype(int)
    places = np.concatenate([[0], np.cumsum(counts)])
    step = (along[-1] - along[0]) / places[-1]
    # With fewer than half of its slices, the set more likely consists of unrelated slices.
    if np.abs(along - along[0] - places * step).max() > UNEVEN * step or len(along) < places[-1] / 2:
        return None
    return [int(place) for place in places]


def arrangement_of(
    shape: tuple[int, int, int], affine: Affine, anatomy: Anatomy, *, oriented: bool
) -> Arrangement:
    """The arrangement from a file's array axes to those of its stack, with slices along the third.

    Args:
        shape: shape of the file's array.
        affine: voxel to world, mm, RAS+.
        anatomy: says whether its files have a fixed orientation, and which.
        oriented: whether the affine is true; if not, nothing is rotated or mirrored.
    """
    if anatomy.orientation is not None:
        return towards_world(affine, anatomy.orientation) if oriented else Arrangement()
    if not anatomy.turn:
        return Arrangement()  # files have a fixed orientation, which is not declared
    across = slice_axis(shape, affine)
    across = 2 if across is None else across
    first, second = (axis for axis in range(3) if axis != across)
    if not oriented:
        return Arrangement((first, second, across))
    return _one_way(affine, first, second, across, count=anatomy.reorder)


def _one_way(affine: Affine, first: int, second: int, across: int, *, count: bool) -> Arrangement:
    """The canonical arrangement with slices along ``across``, the same for all files of a scan.

    Args:
        affine: voxel to world, mm, RAS+.
        first: one in-plane axis.
        second: the other in-plane axis.
        across: the axis across the slices.
        count: whether slices may be counted from the other end.
    """
    directions = affine.axes
    normal = _normal(directions, first, second)
    wanted = max(IN_PLANE, key=lambda d: np.linalg.norm(d - (d @ normal) * normal).round(6))
    if abs(directions[:, second] @ wanted) > abs(directions[:, first] @ wanted):
        first, second = second, first
    # The second axis and the slices are counted along the nearest axis of the world.
    flips = (
        directions[:, first] @ wanted < 0,
        _falls(-directions[:, second]),
        count and _falls(directions[:, across]),
    )
    x, y, z = (bool(flip) for flip in flips)
    return Arrangement((first, second, across), (x, y, z))


def _normal(directions: np.ndarray, first: int, second: int) -> np.ndarray:
    """Unit normal of the plane of two axes (3,), of arbitrary sign."""
    normal = np.cross(directions[:, first], directions[:, second])
    return normal / np.linalg.norm(normal)


def _falls(direction: np.ndarray) -> bool:
    """Whether a direction runs against the nearest axis of the world."""
    return bool(direction[np.abs(direction).round(6).argmax()] < 0)
