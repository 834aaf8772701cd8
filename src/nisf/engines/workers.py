"""Run cases in several processes of this machine. A process that dies costs its own case and is replaced.

`concurrent.futures` breaks the whole pool when one of its processes dies. These few lines avoid that: each
worker has a pipe, gets one case at a time and sends back its result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from nisf.engines.work import Result, Tell, Work
from nisf.engines.worker import Begin, serve
from nisf.errors import NisfError
from nisf.files import remove_stale
from nisf.interrupts import check
from nisf.io.readers.listing import CaseFiles
from nisf.outputs.lock import remove_stale as remove_stale_locks

STOP_S = 10.0
"""Seconds that a worker has to stop before it is killed."""
TIDY = (0, 128 + signal.SIGTERM)
"""Exit statuses of workers that have cleaned up."""
USUALLY = {"SIGKILL": " (out of memory, or killed by someone)", "SIGSEGV": " (a library crashed)"}
"""The usual cause of a signal that ended a worker."""


@dataclass
class Worker:
    """A process and its present task.

    Attributes:
        process: as `multiprocessing` knows it.
        pipe: to and from the process.
        case: index of its case, None if it has none.
        ready: whether it has loaded its prior.
        unable: why it could not load its prior, in a sentence.
    """

    process: Any
    pipe: Connection
    case: int | None = None
    ready: bool = False
    unable: str = ""

    def heard(self) -> tuple[list[tuple[str, Any]], bool]:
        """Messages that have arrived, and whether the process is alive."""
        said: list[tuple[str, Any]] = []
        try:
            while self.pipe.poll():
                said.append(self.pipe.recv())
        except (EOFError, OSError):
            return said, False
        return said, True

    def stop(self) -> None:
        """Ask it to stop."""
        with suppress(OSError, ValueError):
            self.pipe.close()
        self.process.terminate()

    def gone(self) -> int | None:
        """Wait until it has ended; returns its exit status, negative for a signal."""
        self.process.join(STOP_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        return self.process.exitcode


@dataclass(frozen=True)
class Workers:
    """An `nisf.engines.work.Engine` that runs several processes.

    Results are bitwise independent of their number.

    Attributes:
        begin: sent to each worker when it starts.
        work: what to do with each case; its memory is that of one worker.
        count: number of processes.
    """

    begin: Begin
    work: Work
    count: int

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """See `nisf.engines.work.Engine.run`.

        Raises:
            NisfError: no worker can be started.
        """
        crew = _Crew(self, cases, tell)
        try:
            while crew.busy():
                check()
                crew.fill()
                for worker in crew.heard():
                    yield from crew.attend(worker)
        finally:
            crew.end()


class _Crew:
    """The workers of one run, and its queue of cases."""

    def __init__(self, engine: Workers, cases: Sequence[CaseFiles], tell: Tell) -> None:
        self.engine, self.cases, self.tell = engine, cases, tell
        self.count = engine.count
        self.waiting = deque(range(len(cases)))
        self.workers: list[Worker] = []

    def busy(self) -> bool:
        """Whether a case is queued or running."""
        return bool(self.waiting) or any(worker.case is not None for worker in self.workers)

    def fill(self) -> None:
        """Start workers while there are fewer than queued cases could use."""
        free = sum(worker.case is None for worker in self.workers)
        for _ in range(min(self.count - len(self.workers), len(self.waiting) - free)):
            ours, theirs = _CONTEXT.Pipe()
            arguments = (theirs, self.engine.begin, self.engine.work)
            process = _CONTEXT.Process(target=serve, args=arguments, name="nisf-worker")
            with _signals_later():
                process.start()
            theirs.close()
            self.workers.append(Worker(process, ours))

    def heard(self) -> list[Worker]:
        """Wait until a worker has sent something or ended; returns these workers."""
        owners = {what: k for k, one in enumerate(self.workers) for what in (one.pipe, one.process.sentinel)}
        found = {owners[what] for what in wait(list(owners), timeout=60.0)}  # type: ignore[index]
        return [self.workers[k] for k in sorted(found)]

    def attend(self, worker: Worker) -> Iterator[tuple[int, Result]]:
        """Handle a worker's messages, and give it the next case.

        Raises:
            NisfError: it could not start, and no other worker is running.
        """
        said, alive = worker.heard()
        for what, value in said:
            if what == "stage" and worker.case is not None:
                self.tell(worker.case, value)
            elif what == "unable":
                worker.unable = value
            elif what == "ready":
                worker.ready = True
            elif what == "result" and worker.case is not None:
                index, worker.case = worker.case, None
                yield index, value
        if not alive:
            yield from self.bury(worker)
        elif worker.ready and worker.case is None and self.waiting:
            index = self.waiting.popleft()
            try:
                worker.pipe.send(self.cases[index].without_labels())
                worker.case = index
            except OSError:  # it has just died without receiving the case
                self.waiting.appendleft(index)
                yield from self.bury(worker)

    def bury(self, worker: Worker) -> Iterator[tuple[int, Result]]:
        """Clean up after a worker that ended unexpectedly; yields the result of its case.

        Raises:
            NisfError: it could not start, and no other worker is running.
        """
        self.workers.remove(worker)
        code = worker.gone()
        worker.pipe.close()
        self.tidy()
        sentence = worker.unable or _how(code)
        if worker.case is not None:
            yield worker.case, Result(self.cases[worker.case].name, "failed", sentence)
        if not worker.ready:
            self.count -= 1  # otherwise workers would be started forever
            if not self.workers:
                raise NisfError(f"no worker could be started: {sentence}")

    def end(self) -> None:
        """Stop all workers; running cases are cancelled."""
        for worker in self.workers:
            worker.stop()
        ends = [worker.gone() for worker in self.workers]
        if any(code not in TIDY for code in ends):
            self.tidy()

    def tidy(self) -> None:
        """Remove what killed workers left behind."""
        folder = self.engine.work.folder
        if folder.is_dir():
            remove_stale(folder)
            remove_stale_locks(folder)


def _how(code: int | None) -> str:
    """A sentence that says how a worker ended."""
    if code is None or code >= 0:
        return f"its worker ended unexpectedly (exit status {code}); run it again"
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    return f"its worker was ended by {name}{USUALLY.get(name, '')}; run it again with fewer workers"


def _context() -> Any:
    """A fork server that has imported everything once, where the platform has one.

    Workers are never forked from this process, whose threads may hold locks.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nisf.engines.worker"])
    return context


_CONTEXT = _context()


@contextmanager
def _signals_later() -> Generator[None]:
    """Start a process with signals blocked, so that Ctrl-C cannot cause a traceback while it starts.

    The worker unblocks them when it is ready to handle them.
    """
    if os.name != "posix":
        yield
        return
    resource_tracker.ensure_running()  # started later, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
