"""Run cases as tasks of a Ray cluster: on this machine, or on many that share the folders.

Ray repeats a task whose process or node was lost. Cases that their record marks as done are not repeated, so
that each case is written once whatever is lost, and a restarted driver continues where it stopped.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nisf.device import named_device, use_threads
from nisf.engines.work import Result, Tell, Work, do_case
from nisf.engines.worker import Begin
from nisf.errors import BadSettingError, NisfError, sentence
from nisf.files import remove_stale
from nisf.interrupts import check
from nisf.io.readers.listing import CaseFiles
from nisf.outputs.lock import remove_stale as remove_stale_locks
from nisf.outputs.provenance import COMMAND
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject

RETRIES = 3
"""Number of times a case is repeated after its process or node was lost."""
AHEAD = 2
"""Queued tasks per CPU, so that none is idle; limited, because a cohort may have 50,000 cases."""
LOOK_S = 10.0
"""Seconds between checks of the cluster's size, which may grow."""
STOP_S = 10.0
"""Seconds that tasks have to stop before they are killed."""


@dataclass(frozen=True)
class OnRay:
    """An `nisf.engines.work.Engine` that runs on a Ray cluster.

    Attributes:
        prior: the trained prior, on the CPU; nodes get it from Ray, not from its folder.
        begin: device, threads and command line of each task.
        work: what to do with each case; its folder, like the inputs, is shared by all nodes.
        address: address of a running cluster; None for a cluster on this machine only.
        workers: number of cases at a time; None for the number of CPUs in the cluster.
    """

    prior: Prior[Subject]
    begin: Begin
    work: Work
    address: str | None = None
    workers: int | None = None

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """See `nisf.engines.work.Engine.run`.

        Raises:
            BadSettingError: Ray is not installed, or there is no cluster at the address.
        """
        ray = require_ray()
        self._connect(ray)
        running: dict[Any, int] = {}
        try:
            task = ray.remote(
                num_cpus=self.begin.threads,
                num_gpus=0 if self.begin.device == "cpu" else 1,
                max_retries=RETRIES,
            )(_task)
            shared = [ray.put(self.prior)]  # in a list, because Ray resolves a bare reference for every task
            waiting, most, looked = deque(range(len(cases))), 0, -LOOK_S
            while waiting or running:
                check()
                if time.monotonic() - looked > LOOK_S:
                    most, looked = self._most(ray), time.monotonic()
                while waiting and len(running) < most:
                    index = waiting.popleft()
                    tell(index, "sent")
                    files = cases[index].without_labels()
                    running[task.remote(files, shared, self.begin, self.work, os.getcwd())] = index
                ended, _ = ray.wait(list(running), timeout=1.0)
                for reference in ended:
                    index = running.pop(reference)
                    yield index, self._result(ray, reference, cases[index].name)
        finally:
            _cancel(ray, list(running))
            ray.shutdown()
            if self.work.folder.is_dir():
                remove_stale(self.work.folder)
                remove_stale_locks(self.work.folder)

    def _connect(self, ray: Any) -> None:
        """Start a cluster on this machine, or connect to a running one.

        Raises:
            BadSettingError: there is no cluster at the address.
        """
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        wanted: dict[str, Any] = {"address": self.address}
        if self.address is None:
            cpus = None if self.workers is None else self.workers * self.begin.threads
            wanted = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        try:
            _refuse_silence(self.address)
            ray.init(**wanted, log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError) as error:
            raise BadSettingError(
                f"Ray: no cluster at {self.address or 'this machine'} ({_first_line(error)}); give the "
                "address that the head node printed",
                options=["address"],
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray's own SIGTERM handler would exit silently
                signal.signal(number, handler)

    def _most(self, ray: Any) -> int:
        """Maximum number of tasks that may be queued or running now."""
        cpus = int(ray.cluster_resources().get("CPU", 1))
        return self.workers or max(1, AHEAD * cpus // self.begin.threads)

    def _result(self, ray: Any, reference: Any, name: str) -> Result:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            return Result(name, "failed", sentence(error.cause or error))
        except ray.exceptions.RayError as error:
            why = _first_line(error)
            return Result(
                name, "failed", f"its process or node was lost {RETRIES + 1} times ({why}); run it again"
            )


def _refuse_silence(address: str | None) -> None:
    """Fail at once if nothing listens at the address; Ray itself would retry for minutes.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=20.0).close()


def require_ray() -> Any:
    """Import the package `ray`.

    Raises:
        BadSettingError: it is not installed.
    """
    try:
        ray = import_module("ray")
        import_module("ray.exceptions")
    except ImportError as error:
        raise BadSettingError(
            "the engine ray needs Ray; install it with pip install 'nisf[ray]'", options=["engine"]
        ) from error
    return ray


_priors: dict[str, Prior[Subject]] = {}
"""Cache of a Ray worker process: the prior of its job, by digest."""


def _task(files: CaseFiles, shared: list[Any], begin: Begin, work: Work, folder: str) -> Result:
    """Run one case in a Ray worker process, on any node."""
    ray = require_ray()
    os.chdir(folder)  # paths may be relative to the folder in which the command was started
    if not work.folder.is_dir():
        raise NisfError(
            f"{work.folder}: not found on the node {ray.util.get_node_ip_address()}; share it with all nodes"
        )
    COMMAND.set(begin.command)
    use_threads(begin.threads)
    if begin.digest not in _priors:
        _priors.clear()
        _priors[begin.digest] = ray.get(shared[0]).to(named_device(begin.device))
    return do_case(files, _priors[begin.digest], work)


def _cancel(ray: Any, references: list[Any]) -> None:
    """Cancel tasks: first with time to clean up, then by force."""
    for force in (False, True):
        with suppress(Exception):
            for reference in references:
                ray.cancel(reference, force=force)
            if references and not force:
                _, references = ray.wait(references, num_returns=len(references), timeout=STOP_S)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
