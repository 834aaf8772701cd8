"""Answers on a stack's own grid, whose slices show tissue that breathing has shifted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nisf.alignment import Shift
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer, Frame


class AtShift(Answerer):
    """Someone's answers as slices show them that are shifted in their plane.

    Args:
        raw: whose answers.
        shift: world mm (3,): what is seen at a place is the tissue at that place minus the shift.
    """

    def __init__(self, raw: Answerer, shift: Float[np.ndarray, "3"]) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.shift = raw, shift

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        return self.raw.answer(position - self.shift, time, memory_mb=memory_mb)


class ShiftedSlices(Answerer):
    """Someone's answers on a stack's own grid, each slice as it was measured.

    Args:
        raw: whose answers.
        shifts: of this stack's slices.
        stack: whose grid will be asked for.
    """

    def __init__(self, raw: Answerer, shifts: Sequence[Shift], stack: Stack) -> None:
        super().__init__(raw.channels, raw.classes)
        axes = stack.grid.affine.axes[:, :2]
        self.raw = raw
        self.slices = {shift.position: AtShift(raw, axes @ np.array(shift.mm)) for shift in shifts}

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        return self.raw.answer(position, time, memory_mb=memory_mb)

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        answers = self.slices.get(k, self.raw)
        answers.fill_slice(frame, grid, k, time, memory_mb=memory_mb)
