"""Choose the number of workers for a cohort, and the resources of each."""

from __future__ import annotations

from dataclasses import dataclass

from nisf.device import available_bytes, use_threads
from nisf.errors import BadSettingError

MEMORY_MB = 512.0
"""Default working memory, MiB."""
LEAST_MB = 128.0
"""Minimum working memory of a worker; below it, results could differ in the last bit. MiB."""
WORKER_BYTES = 1_000_000_000
"""Memory of one worker on cardiac volumes, including PyTorch, as far as workers do not share it."""
FEWEST_CASES = 4
"""Minimum number of cases per worker, which makes up for its start of some seconds; threads need no more."""
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Allotment:
    """Resources of the workers of a cohort.

    Attributes:
        workers: number of processes; 1 for this process alone.
        threads: number of threads of each worker.
        memory_mb: working memory of each worker, MiB.
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
    """Divide free resources among workers; explicit settings take precedence.

    Args:
        cases: number of cases.
        workers: number of processes; None for as many as free cores, memory and the number of cases allow.
        threads: number of threads of all workers together; None for the number of free cores.
        memory_mb: working memory of all workers together, MiB; None for `MEMORY_MB`, or more if many workers
            need it.
        device: where networks run. On a GPU there is one worker by default: cards can be reserved for a
            single process.

    Raises:
        BadSettingError: fewer than one worker or thread, or too little memory for this many workers.
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
            f"{memory_mb:g} MiB for {workers} workers: each needs {LEAST_MB:g} MiB; give "
            f"{LEAST_MB * workers:g}, or use fewer workers",
            options=["memory_mb", "workers"],
        )
    return Allotment(workers, max(1, cores // workers), memory_mb / workers)
