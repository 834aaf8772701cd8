"""Answers at points, answers on a grid, and how the former fill the latter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.data.scratch import by_frame, fits_into_files, let_go, room
from nisf.device import require_bytes


@dataclass(frozen=True, eq=False)
class Answer:
    """The field's answers at n points.

    Attributes:
        intensity: in [0, 1] (n, c); 0 outside the region.
        probability: probability of each class (n, k); background outside the region.
        inside: which points lie in the region (n,).
        deviation: standard deviation of each probability over draws (n, k); None for a single answer.
    """

    intensity: Float[np.ndarray, "n c"]
    probability: Float[np.ndarray, "n k"]
    inside: Bool[np.ndarray, "n"]
    deviation: Float[np.ndarray, "n k"] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Rendering:
    """A subject evaluated on a grid.

    Attributes:
        grid: positions and times.
        image: intensities on the input's scale (x, y, z, t, c), float32; 0 outside the region.
        label: class index (x, y, z, t), uint8; background outside the region.
        probability: per class (x, y, z, t, k), float32, or None if not requested.
        deviation: standard deviation of each probability over draws, or None.
    """

    grid: Grid
    image: Float[np.ndarray, "x y z t c"]
    label: np.ndarray
    probability: Float[np.ndarray, "x y z t k"] | None = None
    deviation: Float[np.ndarray, "x y z t k"] | None = None

    def __repr__(self) -> str:
        more = [name for name in ("probability", "deviation") if getattr(self, name) is not None]
        with_ = f", with {' and '.join(more)}" if more else ""
        return f"<Rendering {' x '.join(map(str, self.label.shape))}{with_}>"


def empty_rendering(
    grid: Grid, channels: int, classes: int, *, probabilities: bool, deviations: bool
) -> Rendering:
    """A rendering with arrays that are still to be filled.

    Raises:
        CannotFitError: there is not enough memory for them.
    """
    shape = (*grid.shape, len(grid.times))
    per_voxel = 4 * channels + 1 + 4 * classes * (probabilities + deviations)
    nbytes = math.prod(shape) * per_voxel
    if not fits_into_files(nbytes):
        require_bytes(nbytes, f"an answer of {' x '.join(map(str, shape))} voxels")
    deviation = room((*shape, classes), np.float32) if deviations else None
    if deviation is not None:
        for _, frame in by_frame(deviation):
            frame[...] = 0
    return Rendering(
        grid,
        room((*shape, channels), np.float32),
        room(shape, np.uint8),
        room((*shape, classes), np.float32) if probabilities else None,
        deviation,
    )


def on_scale(answer: Answer, stack: Stack | None) -> Float[np.ndarray, "n c"]:
    """Intensities on the scale of a stack's file, in [0, 1] without one; 0 outside the region."""
    if stack is None:
        return answer.intensity
    out = np.zeros_like(answer.intensity)
    out[answer.inside] = stack.denormalise(answer.intensity[answer.inside])
    return out


def likeliest(probability: Float[np.ndarray, "m k"]) -> UInt8[np.ndarray, "m"]:
    """The class with the largest probability, the first of equals; faster than argmax for few classes."""
    best, label = probability[:, 0].copy(), np.zeros(len(probability), dtype=np.uint8)
    for k in range(1, probability.shape[1]):
        larger = probability[:, k] > best
        label[larger] = k
        np.maximum(best, probability[:, k], out=best)
    return label


