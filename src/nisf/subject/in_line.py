"""Answers on the grid of a stack whose slices were shifted by breathing."""

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
    """Answers as seen on slices that are shifted in their plane.

    Args:
        raw: the answerer to wrap.
        shift_mm: along the image's two axes: the image at a point shows the tissue at that point minus the
            shift, which breathing has moved there.
        stack: the stack of the slices.
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
    """Answers on a stack's own grid, where some slices have their own answerers.

    Args:
        raw: the answerer for everything else.
        slices: answerers of slices, by position along the stack.
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
    def on_slice(self, k: int) -> Answerer:
        return self.slices.get(k, self.raw)

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        self.on_slice(k).fill_slice(frame, grid, k, time, memory_mb=memory_mb)
