"""A thread that runs jobs step by step, urgent ones first, and drops outdated ones.

A job is an iterator, usually a generator, with short steps, so that a newer request waits for one step at
most.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from nisf.errors import sentence

T = TypeVar("T")


class Step(Enum):
    """What a job yields besides answers."""

    WORKED = 0
    """The job has more to do."""
    WAITS = 1
    """The job waits for another job."""


@dataclass(frozen=True)
class Urgency:
    """Yielded by a job to change its own urgency."""

    value: int


class Ended(Enum):
    """Why no further answers come."""

    DONE = 0
    DROPPED = 1
    """A newer request of the same channel replaced it, the client has left, or the worker was stopped."""


@dataclass(frozen=True)
class Failed:
    """An error, in one sentence."""

    sentence: str


Work = Iterator[object]


@dataclass(eq=False)
class Job:
    """A request and the recipient of its answers.

    Attributes:
        channel: a newer job of the same channel replaces an older one.
        urgency: lower numbers come first.
        work: yields answers and `Step`; a generator is closed in the worker's thread if the job is dropped.
        deliver: called with every answer, and finally with an `Ended`, possibly after a `Failed`.
    """

    channel: str
    urgency: int
    work: Work
    deliver: Callable[[object], None]
    number: int = 0
    dropped: bool = False
    waits_since: int = field(default=-1)


class Worker:
    """Runs jobs in one thread; use it as a context manager, or call `start` and `stop`."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._dropped: list[Job] = []
        self._change = threading.Condition()
        self._numbers = itertools.count()
        self._steps = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="nisf-view", daemon=True)

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step; remaining jobs, and those that are submitted later, are dropped."""
        with self._change:
            self._stopped = True
            for job in list(self._jobs.values()):
                self._drop(job)
                job.deliver(Ended.DROPPED)
            self._change.notify_all()
        self._thread.join(timeout=10)

    def submit(self, channel: str, urgency: int, work: Work, deliver: Callable[[object], None]) -> Job:
        """Start a job; an older one of the same channel is dropped."""
        job = Job(channel, urgency, work, deliver, next(self._numbers))
        with self._change:
            old = self._jobs.get(channel)
            if old is not None:
                self._drop(old)
                old.deliver(Ended.DROPPED)
            if self._stopped:
                job.dropped = True
                job.deliver(Ended.DROPPED)
                return job
            self._jobs[channel] = job
            self._change.notify_all()
        return job

    def drop(self, job: Job) -> None:
        """Drop a job whose answer is no longer wanted."""
        with self._change:
            self._drop(job)

    def _drop(self, job: Job) -> None:
        """The thread closes its work; left to the garbage collector, that could happen in any thread."""
        job.dropped = True
        if self._jobs.get(job.channel) is job:
            del self._jobs[job.channel]
            self._dropped.append(job)
            self._change.notify_all()

    def _next(self) -> Job | None:
        """The most urgent job that can continue, or one that was dropped; None to end the thread."""
        with self._change:
            while self._dropped or not self._stopped:
                if self._dropped:
                    return self._dropped.pop()
                ready = [job for job in self._jobs.values() if job.waits_since != self._steps]
                if ready:
                    return min(ready, key=lambda job: (job.urgency, job.number))
                self._change.wait()
        return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._go_on(job)

    def _go_on(self, job: Job) -> None:
        """Run one step of a job, or close its work if it was dropped."""
        try:
            if job.dropped:
                if isinstance(job.work, Generator):
                    job.work.close()
                return
            answer = next(job.work)
        except StopIteration:
            self._end(job, Ended.DONE)
        except Exception as error:  # a bug must end this request only
            self._end(job, Failed(sentence(error)))
        else:
            if answer is Step.WAITS:
                job.waits_since = self._steps
                return
            self._steps += 1
            if isinstance(answer, Urgency):
                job.urgency = answer.value
            elif not isinstance(answer, Step) and not job.dropped:
                job.deliver(answer)

    def _end(self, job: Job, how: Ended | Failed) -> None:
        self._steps += 1
        with self._change:
            if self._jobs.get(job.channel) is job:
                del self._jobs[job.channel]
        if not job.dropped:
            job.deliver(how)
            if isinstance(how, Failed):
                job.deliver(Ended.DONE)
