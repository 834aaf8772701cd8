"""Answers by several threads, each of which has a part of the places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from typing_extensions import override

from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer

FEWEST = 1024
"""Places that are worth a thread."""


class InThreads(Answerer):
    """Someone's answers, asked for in several threads at once; without deviations.

    Products of a few thousand rows gain little from PyTorch's own threads, and lose much where other programs
    are busy. Parts of the places gain all that there is.

    Args:
        raw: whose answers; they may be asked by several threads.
        threads: how many.
    """

    def __init__(self, raw: Answerer, threads: int) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.threads = raw, threads
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        count = max(1, min(self.threads, len(position) // FEWEST))

        def ask(place: np.ndarray, when: np.ndarray) -> Answer:
            with torch.inference_mode():
                return self.raw.answer(place, when, memory_mb=memory_mb / count)

        parts = list(self._pool.map(ask, np.array_split(position, count), np.array_split(time, count)))
        return Answer(
            np.concatenate([part.intensity for part in parts]),
            np.concatenate([part.probability for part in parts]),
            np.concatenate([part.inside for part in parts]),
        )
