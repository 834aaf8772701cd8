"""How many workers a cohort gets, and what each of them may take."""

from __future__ import annotations

from dataclasses import dataclass

from nisf.device import available_bytes, use_threads
from nisf.errors import BadSettingError

MEMORY_MB = 512.0
"""Working memory if nobody says anything, MiB."""
LEAST_MB = 128.0
"""Working memory that a worker needs for its answers to be those of one with more, to the last bit, MiB."""
WORKER_BYTES = 1_000_000_000
"""Memory of one worker on cardiac volumes, PyTorch and all, as far as workers do not share it."""
FEWEST_CASES = 4
"""Cases a worker for which its start, some seconds, is worth it. Threads are busy with fewer cases, too."""
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Allotment:
    """What the workers of a cohort get.

    Attributes:
        workers: processes; 1 for this one alone.
        threads: of each.
        memory_mb: working memory of each, MiB.
    """

    workers: int
    threads: int
    memory_mb: float


def allotted(
    cases: int,
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory_mb: float | None = None,
    device: str = "cpu",
) -> Allotment:
    """Divide what is free among workers, as far as nothing is said about it.

    Args:
        cases: their number.
        workers: processes; None for as many as cores are free, memory allows and cases are worth.
        threads: of all workers together; None for as many as cores are free.
        memory_mb: working memory of all workers together, MiB; None for `MEMORY_MB`, or more if many workers
            need it.
        device: where networks run; workers would only wait for each other on a GPU.

    Raises:
        BadSettingError: fewer than one worker or thread, or too little memory for so many workers.
    """
    cores = use_threads(threads)
    if workers is None:
        workers = 1 if device != "cpu" else min(cores, cases // FEWEST_CASES)
        free = available_bytes()
        if free is not None:
            workers = min(workers, free // WORKER_BYTES)
        if memory_mb is not None:
            workers = min(workers, int(memory_mb // LEAST_MB))
        workers = max(1, workers)
    elif not 1 <= workers <= MOST_WORKERS:
        raise BadSettingError(f"{workers} workers: give 1 to {MOST_WORKERS}", options=["workers"])
    workers = max(1, min(workers, cases))
    if memory_mb is None:
        memory_mb = max(MEMORY_MB, LEAST_MB * workers)
    if workers > 1 and memory_mb < LEAST_MB * workers:
        raise BadSettingError(
            f"{memory_mb:g} MiB for {workers} workers: each needs {LEAST_MB:g}; give "
            f"{LEAST_MB * workers:g}, or fewer workers",
            options=["memory_mb", "workers"],
        )
    return Allotment(workers, max(1, cores // workers), memory_mb / workers)
