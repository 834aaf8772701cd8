"""The data from which signs are computed: answers and measured values at pixels of one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from nisf.data.case import Case, Slice
from nisf.data.geometry import Affine, Grid
from nisf.subject.islands import bar_islands, without
from nisf.subject.rendering import Kept
from nisf.subject.subject import Subject

ACROSS = 56
"""Approximate number of pixels sampled across the region: enough for volumes, and a fifth of all pixels."""
MEMORY_MB = 256.0
KEPT_BYTES = 32 * 2**20
"""Total size up to which answers are kept for `sample_frame` while a subject is rendered."""


@dataclass(frozen=True, eq=False)
class FrameSample:
    """One frame of a subject, at a subset of the measured pixels in the region.

    Attributes:
        spacing: spacing of the sampled pixels and of the slices, mm (3,).
        measured: intensities in [0, 1] (x, y, z); NaN where no slice was measured.
        neighbour: intensities of the adjacent pixel along either axis of the image (2, x, y, z).
        predicted: intensities given by the field (x, y, z).
        probability: probability of each class (x, y, z, k).
        raw: classes before islands and doubtful sections are removed (x, y, z).
        label: classes of the segmentation (x, y, z).
        edge: pixels at the edge of what was measured or queried (x, y).
        detail_mm: length over which the image changes; NaN if it is constant. See `detail`.
        stripes: how far rows differ from their neighbours; NaN if the image is constant. See `stripes`.
        zigzag: how regularly pixels alternate along one axis; NaN if the image is constant. See `zigzag`.
        signature: see `nisf.subject.subject.Subject.signature`; None if there is none.
    """

    spacing: Float[np.ndarray, "3"]
    measured: Float[np.ndarray, "x y z"]
    neighbour: Float[np.ndarray, "2 x y z"]
    predicted: Float[np.ndarray, "x y z"]
    probability: Float[np.ndarray, "x y z k"]
    raw: Integer[np.ndarray, "x y z"]
    label: Integer[np.ndarray, "x y z"]
    edge: Bool[np.ndarray, "x y"]
    detail_mm: float
    stripes: float
    zigzag: float
    signature: Float[np.ndarray, "l"] | None

    @property
    def slices(self) -> np.ndarray:
        """Whether each slice was measured (z,)."""
        return np.asarray(np.isfinite(self.measured).any(axis=(0, 1)))


@dataclass(frozen=True, eq=False)
class Places:
    """The sampled pixels of a stack: every ``step``-th pixel starting at ``first``, in all slices.

    Attributes:
        first: index along x and y.
        step: along x and y.
        count: along x and y.
        grid: grid of these pixels.
        edge: pixels at the edge of what was measured or queried (x, y).
    """

    first: tuple[int, int]
    step: tuple[int, int]
    count: tuple[int, int]
    grid: Grid
    edge: Bool[np.ndarray, "x y"]

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of an image that contains the sampled pixels."""
        x, y = (slice(a, a + s * n) for a, s, n in zip(self.first, self.step, self.count, strict=True))
        return x, y

    def kept(self, classes: int) -> Kept:
        """Room for answers at these pixels."""
        return Kept(self.first, self.step, (*self.count, self.grid.shape[2], classes))

    def of_image(self, image: Num[np.ndarray, "x y"], shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        """The sampled pixels of an image, or those ``shift`` pixels further, clamped to the image."""
        index = [
            np.minimum(a + s * np.arange(n) + d, size - 1)
            for a, s, n, d, size in zip(self.first, self.step, self.count, shift, image.shape, strict=True)
        ]
        return image[np.ix_(*index)]


def places_of(subject: Subject, across: int = ACROSS) -> Places | None:
    """The pixels of the reference stack to sample in the subject's region; None if there are none."""
    grid = subject.stacks[0].grid
    half, spacing = subject.region.half, grid.spacing
    # The region's axes are those of the reference stack, possibly mirrored or permuted.
    if abs(subject.region.pose.matrix[0, :3] @ grid.affine.axes[:, 0]) < 0.5:
        half = half[[1, 0, 2]]
    step = np.maximum(1, np.round(2 * half[:2] / across / spacing[:2])).astype(int)
    reach = half[:2] / spacing[:2]
    middle = grid.affine.inverse(subject.region.centre())[:2]
    low = np.maximum(0, np.ceil(middle - reach)).astype(int)
    high = np.minimum(np.array(grid.shape[:2]) - 1, np.floor(middle + reach)).astype(int)
    if (high < low).any():
        return None
    count = (high - low) // step + 1
    affine = Affine(grid.affine.matrix @ np.diag([*map(float, step), 1.0, 1.0])).matrix.copy()
    affine[:3, 3] = grid.affine(np.array([*map(float, low), 0.0]))
    edge = np.zeros(tuple(count), dtype=bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    size = (int(count[0]), int(count[1]))
    own = Grid((*size, grid.shape[2]), Affine(affine), grid.times)
    return Places((int(low[0]), int(low[1])), (int(step[0]), int(step[1])), size, own, edge)


def detail(slices: Sequence[Slice], places: Places) -> float:
    """Length over which images change, mm: ratio of first to second differences of neighbouring pixels.

    About a pixel in a sharp image, less in noise, and the width of the blur in a blurred image. Independent
    of brightness and contrast.

    Args:
        slices: slices of one frame.
        places: define the window; all its pixels are used.
    """
    first, second = 0.0, 0.0
    for item, (steps, bends) in zip(slices, _differences(slices, places), strict=True):
        first += float(steps @ item.affine.spacing[:2])
        second += float(bends.sum())
    return first / second if first and second else float("nan")


def _differences(slices: Sequence[Slice], places: Places) -> Float[np.ndarray, "n 2 2"]:
    """Mean absolute first and second differences of neighbouring pixels along both axes of each slice.

    0 along an axis that is too short.
    """
    out = np.zeros((len(slices), 2, 2))
    for found, item in zip(out, slices, strict=True):
        window = item.image[places.window][..., 0].astype(np.float64)
        for order, axis in product((0, 1), (0, 1)):
            if window.shape[axis] > order + 1:
                found[order, axis] = np.abs(np.diff(window, n=order + 1, axis=axis)).mean()
    return out


def stripes(slices: Sequence[Slice], places: Places) -> float:
    """Deviation of the mean of a row from those of its two neighbours, in standard deviations of the image.

    The larger value of both directions of the image. Rows of a measured image hardly differ from their
    neighbours. Missing, repeated or misplaced rows do, which a network on coarser pixels may not see.

    Args:
        slices: slices of one frame.
        places: define the window; all its pixels are used.
    """
    bend, spread = np.zeros(2), 0.0
    for item in slices:
        window = item.image[places.window][..., 0].astype(np.float64)
        spread += float(window.std())
        for axis in (0, 1):
            row = window.mean(1 - axis)
            if len(row) > 2:
                bend[axis] += np.abs(row[1:-1] - (row[:-2] + row[2:]) / 2).mean()
    return float(bend.max() / spread) if spread > 0 else float("nan")


def zigzag(slices: Sequence[Slice], places: Places) -> float:
    """How much more regularly neighbouring pixels alternate along one axis of the image than along the other.

    Along an axis it is the ratio of second to first differences: 0.9 to 1.4 in measured images, 1.7 in white
    noise, and 1.8 to 2 where rows have changed places in pairs, so that each step is followed by one back.
    Both axes of measured images and of noise are alike to within 0.2.

    Args:
        slices: slices of one frame.
        places: define the window; all its pixels are used.
    """
    first, second = _differences(slices, places).sum(0)
    long = bool(slices) and min(slices[0].image[places.window].shape[:2]) > 2
    return float(np.ptp(second / first)) if long and first.min() > 0 else float("nan")


def keep_answers(subject: Subject) -> None:
    """Keep the answers that `sample_frame` needs when the subject is rendered on its own grid."""
    places = places_of(subject) if subject.stacks else None
    if places is None:
        return
    kept = places.kept(len(subject.prior.anatomy.labels))
    if 4 * math.prod(kept.shape) * len(places.grid.times) <= KEPT_BYTES:
        subject.island_map.kept = kept


def _answers(
    subject: Subject, places: Places, frame: int
) -> tuple[Float[np.ndarray, "x y z"], Float[np.ndarray, "x y z k"]]:
    """The field's own answers as slices show them: intensity averaged over channels, and probabilities."""
    grid, kept = places.grid, subject.island_map.kept
    if kept is not None and frame in kept.frames and kept == places.kept(kept.shape[3]):
        return kept.frames[frame]
    time, points = float(grid.times[frame]), grid.points()
    answers = subject.as_measured(subject.island_map.answers, 0)
    own = [answers.on_slice(k) for k in range(grid.shape[2])]
    intensity = np.zeros(grid.shape, dtype=np.float32)
    probability = np.zeros((*grid.shape, answers.classes), dtype=np.float32)
    for answerer in dict.fromkeys(own):
        slices = [k for k, other in enumerate(own) if other is answerer]
        place = points[:, :, slices].reshape(-1, 3)
        answer = answerer.answer(place, np.full(len(place), time), memory_mb=MEMORY_MB)
        shape = (*grid.shape[:2], len(slices))
        intensity[:, :, slices] = answer.intensity.mean(-1).reshape(shape)
        probability[:, :, slices] = answer.probability.reshape(*shape, -1)
    return intensity, probability


def sample_frame(subject: Subject, case: Case, frame: int, places: Places) -> FrameSample:
    """Query a subject where a frame of its reference stack was measured.

    Args:
        subject: the segmented case.
        case: its intensities are used, its labels never.
        frame: index into the reference stack's times.
        places: from `places_of`.
    """
    grid, stack = places.grid, case.stacks[0]
    predicted, probability = _answers(subject, places, frame)
    raw = probability.argmax(-1).astype(np.uint8)
    label, classes = raw.copy(), probability.shape[-1]
    if subject.islands != "keep":
        flat = probability.reshape(-1, classes)
        barred = bar_islands(raw, classes, lambda index: flat[index], subject.section_rules)
        left = without(flat[barred.index], barred.structures)
        label.reshape(-1)[barred.index] = left.argmax(1)
    measured = np.full((3, *grid.shape), np.nan, dtype=np.float32)
    slices = [s for s in case.slices if s.stack == 0 and s.frame == frame]
    for item in slices:
        image = stack.normalise(item.image).mean(-1)
        for out, shift in zip(measured, ((0, 0), (1, 0), (0, 1)), strict=True):
            out[:, :, item.position] = places.of_image(image, shift)
    return FrameSample(
        grid.spacing,
        measured[0],
        measured[1:],
        predicted,
        probability,
        raw,
        label,
        places.edge,
        detail(slices, places),
        stripes(slices, places),
        zigzag(slices, places),
        subject.signature(float(grid.times[frame])),
    )
