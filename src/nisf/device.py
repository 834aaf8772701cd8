"""Where networks run: the processor's cores side by side, or a GPU."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from nisf.errors import BadSettingError

CPU = torch.device("cpu")

Item = TypeVar("Item")


def named_device(name: str) -> torch.device:
    """The device that a user names: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        BadSettingError: there is none of that name here.
    """
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return CPU
    if kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":"):
        raise BadSettingError(f"{name}: no such device; give cpu, cuda or cuda:NUMBER", options=["device"])
    if not torch.cuda.is_available():
        raise BadSettingError(
            f"{name}: this PyTorch ({torch.__version__}) sees no GPU; give cpu, "
            "or install a PyTorch for CUDA",
            options=["device"],
        )
    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise BadSettingError(
            f"{name}: there are {count} GPUs, counted from 0; give one of them", options=["device"]
        )
    return torch.device(kind, int(number or 0))


def half_precision(wanted: str, device: torch.device) -> bool:
    """Whether products are in bf16: as wanted, or with ``auto`` on processors that have units for it.

    Not on a GPU, which waits for the processor either way: see docs/performance.md.
    """
    if wanted != "auto":
        return wanted == "bf16"
    return device.type == "cpu" and bf16_units()


def bf16_units() -> bool:
    """Whether the processor multiplies in bf16 (AMX or AVX-512)."""
    # PyTorch's own questions; older versions cannot answer them.
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, wanted: str) -> AbstractContextManager[Any]:
    """A context in which products are computed as wanted (see `half_precision`), whatever is around it."""
    if device.type not in ("cpu", "cuda"):
        return nullcontext()  # nothing is computed, as on PyTorch's meta device
    return torch.autocast(device.type, torch.bfloat16, enabled=half_precision(wanted, device))


def module_device(module: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(module.parameters()).device


@contextmanager
def one_core() -> Generator[int]:
    """Every operation in the block runs on one core; gives the number of threads that PyTorch had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[Item], object], items: Iterable[Item], *, most: int | None = None) -> None:
    """Do the work for each item, in their order as far as threads are free, each on one core.

    The number of threads is PyTorch's (``torch.set_num_threads``). As every operation runs on one core alone,
    results do not depend on it, to the last bit, and threads never wait for each other inside an operation.

    Args:
        work: done once for each item; it may not depend on what it does for another.
        items: of the work.
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
                running.extend(pool.submit(contextvars.copy_context().run, work, item) for item in items)
                for future in running:
                    future.result()
            finally:
                for future in running:
                    future.cancel()
