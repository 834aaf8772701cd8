"""Uncertainty on a plane: the spread of the class probabilities over draws.

As in `nisf render --std`, on a lattice coarser than the screen: draws are expensive, and their spread has no
fine detail.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cached_property

import numpy as np
import torch

from nisf.errors import BadSettingError, CannotFitError
from nisf.subject.answerer import Answerer
from nisf.subject.subject import Subject
from nisf.view.background import Background
from nisf.view.packets import Packet
from nisf.view.questions import PlaneQuestion
from nisf.view.refinement import AT_A_TIME
from nisf.view.worker import Step, Work

DRAWS = 16
FIRST = 4
"""Number of draws after which a first picture is given."""
LATTICE_MM = 1.4
LARGEST = 0.5
"""Maximum possible standard deviation of a probability."""
MEMORY_MB = 256.0


class Spreads:
    """Draws of one subject, queried on planes.

    Args:
        subject: to be queried.
        background: knows its islands.
    """

    def __init__(self, subject: Subject, background: Background) -> None:
        self.subject, self.background = subject, background

    @cached_property
    def draws(self) -> list[Answerer]:
        """Its draws at the measured slices, before islands are removed; empty if it has no draws."""
        try:
            return self.subject.raw_draws(DRAWS)
        except CannotFitError:
            return []

    def plane(self, question: PlaneQuestion) -> Work:
        """Packets of a plane: largest standard deviation of any class (uint8, 255 is 0.5), row by row."""
        if not self.draws:
            raise BadSettingError("This subject has no draws from which its uncertainty could be computed.")
        step = max(1, round(LATTICE_MM / question.spacing))
        width, height = ((n - 1) // step + 1 for n in (question.width, question.height))
        axes = np.meshgrid(np.arange(height) * float(step), np.arange(width) * float(step), indexing="ij")
        position = question.positions(np.stack([axes[1], axes[0]], axis=-1).reshape(-1, 2))
        total = square = np.zeros((len(position), len(self.subject.prior.anatomy.labels)))
        for number, draw in enumerate(self.draws, start=1):
            found = yield from self._drawn(draw, position, question.time)
            total, square = total + found, square + found**2
            if number in (FIRST, DRAWS):
                deviation = np.sqrt(np.maximum(square / number - (total / number) ** 2, 0.0)).max(1)
                scaled = np.round(np.clip(deviation / LARGEST, 0, 1) * 255).astype(np.uint8)
                header = {"width": width, "height": height, "step": step, "draws": number}
                yield Packet({**header, "final": number == DRAWS}, scaled.tobytes())

    def _drawn(self, draw: Answerer, position: np.ndarray, time: float) -> Generator[Step, None, np.ndarray]:
        """Class probabilities of one draw (n, k), with islands removed where they are known."""
        parts = []
        for first in range(0, len(position), AT_A_TIME):
            part = position[first : first + AT_A_TIME]
            with torch.inference_mode():
                parts.append(draw.answer(part, np.full(len(part), time), memory_mb=MEMORY_MB).probability)
            yield Step.WORKED
        found = np.concatenate(parts).astype(np.float64)
        known = self.background.known(time)
        return self.background.without_islands(found, position, time) if known else found
