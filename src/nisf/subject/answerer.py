"""Who answers for places and times: a kind's own answers in its region, and what wraps them."""

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
"""Intensity in [0, 1], class probabilities and perhaps their deviations inside the region, from places in
units of the region's half size, times as fractions of the cycle, and working memory in MiB."""

AskedAgain = Callable[[float], tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]]
"""Intensity in [0, 1] and class probabilities of places that are known already, from a time."""

Again = Callable[[Float[np.ndarray, "n 3"], float], AskedAgain]
"""Makes that of places in units of the region's half size, and working memory in MiB."""


PLACE_BYTES = 100
"""A place that is asked again is kept with its three nearest slices, where it lies on them, and weights."""


class Answerer(ABC):
    """Answers for places in world mm and times.

    Those that change answers hold the one whose answers they change, and need not know who asks.

    Args:
        channels: of the intensity.
        classes: background included.
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
            memory_mb: working memory beside the result, MiB.
        """

    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        """Answer on the whole grid at one time.

        Args:
            frame: receives the answers.
            grid: where.
            time: fraction of the cycle.
            memory_mb: working memory, MiB.
        """
        for k in range(grid.shape[2]):
            self.fill_slice(frame, grid, k, time, memory_mb=memory_mb)

    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        """Answer on one slice of the grid, some rows at a time; arguments as for `fill`."""
        nx, ny, _ = grid.shape
        rows = max(1, positions_at_a_time(memory_mb) // ny)
        for first in range(0, nx, rows):
            part = slice(first, min(first + rows, nx))
            position = grid.points_of_slice(k, part)
            answer = self.answer(position, np.full(len(position), time), memory_mb=memory_mb)
            frame.put(part, k, answer)


class InRegion(Answerer):
    """A kind's own answers inside the region; outside there is background of intensity 0.

    Args:
        region: where the field answers.
        config: numbers of channels and classes.
        ask: the field.
        again: the field, where it is quicker to ask the same places at one time after the other.
    """

    def __init__(self, region: Region, config: FieldConfig, ask: Inside, again: Again | None = None) -> None:
        super().__init__(config.channels, config.classes)
        self.region, self.ask, self.again = region, ask, again
        # Of one grid, both together: several threads may ask, and of different grids.
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
        """The places of a slice inside the region, by flat indices in it, as far as its frames share them."""
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


class WithinEnds(Answerer):
    """Someone's answers between the first and the last measured slice; background beyond.

    Args:
        raw: whose answers.
        affine: of the stack, voxel to world, mm.
        ends: first and last measured position along it.
    """

    def __init__(self, raw: Answerer, affine: Affine, ends: tuple[int, int]) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.affine, self.ends = raw, affine, ends

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        if not np.array_equal(grid.affine.matrix, self.affine.matrix):
            super().fill_slice(frame, grid, k, time, memory_mb=memory_mb)
        elif self.ends[0] <= k <= self.ends[1]:
            self.raw.fill_slice(frame, grid, k, time, memory_mb=memory_mb)
        else:
            frame.clear(k)

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        along = self.affine.inverse(position)[:, 2]
        # A slice reaches half way to the next.
        beyond = (along < self.ends[0] - 0.5) | (along > self.ends[1] + 0.5)
        answer = self.raw.answer(position, time, memory_mb=memory_mb)
        probability, intensity = answer.probability.copy(), answer.intensity.copy()
        probability[beyond], intensity[beyond] = 0.0, 0.0
        probability[beyond, 0] = 1.0
        deviation = None if answer.deviation is None else answer.deviation.copy()
        if deviation is not None:
            deviation[beyond] = 0.0
        return Answer(intensity, probability, answer.inside & ~beyond, deviation)
