"""Queries split over several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from typing_extensions import override

from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer

FEWEST = 1024
"""Minimum number of points per thread."""


class InThreads(Answerer):
    """Answers of another answerer, queried by several threads at once; without standard deviations.

    Products of matrices with a few thousand rows gain little from PyTorch's own threads, and lose much on a
    busy machine. Splitting the points uses all cores.

    Args:
        raw: the other answerer; must be thread-safe.
        threads: number of threads.
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
