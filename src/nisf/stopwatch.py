"""Time spent in each stage of a case. The library names the stages; a `Stopwatch` sums them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_running: ContextVar[Stopwatch | None] = ContextVar("running", default=None)


class Stopwatch:
    """Wall-clock seconds per stage, from `start` until `seconds` is read. Use it as a context manager.

    The time of a nested stage does not count towards the outer one, so the stages sum to the total. The
    seconds of parallel threads are added up.

    Args:
        tell: called with the name of each stage as it begins, and with its progress where known.

    Attributes:
        stages: seconds by stage name.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell
        self.stages: dict[str, float] = {}
        self._began = time.perf_counter()
        self._thread = threading.local()
        # What the thread that made it is in, which is what others work for.
        self._names: list[str] = []
        self._thread.names = self._names
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds since the stopwatch was created."""
        return time.perf_counter() - self._began

    def __enter__(self) -> Stopwatch:
        self._token = _running.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _running.reset(self._token)

    @contextmanager
    def _stage(self, name: str) -> Generator[None]:
        began = time.perf_counter()
        within: list[float] = self._thread.__dict__.setdefault("within", [])
        within.append(0.0)
        names: list[str] = self._thread.__dict__.setdefault("names", [])
        names.append(name)
        if self._tell:
            self._tell(name)
        try:
            yield
        finally:
            names.pop()
            seconds = time.perf_counter() - began
            own = seconds - within.pop()
            with self._lock:
                self.stages[name] = self.stages.get(name, 0.0) + own
            if within:
                within[-1] += seconds


def told(stages: Mapping[str, float]) -> str:
    """The stages as text, longest first: ``rendering 2.1 s, encoding 0.4 s``."""
    ordered = sorted(stages.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in ordered)


@contextmanager
def stage(name: str) -> Generator[None]:
    """Count this block as a stage of the running stopwatch, if there is one."""
    watch = _running.get()
    if watch is None:
        yield
        return
    with watch._stage(name):
        yield


def advance(done: int, whole: int) -> None:
    """Report the progress of the current stage to the running stopwatch, if there is one.

    Args:
        done: number of finished parts.
        whole: total number of parts.
    """
    watch = _running.get()
    if watch is not None and watch._tell and watch._names and whole > 1:
        watch._tell(f"{watch._names[-1]} {done} of {whole}")
