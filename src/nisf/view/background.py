"""Background work of the viewer: islands at every measured phase, and the volumes that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from nisf.errors import sentence
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Frame, empty_rendering
from nisf.subject.subject import Subject
from nisf.types import Vector3
from nisf.view.worker import Step, Work

MEMORY_MB = 256.0


class Background:
    """Islands and volumes of one subject, phase by phase, starting with the phase on display.

    Args:
        subject: its reference stack is filled.
        answers: its answers before islands are removed.

    Attributes:
        problem: why the work could not be done, in one sentence; islands then stay. None if nothing failed.
    """

    def __init__(self, subject: Subject, answers: Answerer) -> None:
        self.subject, self.answers = subject, answers
        self.grid = subject.stacks[0].grid if subject.stacks else None
        self.removes = subject.islands == "remove" and self.grid is not None
        count = 0 if self.grid is None else len(self.grid.times)
        self.volumes: list[list[float] | None] = [None] * count
        self.problem: str | None = None
        self._wished = 0
        self._labels: dict[int, np.ndarray] = {}
        self._places: list[np.ndarray] = []

    def _frame(self, time: float) -> int:
        assert self.grid is not None
        return self.grid.nearest_frame(time)

    def wish(self, time: float) -> None:
        """Give priority to the phase at this time."""
        if self.grid is not None:
            self._wished = self._frame(time)

    def known(self, time: float) -> bool:
        """Whether the islands at a time are known, or islands are not removed."""
        return not self.removes or self.subject.island_map.known(time)

    def without_islands(
        self, probability: Float[np.ndarray, "n k"], position: Float[np.ndarray, "n 3"], time: float
    ) -> Float[np.ndarray, "n k"]:
        """Class probabilities at some points with islands removed, which are found now if not yet `known`."""
        if not self.removes:
            return probability
        times = np.full(len(position), time)
        return self.subject.island_map.remove(position, times, probability, memory_mb=MEMORY_MB)

    def work(self) -> Work:
        """Fill every phase; one step does one slice."""
        try:
            while not self.problem and (frame := self._next()) is not None:
                yield from self._fill(frame)
        except Exception as error:  # planes wait for the islands, and must not wait forever
            self.problem = sentence(error)
            self.removes = False
        yield Step.WORKED

    def _next(self) -> int | None:
        """The phase to fill next: the one on display, or the next one after it that is not filled."""
        count = len(self.volumes)
        order = [(self._wished + shift) % count for shift in range(count)]
        return next((frame for frame in order if self.volumes[frame] is None), None)

    def _fill(self, frame: int) -> Work:
        subject, grid = self.subject, self.grid
        assert grid is not None
        time, answers = float(grid.times[frame]), self.answers
        rendering = empty_rendering(
            grid.at_times([time]), answers.channels, answers.classes, probabilities=False, deviations=False
        )
        target = Frame(rendering, 0, None)
        for k in range(grid.shape[2]):
            answers.fill_slice(target, grid, k, time, memory_mb=MEMORY_MB)
            yield Step.WORKED
        label = target.label
        if self.removes:
            with torch.inference_mode():
                barred = subject.island_map.at(frame, label, memory_mb=MEMORY_MB)
            yield Step.WORKED
            self._relabel(target, barred.index, time)
        found = np.argwhere(label > 0)
        if len(found):
            model = subject.region.pose(grid.affine(found))
            self._places += [model.min(0), model.max(0)]
        self._labels[frame] = label
        counts = np.bincount(label.ravel(), minlength=answers.classes)
        self.volumes[frame] = [round(float(n) * grid.voxel_ml, 3) for n in counts[1:]]
        yield Step.WORKED

    def _relabel(self, target: Frame, index: Int[np.ndarray, "m"], time: float) -> None:
        """Replace the classes of barred voxels by their most probable remaining class."""
        assert self.grid is not None
        with torch.inference_mode():
            answer = self.subject.answers.answer(
                self.grid.points_at(index), np.full(len(index), time), memory_mb=MEMORY_MB
            )
        target.relabel(index, answer.probability)

    def labels(self) -> UInt8[np.ndarray, "x y z t"]:
        """The segmentation on the reference stack, after every phase is filled."""
        return np.stack([self._labels[frame] for frame in range(len(self.volumes))], axis=-1)

    def extent(self) -> tuple[Vector3, Vector3] | None:
        """Smallest and largest model coordinates of all structures at the phases filled so far."""
        if not self._places:
            return None
        return np.min(self._places, axis=0), np.max(self._places, axis=0)

    def curves(self) -> dict[str, Any]:
        """Volumes (mL) of each structure at the phases filled so far, and finally the named phases.

        Complete if no more will be filled.
        """
        complete = bool(self.problem) or None not in self.volumes
        return {"volumes": self.volumes, "complete": complete, "phases": self._phases()}

    def _phases(self) -> dict[str, float]:
        """Times of the named phases, at which the anatomy's structure is largest and smallest."""
        anatomy = self.subject.prior.anatomy
        named = anatomy.phases
        done = [entry for entry in self.volumes if entry is not None]
        if named is None or self.grid is None or len(done) < max(2, len(self.volumes)):
            return {}
        if named.get("by") not in anatomy.labels:
            return {}
        curve = [entry[anatomy.labels.index(named["by"]) - 1] for entry in done]
        found = {"largest": int(np.argmax(curve)), "smallest": int(np.argmin(curve))}
        return {named[what]: float(self.grid.times[k]) for what, k in found.items() if what in named}
