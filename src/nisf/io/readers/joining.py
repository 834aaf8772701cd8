"""Join parallel slices into one stack: one file per slice, or two files that interleave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int8, Num

from nisf.data.arrangement import Arrangement
from nisf.data.case import UNKNOWN
from nisf.data.geometry import Affine, Grid
from nisf.data.scratch import by_frame, let_go, room
from nisf.data.stacking import even_places
from nisf.data.wording import listed
from nisf.errors import BadFileError
from nisf.io.readers.labels import Notes

PARALLEL = 1e-3
"""Maximum difference between the directions of parallel stacks."""
APART_MM = 0.1
"""Closer slices show the same place, at another time or repeated, and do not form one stack."""


@dataclass(frozen=True, eq=False)
class Read:
    """A stack as its files give it, arranged, before its measured part is determined.

    Attributes:
        names: names of the case's stacks that it consists of.
        grid: its grid.
        image: intensities (x, y, z, t, c).
        label: class indices (x, y, z, t); None without a label file.
        source: the file whose header outputs copy; None if there is no single one.
        shown: its name in messages.
        oriented: whether the affine is a true position in the patient.
        cycle_ms: length of the cycle, if known.
        arrangement: how the files' array axes became those of the grid.
        phases: frames of named phases, from the layout.
    """

    names: tuple[str, ...]
    grid: Grid
    image: Num[np.ndarray, "x y z t c"]
    label: Int8[np.ndarray, "x y z t"] | None
    source: Path | None
    shown: str
    oriented: bool
    cycle_ms: float | None
    arrangement: Arrangement
    phases: Mapping[str, int]


def joined(stacks: Sequence[Read], notes: Notes, case: str) -> list[Read]:
    """The stacks of a case; parallel, evenly spaced slices become one stack.

    The order of the files does not matter: the stack with most slices comes first and is the reference stack.

    Raises:
        BadFileError: single-slice files without a position, or at uneven positions.
    """
    single = [stack for stack in stacks if stack.grid.shape[2] == 1]
    if len(single) > 1 and not all(stack.oriented for stack in single):
        shown = next(stack.shown for stack in single if not stack.oriented)
        raise BadFileError(
            f"{shown}: one of {len(single)} files of {case} with one slice each, but it gives no position "
            "in the patient; give the slices as one file"
        )
    groups: list[list[Read]] = []
    for stack in stacks:
        group = next((found for found in groups if _parallel(found[0], stack)), None)
        if group is None:
            groups.append([stack])
        else:
            group.append(stack)
    out = [piece for group in groups for piece in _joined(group, notes, case)]
    # The sort is stable: stacks with equally many slices keep their order.
    return sorted(out, key=lambda stack: -stack.grid.shape[2])


def _parallel(first: Read, other: Read) -> bool:
    """Whether two stacks differ only in the position along the normal of their slices."""
    a, b = first.grid, other.grid
    if not (first.oriented and other.oriented) or a.shape[:2] != b.shape[:2]:
        return False
    if a.times.shape != b.times.shape or not np.allclose(a.times, b.times):
        return False
    if first.image.shape[-1] != other.image.shape[-1]:
        return False
    in_plane = a.affine.matrix[:3, :2]
    if np.abs(in_plane - b.affine.matrix[:3, :2]).max() > PARALLEL * a.spacing[:2].max():
        return False
    shift = b.affine.matrix[:3, 3] - a.affine.matrix[:3, 3]
    normal = a.affine.normal()
    return bool(np.linalg.norm(shift - (shift @ normal) * normal) < 0.5 * a.spacing[:2].min())


def _joined(group: list[Read], notes: Notes, case: str) -> list[Read]:
    """Join a group of parallel stacks; unchanged if their slices do not form an even stack.

    Raises:
        BadFileError: they are single-slice files, which are useful only together.
    """
    if len(group) == 1:
        return group
    normal = group[0].grid.affine.normal()
    pieces = sorted(
        (
            (float(stack.grid.affine(np.array([0.0, 0.0, z])) @ normal), number, z)
            for number, stack in enumerate(group)
            for z in range(stack.grid.shape[2])
        ),
        key=lambda piece: piece[0],
    )
    along = np.array([piece[0] for piece in pieces])
    if np.diff(along).min() < APART_MM:
        names = listed([stack.names[0] for stack in group])
        notes.setdefault(
            "same_place",
            f"{case} (and maybe others): the stacks {names} show slices at the same place and time, "
            "which are used as repeated measurements; if they are contrasts, give them as channels "
            "(CASE_0000, CASE_0001)",
        )
        return group
    places = even_places(along)
    if places is None:
        if any(stack.grid.shape[2] > 1 for stack in group):
            return group
        distances = ", ".join(f"{distance:.4g}" for distance in sorted(set(np.diff(along).round(2))))
        raise BadFileError(
            f"{group[0].shown}: the {len(group)} slices of {case} that are parallel to it are {distances} mm "
            "apart, which is no even stack; leave out those that do not fit"
        )
    first, last = ((group[number], z) for _, number, z in (pieces[0], pieces[-1]))
    notes.setdefault(
        "joined",
        f"{first[0].shown}: {len(group)} files with parallel slices (and maybe others) are one stack",
    )
    grid = _grid(first, last, places[-1] + 1)
    return [_filled(group, pieces, places, grid, first[0])]


def _grid(first: tuple[Read, int], last: tuple[Read, int], count: int) -> Grid:
    start, end = (stack.grid.affine(np.array([0.0, 0.0, float(z)])) for stack, z in (first, last))
    matrix = first[0].grid.affine.matrix.copy()
    matrix[:3, 2] = (end - start) / (count - 1)
    matrix[:3, 3] = start
    x, y, _ = first[0].grid.shape
    return Grid((x, y, count), Affine(matrix), first[0].grid.times)


def _filled(
    group: list[Read],
    pieces: Sequence[tuple[float, int, int]],
    places: Sequence[int],
    grid: Grid,
    first: Read,
) -> Read:
    """The stack on its grid; where there is no slice, the image is constant and the label unknown."""
    frames = len(grid.times)
    dtype = np.result_type(*(stack.image for stack in group))
    shape = (*grid.shape, frames, first.image.shape[-1])
    image, low = room(shape, dtype), min(stack.image.min() for stack in group)
    for _, frame in by_frame(image):
        frame[...] = low
    labelled = any(stack.label is not None for stack in group)
    label = np.full((*grid.shape, frames), UNKNOWN, dtype=np.int8, order="F") if labelled else None
    for place, (_, number, z) in zip(places, pieces, strict=True):
        stack = group[number]
        image[:, :, place] = stack.image[:, :, z]
        let_go(image)
        let_go(stack.image)
        if label is not None and stack.label is not None:
            label[:, :, place] = stack.label[:, :, z]
    return replace(
        first,
        names=tuple(name for stack in group for name in stack.names),
        grid=grid,
        image=image,
        label=label,
        source=None,  # no single file's header describes all slices
        phases={name: frame for stack in group for name, frame in stack.phases.items()},
    )
