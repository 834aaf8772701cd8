"""Cases in several processes of this machine: one that dies costs the case that it had, and is replaced.

`concurrent.futures` gives up all work when one of its processes dies, which is why the few lines here exist:
a pipe to each worker, which gets one case at a time and sends back what became of it.
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
"""Seconds that a worker has to give up its case before it is killed."""
USUALLY = {"SIGKILL": " (out of memory, or stopped by somebody)", "SIGSEGV": " (a library crashed)"}
"""What a signal that ended a worker usually means."""


@dataclass
class Worker:
    """A process and what it does.

    Attributes:
        process: as `multiprocessing` knows it.
        pipe: to it and from it.
        case: index of the case that it has, None if it has none.
        ready: whether it has loaded its prior.
        unable: why it could not, in a sentence.
    """

    process: Any
    pipe: Connection
    case: int | None = None
    ready: bool = False
    unable: str = ""

    def heard(self) -> tuple[list[tuple[str, Any]], bool]:
        """What it has said, and whether it lives."""
        said: list[tuple[str, Any]] = []
        try:
            while self.pipe.poll():
                said.append(self.pipe.recv())
        except (EOFError, OSError):
            return said, False
        return said, True

    def stop(self) -> None:
        """Have it give up what it does."""
        with suppress(OSError, ValueError):
            self.pipe.close()
        self.process.terminate()

    def gone(self) -> int | None:
        """Wait until it has ended; its exit status, negative for a signal."""
        self.process.join(STOP_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        return self.process.exitcode


@dataclass(frozen=True)
class Workers:
    """An `nisf.engines.work.Engine` of several processes.

    Results do not depend on their number, to the last bit.

    Attributes:
        begin: what each of them is told at its start.
        work: what is done to each case; its memory is one worker's.
        count: processes.
    """

    begin: Begin
    work: Work
    count: int

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """As `nisf.engines.work.Engine.run`.

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
    """The workers of one run, and the cases that wait for them."""

    def __init__(self, engine: Workers, cases: Sequence[CaseFiles], tell: Tell) -> None:
        self.engine, self.cases, self.tell = engine, cases, tell
        self.count = engine.count
        self.waiting = deque(range(len(cases)))
        self.workers: list[Worker] = []

    def busy(self) -> bool:
        """Whether a case waits or is being done."""
        return bool(self.waiting) or any(worker.case is not None for worker in self.workers)

    def fill(self) -> None:
        """Start workers where there are fewer than could have a case."""
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
        """The workers that said something or ended, waited for until one has."""
        owners = {what: k for k, one in enumerate(self.workers) for what in (one.pipe, one.process.sentinel)}
        found = {owners[what] for what in wait(list(owners), timeout=60.0)}  # type: ignore[index]
        return [self.workers[k] for k in sorted(found)]

    def attend(self, worker: Worker) -> Iterator[tuple[int, Result]]:
        """Take what a worker said, and give it the next case.

        Raises:
            NisfError: it could not begin, and nobody else works.
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
            except OSError:  # it has just died, and never saw the case
                self.waiting.appendleft(index)
                yield from self.bury(worker)

    def bury(self, worker: Worker) -> Iterator[tuple[int, Result]]:
        """Tidy up after a worker that ended by itself; the result of the case that it had.

        Raises:
            NisfError: it could not begin, and nobody else works.
        """
        self.workers.remove(worker)
        code = worker.gone()
        worker.pipe.close()
        self.tidy()
        sentence = worker.unable or _how(code)
        if worker.case is not None:
            yield worker.case, Result(self.cases[worker.case].name, "failed", sentence)
        if not worker.ready:
            self.count -= 1  # or one would be started again and again
            if not self.workers:
                raise NisfError(f"no worker could be started: {sentence}")

    def end(self) -> None:
        """Stop all workers; what they have begun is given up."""
        for worker in self.workers:
            worker.stop()
        if [worker for worker in self.workers if worker.gone() == -signal.SIGKILL]:
            self.tidy()

    def tidy(self) -> None:
        """Remove what workers left that could not do it themselves."""
        folder = self.engine.work.folder
        if folder.is_dir():
            remove_stale(folder)
            remove_stale_locks(folder)


def _how(code: int | None) -> str:
    """The sentence that says how a worker ended."""
    if code is None or code >= 0:
        return f"its worker ended unexpectedly (exit status {code}); run it again"
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    return f"its worker was ended by {name}{USUALLY.get(name, '')}; run it again, with fewer workers"


def _context() -> Any:
    """A server that has imported everything once and forks workers, where there is such a thing.

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
    """Let a process start without signals: Ctrl-C goes to it too, and it is no time for a traceback.

    The worker itself lets them come when it is ready for them.
    """
    if os.name != "posix":
        yield
        return
    resource_tracker.ensure_running()  # it would let signals come again when it is started later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
