"""The margin of a structure: positive inside, zero on its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nisf.subject.answerer import Answerer
from nisf.types import PointsMm

LEAST = 1e-6
"""Lower bound of probabilities."""
TIE = 1e-9


def margin_of(probability: Float[np.ndarray, "*n k"], classes: tuple[int, ...]) -> Float[np.ndarray, "*n"]:
    """Log odds of the most probable of some classes against the most probable other class.

    Positive where one of ``classes`` is the label, never 0. Unlike probabilities, which are steps, logarithms
    are nearly linear across a border.
    """
    inside = np.zeros(probability.shape[-1], dtype=bool)
    inside[list(classes)] = True
    logs = np.log(np.maximum(probability, LEAST).astype(np.float64))
    margin = logs[..., inside].max(-1) - logs[..., ~inside].max(-1)
    return np.where(np.abs(margin) < TIE, -TIE, margin)


@dataclass(frozen=True, eq=False)
class Margin:
    """The margin of a structure or union at one time, anywhere in the world.

    Attributes:
        answers: the answerer to query.
        classes: indices of the structures that belong to it.
        time: fraction of the cycle.
        memory_mb: working memory, MiB.
    """

    answers: Answerer
    classes: tuple[int, ...]
    time: float
    memory_mb: float = 512.0

    def __call__(self, position: PointsMm) -> Float[np.ndarray, "*n"]:
        """Log odds at points in world mm."""
        flat = np.asarray(position, dtype=np.float64).reshape(-1, 3)
        answer = self.answers.answer(flat, np.full(len(flat), self.time), memory_mb=self.memory_mb)
        return margin_of(answer.probability, self.classes).reshape(position.shape[:-1])
