"""Independent pieces of work side by side: several threads, each of which computes on one core.

The number of threads is PyTorch's (``torch.set_num_threads``). Every operation runs on one core alone, so results
do not depend on how many there are, to the last bit, and threads never wait for each other inside an operation.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")


@contextmanager
def one_core() -> Iterator[int]:
    """Every operation in the block runs on one core; gives the number of threads that PyTorch had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[Item], object], items: Iterable[Item], *, most: int | None = None) -> None:
    """Do the work for each item, in their order as far as threads are free.

    Args:
        work: done once for each item; it may not depend on what it does for another.
        items: taken one by one, when a thread is free.
        most: threads at most; as many as PyTorch has if None.

    Raises:
        Exception: the first that the work raised; what had not begun by then is left undone.
    """
    with one_core() as threads:
        threads = threads if most is None else min(threads, most)
        if threads == 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(threads, "nisf", lambda: torch.set_num_threads(1)) as pool:
            running: list[Future[object]] = []
            try:
                for item in items:
                    running.append(pool.submit(contextvars.copy_context().run, work, item))
                for future in running:
                    future.result()
            finally:
                for future in running:
                    future.cancel()