@dataclass(frozen=True)
class Kept:
    """Answers at every few pixels of a grid, kept while it is rendered; outside the region background.

    Attributes:
        first: index of the first pixel along x and y.
        step: along x and y.
        shape: numbers of pixels along x and y, of slices, and of classes.
        frames: intensity (x, y, z) in [0, 1], averaged over channels, and probability (x, y, z, k) of each
            frame, by its index.
    """

    first: tuple[int, int]
    step: tuple[int, int]
    shape: tuple[int, int, int, int]
    frames: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, compare=False)

    def put(
        self,
        t: int,
        voxels: tuple[np.ndarray, np.ndarray, np.ndarray],
        probability: Float[np.ndarray, "m q"],
        intensity: Float[np.ndarray, "m c"] | None = None,
    ) -> None:
        """Keep the answers for those of some voxels that are chosen; without intensities, these stay."""
        chosen, at = np.ones(len(probability), dtype=bool), []
        for axis, index in enumerate(voxels[:2]):
            place, between = np.divmod(index - self.first[axis], self.step[axis])
            chosen &= (between == 0) & (place >= 0) & (place < self.shape[axis])
            at.append(place)
        values, chances = self._frame(t)
        rows = np.flatnonzero(chosen)
        wanted = at[0][rows], at[1][rows], voxels[2][rows]
        chances[wanted] = probability[rows]
        if intensity is not None:
            values[wanted] = intensity[rows].mean(-1)

    def clear(self, t: int, k: int) -> None:
        """Set slice ``k`` to background with intensity 0."""
        values, chances = self._frame(t)
        values[:, :, k], chances[:, :, k], chances[:, :, k, 0] = 0, 0, 1

    def _frame(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        if t not in self.frames:
            chances = np.zeros(self.shape, dtype=np.float32)
            chances[..., 0] = 1
            self.frames[t] = np.zeros(self.shape[:3], dtype=np.float32), chances
        return self.frames[t]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a rendering, to be filled.

    Attributes:
        rendering: contains the arrays.
        t: index of the frame.
        stack: defines the intensity scale; None leaves [0, 1].
        kept: also receives the answers; None if nothing does.
    """

    rendering: Rendering
    t: int
    stack: Stack | None
    kept: Kept | None = None

    @property
    def label(self) -> np.ndarray:
        """Class of each voxel (x, y, z), uint8."""
        return self.rendering.label[..., self.t]

    def let_go(self) -> None:
        """Release the frame's pages if the rendering is in files; call when the frame is filled."""
        out = self.rendering
        for values in (out.image, out.label, out.probability, out.deviation):
            if values is not None:
                let_go(values)

    def put(self, part: slice, k: int, answer: Answer) -> None:
        """Write the answers of some rows of slice ``k``."""
        out, t = self.rendering, self.t
        shape = self.label[part, :, k].shape
        out.image[part, :, k, t] = on_scale(answer, self.stack).reshape(*shape, out.image.shape[-1])
        out.label[part, :, k, t] = likeliest(answer.probability).reshape(shape)
        if out.probability is not None:
            out.probability[part, :, k, t] = answer.probability.reshape(*shape, -1)
        if out.deviation is not None and answer.deviation is not None:
            out.deviation[part, :, k, t] = answer.deviation.reshape(*shape, -1)
        if self.kept is not None:
            x, y = np.divmod(np.arange(len(answer.intensity)), shape[1])
            voxels = x + part.start, y, np.full(len(x), k)
            self.kept.put(t, voxels, answer.probability, answer.intensity)

    def clear(self, k: int) -> None:
        """Set slice ``k`` to background with intensity 0."""
        out, t = self.rendering, self.t
        out.image[:, :, k, t], out.label[:, :, k, t] = 0, 0
        for values in (out.probability, out.deviation):
            if values is not None:
                values[:, :, k, t] = 0
        if out.probability is not None:
            out.probability[:, :, k, t, 0] = 1
        if self.kept is not None:
            self.kept.clear(t, k)

    def put_at(
        self,
        flat: Int[np.ndarray, "m"],
        k: int,
        intensity: Float[np.ndarray, "m c"],
        probability: Float[np.ndarray, "m q"],
    ) -> None:
        """Write the answers of some pixels of slice ``k``, by their flat indices in it."""
        out, t = self.rendering, self.t
        x, y = np.divmod(flat, out.label.shape[1])
        out.image[x, y, k, t] = intensity if self.stack is None else self.stack.denormalise(intensity)
        out.label[x, y, k, t] = likeliest(probability)
        if out.probability is not None:
            out.probability[x, y, k, t] = probability
        if self.kept is not None:
            self.kept.put(t, (x, y, np.full(len(x), k)), probability, intensity)

    def relabel(self, flat: Int[np.ndarray, "m"], probability: Float[np.ndarray, "m k"]) -> None:
        """Replace the classes of some voxels, by their flat indices."""
        x, y, z = np.unravel_index(flat, self.rendering.grid.shape)
        self.label[x, y, z] = likeliest(probability)
        if self.rendering.probability is not None:
            self.rendering.probability[x, y, z, self.t] = probability
        if self.kept is not None:
            self.kept.put(self.t, (x, y, z), probability)
