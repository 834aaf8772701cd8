"""Answerers: a kind's own answers in its region, and wrappers that change them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nisf.chunks import positions_at_a_time
from nisf.config.schema import FieldConfig
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.subject.rendering import Answer, Frame

Inside = Callable[
    [Float[np.ndarray, "n 3"], Float[np.ndarray, "n"], float],
    tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"], Float[np.ndarray, "n k"] | None],
]
"""Returns intensity in [0, 1], class probabilities and optionally their standard deviations, from points
inside the region in units of its half size, times as fractions of the cycle, and working memory in MiB."""

AskedAgain = Callable[[float], tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]]
"""Returns intensity in [0, 1] and class probabilities of fixed points at a time."""

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


class InRegion(Answerer):
    """A kind's own answers inside the region; outside, background with intensity 0.

    Args:
        region: the region in which the field gives answers.
        config: numbers of channels and classes.
        ask: queries the field.
        again: queries the field faster at fixed points at one time after another, if available.
    """

    def __init__(self, region: Region, config: FieldConfig, ask: Inside, again: Again | None = None) -> None:
        super().__init__(config.channels, config.classes)
        self.region, self.ask, self.again = region, ask, again
        # Kept together for one grid: several threads may query different grids.
        self._known: tuple[Grid | None, dict[int, list[tuple[np.ndarray, AskedAgain]]]] = (None, {})

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
            inside = np.flatnonzero((np.abs(scaled) <= 1.0).all(axis=1))
            if not len(inside):
                continue
            values, probabilities, spread = self.ask(scaled[inside], time[part][inside], memory_mb / 2)
            chosen = first + inside
            intensity[chosen], probability[chosen], within[chosen] = values, probabilities, True
            if spread is not None:
                deviation = np.zeros_like(probability) if deviation is None else deviation
                deviation[chosen] = spread
        return Answer(intensity, probability, within, deviation)

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        if self.again is None:
            super().fill_slice(frame, grid, k, time, memory_mb=memory_mb)
            return
        frame.clear(k)
        for index, at in self._asked_again(self.again, grid, k, memory_mb):
            frame.put_at(index, k, *at(time))

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
        nx, ny, _ = grid.shape
        found = []
        step = max(1, positions_at_a_time(memory_mb) // ny)
        for first in range(0, nx, step):
            scaled = self.region.coordinates(grid.points_of_slice(k, slice(first, first + step)))
            inside = np.flatnonzero((np.abs(scaled) <= 1.0).all(axis=1))
            if len(inside):
                found.append((inside + first * ny, again(scaled[inside], memory_mb / 2)))
        kept = sum(len(inside) for places in list(slices.values()) for inside, _ in places)
        if len(grid.times) > 1 and kept * PLACE_BYTES < memory_mb * 2**20 / 2:
            slices[k] = found
        return found


class WithinBounds(Answerer):
    """Answers within bounds along the axes of a stack; background beyond.

    Args:
        raw: the answerer to wrap.
        affine: of the stack, voxel to world, mm.
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
