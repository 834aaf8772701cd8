"""Answers on a stack's own grid, whose slices show tissue that breathing has shifted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer, Frame


class AtShift(Answerer):
    """Someone's answers as slices show them that are shifted in their plane.

    Args:
        raw: whose answers.
        shift_mm: along the image's two axes: what is seen at a place is the tissue at that place minus the
            shift, from which the breath has moved it there.
        stack: whose slices are shifted.
    """

    def __init__(self, raw: Answerer, shift_mm: tuple[float, float], stack: Stack) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.shift = raw, stack.grid.affine.axes[:, :2] @ np.array(shift_mm)

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        return self.raw.answer(position - self.shift, time, memory_mb=memory_mb)


class SliceBySlice(Answerer):
    """Someone's answers on a stack's own grid, where slices may have answers of their own.

    Args:
        raw: whose answers, for all else.
        slices: the answers of slices, by their position along the stack.
    """

    def __init__(self, raw: Answerer, slices: Mapping[int, Answerer]) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.slices = raw, slices

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        return self.raw.answer(position, time, memory_mb=memory_mb)

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        answers = self.slices.get(k, self.raw)
        answers.fill_slice(frame, grid, k, time, memory_mb=memory_mb)
