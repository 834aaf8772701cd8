"""A subject in the viewer: the page's requests as jobs for the worker."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from nisf.data.case import Case
from nisf.data.geometry import Grid
from nisf.errors import BadSettingError, CannotFitError
from nisf.measures.case import CaseMeasures
from nisf.subject.rendering import Answer
from nisf.subject.subject import Subject
from nisf.subject.views import box_grid, view_plane
from nisf.view.background import Background
from nisf.view.findings import Findings
from nisf.view.packets import Packet, sheet_bytes
from nisf.view.questions import PlaneQuestion
from nisf.view.refinement import AT_A_TIME, lattice_step, refined
from nisf.view.spread import Spreads
from nisf.view.threads import InThreads
from nisf.view.worker import Step, Urgency, Work

MEMORY_MB = 256.0
SHARP = 3
"""Urgency of a plane whose coarse answer was already given."""
MOST_THREADS = 4
VOLUME_MM = 2.5
"""Spacing of the lattice on which the page finds surfaces."""
VOLUME_STEP = 2
"""How much coarser the lattice is on which structures are located first."""
MOST_VOXELS = 200_000


class Viewed:
    """One subject and its measured case.

    Args:
        subject: to be queried.
        case: its measured slices; None if they are not available.
        missing: why they are not available, in one sentence.
        measures: measures of the subject, if they are known already.
    """

    def __init__(
        self, subject: Subject, case: Case | None, missing: str = "", measures: CaseMeasures | None = None
    ) -> None:
        self.subject = subject.for_many_questions()
        self.case, self.missing = case, missing
        self.answers = InThreads(self.subject.raw_answers, min(MOST_THREADS, torch.get_num_threads()))
        self.background = Background(self.subject, self.answers)
        self.findings = Findings(self.subject, case, self.background, measures)
        self.spreads = Spreads(self.subject, self.background)
        self.channels = self.answers.channels

    def work_ahead(self) -> Work:
        """Background work: islands and volumes, then measures, warning light and bands."""
        yield from self.background.work()
        yield from self.findings.work()

    def asked(self, position: np.ndarray, time: float) -> Float[np.ndarray, "n m"]:
        """Intensities and class probabilities at world positions, before islands are removed (n, c + k)."""
        answer = self._answer(position, time)
        return np.concatenate([answer.intensity, answer.probability], axis=1)

    def _answer(self, position: np.ndarray, time: float) -> Answer:
        return self.answers.answer(position, np.full(len(position), time), memory_mb=MEMORY_MB)

    def plane(self, question: PlaneQuestion) -> Work:
        """Packets of a plane: coarse, sharp, and final once islands are known."""
        self.background.wish(question.time)
        settled = self.background.known(question.time)
        values = np.zeros((0, 0, 0), dtype=np.float32)
        step = lattice_step(question.spacing)

        def ask(pixel: np.ndarray) -> np.ndarray:
            return self.asked(question.positions(pixel), question.time)

        for sheet in refined(ask, question.width, question.height, step, self.channels):
            if sheet is None:
                yield Step.WORKED
                continue
            values = sheet.values
            if settled:
                values = self._without_islands(values, question, sheet.step)
            yield Packet(
                {
                    "level": "sharp" if sheet.sharp else "coarse",
                    "final": settled and sheet.sharp,
                    "width": sheet.values.shape[0],
                    "height": sheet.values.shape[1],
                    "step": sheet.step,
                    "asked": sheet.asked,
                },
                sheet_bytes(values, self.channels),
            )
            # The coarse answers of other views come before the sharp answer of this one.
            yield Urgency(SHARP)
        if settled:
            return
        while not self.background.known(question.time):
            yield Step.WAITS
        values = self._without_islands(values, question, 1)
        header = {"level": "sharp", "final": True, "step": 1}
        size = {"width": question.width, "height": question.height}
        yield Packet({**header, **size}, sheet_bytes(values, self.channels))

    def _without_islands(self, values: np.ndarray, question: PlaneQuestion, step: int) -> np.ndarray:
        """A sheet's answers with islands removed."""
        if not self.background.removes:
            return values
        width, height, _ = values.shape
        axes = np.meshgrid(np.arange(width) * float(step), np.arange(height) * float(step), indexing="ij")
        pixel = np.stack(axes, axis=-1).reshape(-1, 2)
        out = values.reshape(len(pixel), -1).copy()
        out[:, self.channels :] = self.background.without_islands(
            out[:, self.channels :], question.positions(pixel), question.time
        )
        return out.reshape(values.shape)

    def point(self, position: np.ndarray, time: float) -> Work:
        """Answer at a point: intensity on the input's scale, and class probabilities."""
        answer = self._answer(position[None], time)
        value = answer.intensity[0]
        if self.subject.stacks:
            value = self.subject.stacks[0].denormalise(answer.intensity)[0]
        inside = bool(answer.inside[0])
        yield Packet(
            {
                "inside": inside,
                "intensity": [round(float(v), 4) for v in value] if inside else None,
                "probability": [round(float(p), 4) for p in answer.probability[0]],
            }
        )

    def view(self, name: str, time: float) -> Work:
        """The plane of one of the anatomy's views."""
        views = self.subject.prior.anatomy.views
        if name not in views:
            raise BadSettingError(f"view {name[:20]}: the anatomy has no such view")
        with torch.inference_mode():
            grid = view_plane(self.subject, views[name], time=time, memory_mb=MEMORY_MB)
        yield Packet(plane_json(grid))

    def volume(self, time: float) -> Work:
        """Probabilities of all structures in a box around them (uint8), for surfaces."""
        spacing = VOLUME_MM
        while np.prod(2 * self.subject.region.half / spacing) > MOST_VOXELS * VOLUME_STEP**3:
            spacing *= 1.25
        coarse = spacing * VOLUME_STEP
        whole = box_grid(self.subject, (coarse, coarse, coarse))
        values = yield from self._filled(whole, time)
        self._outside(values, whole)
        found = np.argwhere(values[..., self.channels :].argmax(-1) > 0)
        if not len(found):
            raise CannotFitError(f"{self.subject.name}: no structure was found at this time")
        shape = np.array(whole.shape)
        first = (found.min(0) - 1).clip(0)
        last = np.minimum(found.max(0) + 1, shape - 1)
        size = (last - first) * VOLUME_STEP + 1
        affine = whole.affine.shifted(first)
        matrix = affine.matrix.copy()
        matrix[:3, :3] /= VOLUME_STEP
        grid = Grid((int(size[0]), int(size[1]), int(size[2])), type(affine)(matrix))
        fine = yield from self._filled(grid, time)
        self._outside(fine, grid)
        probability = self._settled(fine[..., self.channels :], grid, time)
        planes = np.round(probability[..., 1:].transpose(3, 2, 1, 0) * 255).astype(np.uint8)
        yield Packet(
            {"shape": list(grid.shape), "affine": grid.affine.matrix.tolist(), "time": time},
            planes.tobytes(),
        )

    def _outside(self, values: np.ndarray, grid: Grid) -> None:
        """Set background beyond the reference stack, in place: surfaces show only what was measured."""
        if not self.subject.stacks:
            return
        stack = self.subject.stacks[0]
        voxel, (low, high) = stack.grid.affine.inverse(grid.points()), stack.bounds.T
        beyond = ((voxel < low) | (voxel > high)).any(-1)
        values[beyond, self.channels :] = 0.0
        values[beyond, self.channels] = 1.0

    def _settled(self, probability: np.ndarray, grid: Grid, time: float) -> np.ndarray:
        """Probabilities on a grid, with islands removed as far as they are known."""
        if not self.background.known(time):
            return probability
        flat = probability.reshape(-1, probability.shape[-1])
        return self.background.without_islands(flat, grid.points().reshape(-1, 3), time).reshape(
            probability.shape
        )

    def _filled(self, grid: Grid, time: float) -> Generator[Step, None, np.ndarray]:
        """Answers on a whole grid (x, y, z, c + k)."""
        position, parts = grid.points().reshape(-1, 3), []
        for first in range(0, len(position), AT_A_TIME):
            parts.append(self.asked(position[first : first + AT_A_TIME], time))
            yield Step.WORKED
        return np.concatenate(parts).reshape(*grid.shape, -1)


def plane_json(grid: Grid) -> Mapping[str, Any]:
    """Centre and directions of a plane, in the page's format."""
    axes = grid.affine.axes
    return {
        "centre": grid.centre().round(4).tolist(),
        "right": axes[:, 0].round(6).tolist(),
        "down": axes[:, 1].round(6).tolist(),
    }
