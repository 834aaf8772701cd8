"""Find the shifts that make intersecting planes agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from nisf.alignment.planes import Crossing, Plane, crossings, planes_of
from nisf.data.case import Case
from nisf.data.geometry import Affine
from nisf.data.region import Region

LARGEST_MM = 10.0
"""Maximum shift to search for, along each axis of a plane."""
ROUNDS = 6
STEPS_MM = (2.0, 0.5, 0.125)
"""Step sizes of the search, each around the previous result."""
SPREAD_MM = 4.0
"""Standard deviation of the differences between breath-holds."""
STRENGTH = 0.002
"""Penalty for a shift of one `SPREAD_MM`, relative to one minus the correlation of a line."""
SETTLED_MM = 0.05


@dataclass(frozen=True)
class Shift:
    """Shift of the slices at one position of a stack.

    Attributes:
        stack: index into ``Case.stacks``.
        position: index along the stack.
        mm: along the image's two axes: the image at a point shows the tissue at that point minus the shift.
    """

    stack: int
    position: int
    mm: tuple[float, float]


def shift_of(entry: Mapping[str, Any]) -> Shift:
    """Make a shift from JSON.

    Raises:
        KeyError, TypeError, ValueError: the entry is not one.
    """
    x, y = map(float, entry["mm"])
    if not np.isfinite([x, y]).all():
        raise ValueError("a shift that is not finite")
    return Shift(int(entry["stack"]), int(entry["position"]), (x, y))


def find_shifts(case: Case, region: Region) -> list[Shift]:
    """The shift of each plane that others intersect; empty if no planes intersect.

    A common shift of all planes is equivalent to another position of the patient, so the reference
    stack's mean shift is set to zero.

    Args:
        case: its intensities are used, its labels never.
        region: the part with the anatomy. Its surroundings (chest wall, spine) do not move with the breath.
    """
    planes = planes_of(case)
    lines = crossings(planes, region)
    if not lines:
        return []
    seen = sorted({index for line in lines for index in line.planes})
    shifts = np.zeros((len(planes), 2))
    for _ in range(ROUNDS):
        before = shifts.copy()
        for index in seen:
            shifts[index] = _best(index, planes, lines, shifts)
        _remove_mean(planes, seen, shifts)
        if np.abs(shifts - before).max() < SETTLED_MM:
            break
    found = [(planes[index], shifts[index].round(3).tolist()) for index in seen]
    return [Shift(plane.stack, plane.position, (x, y)) for plane, (x, y) in found]


def aligned(case: Case, shifts: Sequence[Shift]) -> Case:
    """Move the slices to the positions of the tissue that they show; the stacks' grids are not changed."""
    known = {(shift.stack, shift.position): np.array(shift.mm) for shift in shifts}

    def moved(affine: Affine, mm: np.ndarray) -> Affine:
        matrix = affine.matrix.copy()
        matrix[:3, 3] -= affine.axes[:, :2] @ mm
        return Affine(matrix)

    return replace(
        case,
        slices=tuple(
            replace(item, affine=moved(item.affine, known[item.stack, item.position]))
            if (item.stack, item.position) in known
            else item
            for item in case.slices
        ),
    )


def _best(
    index: int, planes: Sequence[Plane], lines: Sequence[Crossing], shifts: np.ndarray
) -> Float[np.ndarray, "2"]:
    """The shift of one plane that fits the others best, given theirs."""
    plane = planes[index]
    pairs = []
    for line in lines:
        if index in line.planes:
            own = line.planes.index(index)
            other = line.planes[1 - own]
            told = _profiles(planes[other], line.line, line.frames[1 - own], shifts[other][None])[0]
            pairs.append((line.line, line.frames[own], told))
    # Without the reference stack's mean, it may lie outside of what is searched.
    best = shifts[index].clip(-LARGEST_MM, LARGEST_MM)
    for step, reach in zip(STEPS_MM, (LARGEST_MM, *STEPS_MM), strict=False):
        offsets = np.arange(-reach, reach + step / 2, step)
        tried = best + np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 2)
        tried = tried[(np.abs(tried) <= LARGEST_MM).all(axis=1)]
        cost = STRENGTH * (tried**2).sum(axis=1) / SPREAD_MM**2
        for points, frames, told in pairs:
            cost += (1 - _correlation(_profiles(plane, points, frames, tried), told)) / len(pairs)
        best = tried[cost.argmin()]
    return best


def _profiles(
    plane: Plane, points: np.ndarray, frames: np.ndarray, shifts: Float[np.ndarray, "s 2"]
) -> Float[np.ndarray, "s f n"]:
    """Intensities along a line of tissue in a plane, for each of several shifts of the plane."""
    pixel = plane.pixels(points)[None] + (shifts / plane.affine.spacing[:2])[:, None]
    at = pixel.reshape(-1, 2).T
    shown = [ndimage.map_coordinates(plane.images[f], at, order=1, mode="nearest") for f in frames]
    return np.stack(shown, axis=0).reshape(len(frames), len(shifts), len(points)).swapaxes(0, 1)


def _correlation(shown: Float[np.ndarray, "s f n"], told: Float[np.ndarray, "f n"]) -> Float[np.ndarray, "s"]:
    """Correlation of lines over all frames, independent of brightness and contrast."""
    a, b = shown.reshape(len(shown), -1), told.reshape(-1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean()
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum())
    return (a @ b) / np.maximum(size, 1e-12)


def _remove_mean(planes: Sequence[Plane], seen: Sequence[int], shifts: np.ndarray) -> None:
    """Subtract the reference stack's mean shift from all planes, in place; their agreement is unchanged."""
    axes = {index: planes[index].affine.axes[:, :2] for index in seen}
    reference = [index for index in seen if planes[index].stack == planes[seen[0]].stack]
    mean = np.mean([axes[index] @ shifts[index] for index in reference], axis=0)
    for index in seen:
        shifts[index] -= axes[index].T @ mean
