"""The measurements of one subject: a set of slices with their poses, and scattered points.

A 4D cine, an end-diastole/end-systole pair, a single slice, several stacks of different orientations and a
scattered subset are all cases with more or fewer slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from nisf.data.arrangement import Arrangement
from nisf.data.geometry import Affine, Grid
from nisf.data.wording import counted, mm, sizes
from nisf.types import PointsMm, SliceImage, SliceLabel

UNKNOWN = -1
"""Label of a point whose class is not known, which is different from background."""

MOST_CLASSES = 128
"""Maximum number of classes, background included: labels are stored as int8."""

BACKGROUND = "background"
UNKNOWN_NAME = "unknown"
"""Name, in a table of label numbers, of voxels that annotators excluded."""

SUBSAMPLE = 1_000_000
"""Number of voxels sampled for percentiles: enough for four digits; a 4D cine has twenty times as many."""


@dataclass(frozen=True, eq=False, repr=False)
class Points:
    """Scattered observations: ``n`` points with their measurements.

    Attributes:
        position: world mm.
        time: fraction of the cycle.
        intensity: one column per channel.
        label: class index, or `UNKNOWN`.
        slice: index of the slice it was drawn from in ``Case.slices``, or -1.
        frame: time frame of that slice, or -1.
    """

    position: PointsMm
    time: Float[np.ndarray, "*n"]
    intensity: Float[np.ndarray, "*n c"]
    label: Int[np.ndarray, "*n"]
    slice: Int[np.ndarray, "*n"]
    frame: Int[np.ndarray, "*n"]

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        channels, labelled = self.intensity.shape[-1], np.count_nonzero(self.label != UNKNOWN)
        return f"Points({counted(len(self), 'point')}, {counted(channels, 'channel')}, {labelled} labelled)"


@dataclass(frozen=True, eq=False, repr=False)
class Slice:
    """One measured 2D image with its pose.

    Attributes:
        image: intensities as stored in the file (x, y, channel).
        label: class index per pixel, `UNKNOWN` where not given; None if there is no label at all.
        affine: ``(i, j, 0)`` to world mm; its third axis points to the next slice.
        thickness: mm across the slice.
        time: fraction of the cycle.
        stack: index into ``Case.stacks``.
        position: index along the stack.
        frame: index into the stack's times.
    """

    image: SliceImage
    label: SliceLabel | None
    affine: Affine
    thickness: float
    time: float
    stack: int
    position: int
    frame: int

    def __repr__(self) -> str:
        parts = [sizes(self.image.shape[:2]), mm(self.affine.spacing[:2]), f"{self.thickness:.4g} mm thick"]
        parts += [f"stack {self.stack}", f"position {self.position}", f"frame {self.frame}"]
        parts += ["labelled"] if self.labelled else []
        return f"Slice({', '.join(parts)})"

    @property
    def labelled(self) -> bool:
        """Whether the label of at least one pixel is known."""
        return self.label is not None and bool((self.label != UNKNOWN).any())


@dataclass(frozen=True, eq=False, repr=False)
class Stack:
    """The full grid that a group of parallel slices was cut from.

    Attributes:
        name: e.g. ``sa`` or ``la_4ch``.
        grid: shape, voxel-to-world affine, times.
        oriented: whether the affine gives a true patient position and orientation (RAS+ mm).
        source: file whose header and grid a segmentation of this stack takes over.
        cycle_ms: length of the cardiac cycle in ms, if the file gives it.
        intensity_range: 1st and 99th percentile per channel (c, 2), over all that was measured.
        arrangement: how the source file's array axes became those of the grid.
        ends: first and last measured position, if there are blank slices beyond; otherwise None.
    """

    name: str
    grid: Grid
    oriented: bool = True
    source: Path | None = None
    cycle_ms: float | None = None
    intensity_range: np.ndarray = field(default_factory=lambda: np.array([[0.0, 1.0]]))
    arrangement: Arrangement = Arrangement()
    ends: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"Stack({self.name!r}, {self.grid.words()}{'' if self.oriented else ', not oriented'})"

    @property
    def bounds(self) -> Float[np.ndarray, "3 2"]:
        """Voxel coordinates along each axis between which the stack was measured.

        They lie half a voxel beyond the outermost; blank slices at the ends do not count.
        """
        x, y, slices = self.grid.shape
        first, last = self.ends or (0, slices - 1)
        return np.array([(-0.5, x - 0.5), (-0.5, y - 0.5), (first - 0.5, last + 0.5)])

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """Intensities (..., c) to [0, 1]: percentiles of the whole volume, clipped."""
        low, high = self.intensity_range.T
        return np.clip((image - low) / np.maximum(high - low, 1e-12), 0.0, 1.0).astype(np.float32)

    def denormalise(self, image: np.ndarray) -> np.ndarray:
        """[0, 1] back to the file's intensity scale."""
        low, high = self.intensity_range.T
        return (low + image * (high - low)).astype(np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One subject.

    Attributes:
        name: unique in its cohort; used for output files.
        stacks: grids that slices refer to; the first is the reference stack.
        slices: measured slices, in any order.
        labels: class names; the index is the class number, ``labels[0]`` is background.
        known: the classes that this case's annotators drew. Other classes can be hidden in their background,
            so they are neither trained on nor scored here.
        phases: named phases, e.g. ``{"ED": 0.0, "ES": 0.37}``, as fractions of the cycle.
        points: scattered observations in addition to the slices.
        attributes: other metadata, e.g. ``{"group": "DCM"}``.
    """

    name: str
    stacks: tuple[Stack, ...]
    slices: tuple[Slice, ...]
    labels: tuple[str, ...]
    known: frozenset[str] = frozenset()
    phases: Mapping[str, float] = field(default_factory=dict)
    points: Points | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels or self.labels[0] != BACKGROUND:
            raise ValueError(f"{self.name}: the first label must be '{BACKGROUND}', not {self.labels}")
        if not self.slices and not self.points:
            raise ValueError(f"{self.name}: a case needs at least one slice or point")

    def __repr__(self) -> str:
        parts = [repr(self.name), *(stack.grid.words() for stack in self.stacks[:1])]
        if len(self.stacks) > 1:
            parts.append(f"{len(self.stacks)} stacks")
        parts += [counted(len(self.slices), "slice"), f"{len(self.labelled())} labelled"]
        if self.points is not None:
            parts.append(counted(len(self.points), "point"))
        return f"Case({', '.join(parts)})"

    @property
    def channels(self) -> int:
        if self.slices:
            return self.slices[0].image.shape[-1]
        assert self.points is not None
        return self.points.intensity.shape[-1]

    def keep(self, wanted: Callable[[Slice], bool]) -> Case:
        """The same case with only the slices for which ``wanted`` holds.

        Raises:
            ValueError: nothing is left.
        """
        return replace(self, slices=tuple(s for s in self.slices if wanted(s)))

    def arranged(self, arrangement: Arrangement) -> Case:
        """The same case as if its reference stack's files were stored in another in-plane orientation.

        Every pixel keeps its position in the world; the arrays are views without copying.

        Args:
            arrangement: one of `nisf.data.arrangement.in_plane`.
        """
        if arrangement.changes_nothing:
            return self
        first, *others = self.stacks
        stack = replace(
            first,
            grid=arrangement.of_grid(first.grid),
            arrangement=first.arrangement.then(arrangement),
        )
        slices = tuple(_arranged(s, arrangement) if s.stack == 0 else s for s in self.slices)
        return replace(self, stacks=(stack, *others), slices=slices)

    @property
    def reference_stack(self) -> Stack | None:
        """The first stack; None if the case has scattered points only."""
        return self.stacks[0] if self.stacks else None

    def labelled(self) -> tuple[Slice, ...]:
        """The slices with at least one known label."""
        return tuple(s for s in self.slices if s.labelled)


def _arranged(item: Slice, arrangement: Arrangement) -> Slice:
    """A slice in another in-plane orientation; its pixels keep their positions in the world."""
    nx, ny = item.image.shape[:2]
    label = None if item.label is None else arrangement.apply(item.label[:, :, None])[:, :, 0]
    return replace(
        item,
        image=arrangement.apply(item.image[:, :, None])[:, :, 0],
        label=label,
        affine=arrangement.of_affine(item.affine, (nx, ny, 1)),
    )


def slices_of_volume(
    image: Num[np.ndarray, "x y z t c"],
    label: Int[np.ndarray, "x y z t"] | None,
    grid: Grid,
    *,
    stack: int = 0,
    thickness: float | None = None,
    measured: Bool[np.ndarray, "z t"] | None = None,
) -> tuple[Slice, ...]:
    """Cut a volume into its slices; the arrays are views without copying.

    Args:
        image: intensities, as stored.
        label: class indices, or None.
        grid: grid of the volume.
        stack: index of the grid's stack in ``Case.stacks``.
        thickness: mm; the slice spacing if not given.
        measured: which slices were measured; all if None.
    """
    across = float(grid.spacing[2]) if thickness is None else thickness
    return tuple(
        Slice(
            image=image[:, :, k, t],
            label=None if label is None else label[:, :, k, t],
            affine=grid.affine.shifted((0, 0, k)),
            thickness=across,
            time=float(grid.times[t]),
            stack=stack,
            position=k,
            frame=t,
        )
        for t in range(len(grid.times))
        for k in range(grid.shape[2])
        if measured is None or measured[k, t]
    )


def intensity_range(image: Num[np.ndarray, "*n c"]) -> np.ndarray:
    """1st and 99th percentile of each channel (c, 2), over everything but the last axis."""
    flat = image.reshape(-1, image.shape[-1])
    flat = flat[:: max(1, len(flat) // SUBSAMPLE)]
    return np.percentile(flat, [1, 99], axis=0).T.astype(np.float64)
