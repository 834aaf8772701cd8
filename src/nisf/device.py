"""Devices, threads, precision, and checks of available memory."""

from __future__ import annotations

import contextvars
import ctypes
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nisf.errors import BadSettingError, CannotFitError, gigabytes

CPU = torch.device("cpu")
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files in which Linux states the memory limit of a container, and its use."""

LESS = "ask for larger voxels or fewer frames, or crop the image"
"""Advice for output that is too large for the memory."""

M_ARENA_MAX = -8
"""Number of glibc's setting for the number of its heaps."""
HEAPS = 2

Item = TypeVar("Item")


def named_device(name: str) -> torch.device:
    """The device with this name: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        BadSettingError: this machine has no such device.
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


def share_freed_memory() -> None:
    """Let all threads allocate from `HEAPS` heaps, so that one uses what another freed; on glibc only.

    By default every thread has a heap of its own, and what is freed there stays reserved: about a tenth of
    the memory that a large cine takes. With a single heap, threads wait for each other.
    """
    with suppress(OSError, AttributeError, TypeError):  # other C libraries, other systems
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def return_freed_memory() -> None:
    """Give freed pages back to the system; on glibc only, which keeps those that lie between used ones."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def use_threads(count: int | None = None) -> int:
    """Set the number of PyTorch's threads; by default to the number of idle cores.

    With more threads than idle cores, threads wait for each other: on a busy machine, one thread per core can
    be several times slower than a single thread. If ``OMP_NUM_THREADS`` is set, it is respected.

    Args:
        count: number of threads; None chooses.

    Returns:
        The number of threads in use.

    Raises:
        BadSettingError: fewer than one.
    """
    if count is not None and not 1 <= count <= 1024:
        raise BadSettingError(f"{count} threads: give 1 to 1024", options=["threads"])
    share_freed_memory()
    if count is None and os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    torch.set_num_threads(idle_cores() if count is None else count)
    return torch.get_num_threads()


def usable_cores() -> int:
    """Number of cores that this process may use; at least one."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def idle_cores() -> int:
    """Number of cores that this process may use and that other processes leave idle; at least one."""
    cores = usable_cores()
    with suppress(OSError, ValueError):  # a container's share
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(limit) // int(period)))
    busy = 0.0
    with suppress(OSError, AttributeError):  # not on Windows
        busy = os.getloadavg()[0]
    return max(1, min(cores, round(cores - busy)))


def half_precision(wanted: str, device: torch.device) -> bool:
    """Whether to compute matrix products in bf16: as requested, or with ``auto`` on CPUs with bf16 units.

    ``auto`` never chooses it on a GPU, which is limited by the CPU either way (docs/performance.md).
    """
    if wanted != "auto":
        return wanted == "bf16"
    return device.type == "cpu" and bf16_units()


def bf16_units() -> bool:
    """Whether the CPU has bf16 matrix units (AMX or AVX-512)."""
    # PyTorch's own questions; older versions cannot answer them.
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, wanted: str) -> AbstractContextManager[Any]:
    """Context manager that sets the precision of products (see `half_precision`), overriding any outer
    context.
    """
    if device.type not in ("cpu", "cuda"):
        return nullcontext()  # nothing is computed, as on PyTorch's meta device
    return torch.autocast(device.type, torch.bfloat16, enabled=half_precision(wanted, device))


def module_device(module: nn.Module) -> torch.device:
    """The device that holds a network's weights."""
    return next(module.parameters()).device


@contextmanager
def one_core() -> Generator[int]:
    """Run every operation in the block on one core; yields PyTorch's previous number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(work: Callable[[Item], object], items: Iterable[Item], *, most: int | None = None) -> None:
    """Call ``work`` on each item in parallel threads, each on one core; items start in order.

    The number of threads is that of PyTorch (``torch.set_num_threads``). Every operation runs on a single
    core, so results are bitwise independent of the number of threads.

    Args:
        work: called once per item; calls must be independent of each other.
        items: arguments for ``work``.
        most: maximum number of threads; None for PyTorch's.

    Raises:
        Exception: the first exception raised by ``work``; items that have not started are skipped.
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


class Arriving:
    """Tensors on their way to the host, which goes on meanwhile.

    From a GPU they are copied into pinned memory. Calling the object waits for these tensors only, not for
    work that the device was given later.

    Args:
        tensors: on any device.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._host = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
            for host, tensor in zip(self._host, tensors, strict=True):
                host.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event(blocking=True)  # leaves the core to others
            self._copied.record(torch.cuda.current_stream(tensors[0].device))
        else:
            self._host = [tensor.cpu() for tensor in tensors]

    def __call__(self) -> list[np.ndarray]:
        """The arrays, once they have arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        return [tensor.numpy() for tensor in self._host]


def available_bytes() -> int | None:
    """Bytes that can be allocated without swapping, within the container's limit; None if unknown."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if not found:
        with suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit, used in CGROUPS:
        with suppress(OSError, ValueError):
            found.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
    return min(found, default=None)


def peak_bytes() -> int:
    """Peak memory of this process in bytes; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def require_bytes(
    wanted: int, what: str, *, advice: str = LESS, options: Sequence[str] = ("spacing", "frames")
) -> None:
    """Raise an error before allocating more memory than is available.

    Args:
        wanted: bytes.
        what: what needs them, for the message.
        advice: what the user can do, for the message.
        options: names of arguments that would help.

    Raises:
        CannotFitError: not enough memory is available.
    """
    free = available_bytes()
    if free is not None and wanted > free:
        raise CannotFitError(
            f"{what} needs about {gigabytes(wanted)}, and {gigabytes(free)} of memory are free; {advice}",
            options=options,
        )
