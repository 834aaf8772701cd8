"""Where networks run: the cores side by side, or a GPU; and memory, asked before much is taken."""

from __future__ import annotations

import contextvars
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from nisf.errors import BadSettingError, CannotFitError, gigabytes

CPU = torch.device("cpu")
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Where Linux says what a container may take, and what it has."""

LESS = "ask for larger voxels or fewer frames, or crop the image"
"""What helps where an answer is too large."""

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


def use_threads(count: int | None = None) -> int:
    """Have PyTorch compute with some threads; by default with as many as there are idle cores.

    More threads than idle cores wait for each other: on a busy machine the default of one a core takes
    several times as long as a single thread. ``OMP_NUM_THREADS``, where it is set, is a decision already.

    Args:
        count: threads; None to choose.

    Returns:
        The number in use.

    Raises:
        BadSettingError: fewer than one.
    """
    if count is not None and not 1 <= count <= 1024:
        raise BadSettingError(f"{count} threads: give 1 to 1024", options=["threads"])
    if count is None and os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    torch.set_num_threads(idle_cores() if count is None else count)
    return torch.get_num_threads()


def idle_cores() -> int:
    """Cores that this process may use, less those that others keep busy; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # a container's share
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(limit) // int(period)))
    busy = 0.0
    with suppress(OSError, AttributeError):  # not on Windows
        busy = os.getloadavg()[0]
    return max(1, min(cores, round(cores - busy)))


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


def available_bytes() -> int | None:
    """Bytes that can be taken without swapping, by the system and the container; None if nobody says."""
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
    """The most memory that this process has ever had, bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def require_bytes(
    wanted: int, what: str, *, advice: str = LESS, options: Sequence[str] = ("spacing", "frames")
) -> None:
    """Refuse what would not fit into memory, before it is allocated.

    Args:
        wanted: bytes.
        what: that needs them, for the sentence.
        advice: what to do, likewise.
        options: names of the arguments that would help.

    Raises:
        CannotFitError: there are not so many.
    """
    free = available_bytes()
    if free is not None and wanted > free:
        raise CannotFitError(
            f"{what} needs about {gigabytes(wanted)}, and {gigabytes(free)} of memory are free; {advice}",
            options=options,
        )
