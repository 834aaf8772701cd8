"""Answerers: a kind's own answers in its region, and wrappers that change them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from typing_extensions import override

from nisf.chunks import positions_at_a_time
from nisf.config.schema import FieldConfig
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.device import Arriving
from nisf.subject.rendering import Answer, Frame

Inside = Callable[
    [Float[np.ndarray, "n 3"], Float[np.ndarray, "n"], float],
    tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"], Float[np.ndarray, "n k"] | None],
]
"""Returns intensity in [0, 1], class probabilities and optionally their standard deviations, from points
inside the region in units of its half size, times as fractions of the cycle, and working memory in MiB."""

AskedAgain = Callable[[float], Arriving]
"""Begins to compute the intensity in [0, 1] and class probabilities of fixed points at a time."""

Again = Callable[[Float[np.ndarray, "n 3"], float], AskedAgain]
"""Makes such a function for points in units of the region's half size, given working memory in MiB."""


PLACE_BYTES = 100
"""Bytes kept for a fixed point: its three nearest slices, its positions on them, and weights."""


class Answerer(ABC):
    """Gives answers at points in world mm and times.

    Answerers that change answers wrap the one whose answers they change.

    Args:
        channels: number of intensity channels.
        classes: number of classes, background included.
    """

    def __init__(self, channels: int, classes: int) -> None:
        self.channels, self.classes = channels, classes

    @abstractmethod
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        """Intensities and class probabilities.

        Args:
            position: world mm.
            time: fraction of the cycle.
            memory_mb: working memory besides the result, MiB.
        """

    def on_slice(self, k: int) -> Answerer:  # noqa: ARG002
        """What answers on slice ``k`` of the measured stack; see `nisf.subject.in_line.SliceBySlice`."""
        return self

    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        """Answer on the whole grid at one time.

        Args:
            frame: receives the answers.
            grid: the grid.
            time: fraction of the cycle.
            memory_mb: working memory, MiB.
        """
        for k in range(grid.shape[2]):
            self.fill_slice(frame, grid, k, time, memory_mb=memory_mb)

    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        """Answer on one slice of the grid, in chunks of rows; arguments as for `fill`."""
        nx, ny, _ = grid.shape
        rows = max(1, positions_at_a_time(memory_mb) // ny)
        for first in range(0, nx, rows):
            part = slice(first, min(first + rows, nx))
            position = grid.points_of_slice(k, part)
            answer = self.answer(position, np.full(len(position), time), memory_mb=memory_mb)
            frame.put(part, k, answer)


def _within_box(scaled: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "m"]:
    """Indices of the points in a region, given its coordinates; five times as fast as ``all(axis=1)``."""
    inside = np.abs(scaled) <= 1.0
    return np.flatnonzero(inside[:, 0] & inside[:, 1] & inside[:, 2])


@dataclass(frozen=True, eq=False)
class _Places:
    """Points of a frame that are queried together.

    Attributes:
        slices: for each part of a slice, its index, the points' flat indices in it, and the answer's rows.
        at: queries the points at a time.
    """

    slices: list[tuple[int, Int[np.ndarray, "m"], slice]]
    at: AskedAgain


class InRegion(Answerer):
    """A kind's own answers inside the region; outside, background with intensity 0.

    Args:
        region: the region in which the field gives answers.
        config: numbers of channels and classes.
        ask: queries the field.
        again: queries the field faster at fixed points at one time after another, if available.
        whole_frames: whether ``again`` is asked for all slices of a frame together.
    """

    def __init__(
        self,
        region: Region,
        config: FieldConfig,
        ask: Inside,
        again: Again | None = None,
        whole_frames: bool = False,
    ) -> None:
        super().__init__(config.channels, config.classes)
        self.region, self.ask, self.again, self.whole_frames = region, ask, again, whole_frames
        # Kept together for one grid: several threads may query different grids.
        self._known: tuple[Grid | None, dict[int, list[tuple[np.ndarray, AskedAgain]]]] = (None, {})
        self._frame: tuple[Grid | None, list[_Places]] = (None, [])
        self._lock = threading.Lock()

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        n = len(position)
        intensity = np.zeros((n, self.channels), dtype=np.float32)
        probability = np.zeros((n, self.classes), dtype=np.float32)
        probability[:, 0] = 1.0
        within, deviation = np.zeros(n, dtype=bool), None
        step = positions_at_a_time(memory_mb)
        for first in range(0, n, step):
            part = slice(first, first + step)
            scaled = self.region.coordinates(position[part])
            inside = _within_box(scaled)
            if not len(inside):
                continue
            # Copying all points one by one would take as long as moving them into the region.
            every = len(inside) == len(scaled)
            rows, chosen = (slice(None), part) if every else (inside, first + inside)
            values, probabilities, spread = self.ask(scaled[rows], time[part][rows], memory_mb / 2)
            intensity[chosen], probability[chosen], within[chosen] = values, probabilities, True
            if spread is not None:
                deviation = np.zeros_like(probability) if deviation is None else deviation
                deviation[chosen] = spread
        return Answer(intensity, probability, within, deviation)

    @override
    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        if self.again is None or not self.whole_frames:
            super().fill(frame, grid, time, memory_mb=memory_mb)
            return
        begun = [(part, part.at(time)) for part in self._places(self.again, grid, memory_mb)]
        for k in range(grid.shape[2]):
            frame.clear(k)
        for part, arriving in begun:
            intensity, probability = arriving()
            for k, index, rows in part.slices:
                frame.put_at(index, k, intensity[rows], probability[rows])

    def _places(self, again: Again, grid: Grid, memory_mb: float) -> list[_Places]:
        """The points of a frame inside the region, in parts; cached, because frames share them."""
        with self._lock:
            if self._frame[0] is grid:
                return self._frame[1]
            most, found, count = positions_at_a_time(memory_mb), [], 0
            slices: list[tuple[int, np.ndarray, slice]] = []
            scaled: list[np.ndarray] = []
            for k in range(grid.shape[2]):
                for index, inside in self._inside(grid, k, memory_mb):
                    slices.append((k, index, slice(count, count + len(index))))
                    scaled.append(inside)
                    count += len(index)
                if count and (count >= most or k == grid.shape[2] - 1):
                    found.append(_Places(slices, again(np.concatenate(scaled), memory_mb / 2)))
                    slices, scaled, count = [], [], 0
            total = sum(len(index) for part in found for _, index, _ in part.slices)
            if len(grid.times) > 1 and total * PLACE_BYTES < memory_mb * 2**20 / 2:
                self._frame = (grid, found)
            return found

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        if self.again is None:
            super().fill_slice(frame, grid, k, time, memory_mb=memory_mb)
            return
        frame.clear(k)
        for index, at in self._asked_again(self.again, grid, k, memory_mb):
            frame.put_at(index, k, *at(time)())

    def _asked_again(
        self, again: Again, grid: Grid, k: int, memory_mb: float
    ) -> list[tuple[np.ndarray, AskedAgain]]:
        """The points of a slice inside the region, with flat indices; cached, because frames share them."""
        known = self._known
        if known[0] is not grid:
            known = self._known = (grid, {})
        slices = known[1]
        if k in slices:
            return slices[k]
        found = [(index, again(scaled, memory_mb / 2)) for index, scaled in self._inside(grid, k, memory_mb)]
        kept = sum(len(inside) for places in list(slices.values()) for inside, _ in places)
        if len(grid.times) > 1 and kept * PLACE_BYTES < memory_mb * 2**20 / 2:
            slices[k] = found
        return found

    def _inside(self, grid: Grid, k: int, memory_mb: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Flat indices of the points of a slice inside the region, in chunks, and the scaled points."""
        nx, ny, _ = grid.shape
        step = max(1, positions_at_a_time(memory_mb) // ny)
        for first in range(0, nx, step):
            scaled = self.region.coordinates(grid.points_of_slice(k, slice(first, first + step)))
            inside = _within_box(scaled)
            if len(inside):
                yield inside + first * ny, scaled[inside]


class WithinBounds(Answerer):
    """Answers within bounds along the axes of a stack; background beyond.

    Args:
        raw: the answerer to wrap.
        affine: affine of the stack, voxel to world, mm.
        bounds: first and last voxel coordinate along each axis; see `nisf.data.case.Stack.bounds`.
    """

    def __init__(self, raw: Answerer, affine: Affine, bounds: Float[np.ndarray, "3 2"]) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.affine, self.bounds = raw, affine, bounds

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        low, high = self.bounds.T
        whole = (low[:2] <= 0).all() and (high[:2] >= np.array(grid.shape[:2]) - 1).all()
        if not whole or not np.array_equal(grid.affine.matrix, self.affine.matrix):
            super().fill_slice(frame, grid, k, time, memory_mb=memory_mb)
        elif low[2] <= k <= high[2]:
            self.raw.fill_slice(frame, grid, k, time, memory_mb=memory_mb)
        else:
            frame.clear(k)

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        voxel, (low, high) = self.affine.inverse(position), self.bounds.T
        beyond = ((voxel < low) | (voxel > high)).any(-1)
        answer = self.raw.answer(position, time, memory_mb=memory_mb)
        probability, intensity = answer.probability.copy(), answer.intensity.copy()
        probability[beyond], intensity[beyond] = 0.0, 0.0
        probability[beyond, 0] = 1.0
        deviation = None if answer.deviation is None else answer.deviation.copy()
        if deviation is not None:
            deviation[beyond] = 0.0
        return Answer(intensity, probability, answer.inside & ~beyond, deviation)
