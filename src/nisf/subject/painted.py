"""Strokes as drawn: points that they cover get the classes that they mark, whatever the field answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from typing_extensions import override

from nisf.correction.stroke import Stroke
from nisf.data.geometry import Grid
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer, Frame


class Painted(Answerer):
    """Answers with strokes painted over them; later strokes win.

    Args:
        raw: the answerer to wrap.
        strokes: to paint.
        labels: names of the classes.
    """

    def __init__(self, raw: Answerer, strokes: Sequence[Stroke], labels: Sequence[str]) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw = raw
        self.strokes = [(stroke, labels.index(stroke.label)) for stroke in strokes]

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        answer = self.raw.answer(position, time, memory_mb=memory_mb)
        return replace(answer, probability=self.painted(position, time, answer.probability))

    def painted(
        self,
        position: Float[np.ndarray, "n 3"],
        time: Float[np.ndarray, "n"],
        probability: Float[np.ndarray, "n k"],
    ) -> Float[np.ndarray, "n k"]:
        """Class probabilities with the strokes; the same array object if none covers a point."""
        out = probability
        for stroke, label in self.strokes:
            open_ = np.flatnonzero(stroke.lasts(time))
            covered = open_[stroke.covers(position[open_])] if len(open_) else open_
            if len(covered):
                out = out.copy() if out is probability else out
                out[covered] = said(out[covered], label, present=stroke.present)
        return out

    @override
    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        self.raw.fill(frame, grid, time, memory_mb=memory_mb)
        self._paint(frame, grid, time, None, memory_mb)

    @override
    def fill_slice(self, frame: Frame, grid: Grid, k: int, time: float, *, memory_mb: float) -> None:
        self.raw.fill_slice(frame, grid, k, time, memory_mb=memory_mb)
        self._paint(frame, grid, time, k, memory_mb)

    def _paint(self, frame: Frame, grid: Grid, time: float, k: int | None, memory_mb: float) -> None:
        """Paint a frame that has been filled, or one slice of it."""
        now = [stroke.voxels(grid) for stroke, _ in self.strokes if stroke.lasts_at(time)]
        if not now:
            return
        index = np.unique(np.concatenate(now))
        if k is not None:
            index = index[np.mod(index, grid.shape[2]) == k]
        if len(index):
            answer = self.answer(grid.points_at(index), np.full(len(index), time), memory_mb=memory_mb)
            frame.relabel(index, answer.probability)


def said(probability: Float[np.ndarray, "m k"], label: int, *, present: bool) -> Float[np.ndarray, "m k"]:
    """Class probabilities where a person has marked a class as present or absent.

    Args:
        probability: before.
        label: the class.
        present: whether it is present. If not, its probability is divided among the other classes; if these
            had none, the next most probable class or the background gets it.
    """
    out = np.zeros_like(probability)
    if present:
        out[:, label] = 1.0
        return out
    out[:] = probability
    out[:, label] = 0.0
    total = out.sum(1, keepdims=True)
    nothing = total[:, 0] <= 0
    out[nothing, 1 if label == 0 else 0] = 1.0
    return (out / np.where(nothing[:, None], 1.0, total)).astype(probability.dtype)


def painted_voxels(
    strokes: Sequence[Stroke], labels: Sequence[str], grid: Grid, time: float
) -> Bool[np.ndarray, "x y z k"] | None:
    """Voxels of a grid that strokes mark as belonging to a class; None if there are none at this time.

    A voxel counts if it contains any part of a stroke, even if its centre is not covered.
    """
    out = None
    for stroke in strokes:
        if not stroke.present or not stroke.lasts_at(time):
            continue
        out = np.zeros((*grid.shape, len(labels)), dtype=bool) if out is None else out
        voxel = np.round(grid.affine.inverse(stroke.along(0.5, 4_000))).astype(int)
        voxel = voxel[((voxel >= 0) & (voxel < np.array(grid.shape))).all(1)]
        out[(*voxel.T, labels.index(stroke.label))] = True
        out.reshape(-1, len(labels))[stroke.voxels(grid), labels.index(stroke.label)] = True
    return out
