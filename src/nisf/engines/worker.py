"""The code of a worker process: load the prior once, then run one case after another."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from nisf.device import named_device, use_threads
from nisf.engines.work import Work, do_case
from nisf.errors import BadFileError, NisfError, told, unexpected
from nisf.interrupts import caught, ignore, listen
from nisf.kinds.load import load_prior
from nisf.outputs.provenance import COMMAND
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class Begin:
    """What a worker needs before its first case.

    Attributes:
        prior: folder of the prior, or name of a bundled model.
        digest: digest of the intended prior, because its folder may be rewritten meanwhile.
        device: where the network runs, by name.
        threads: number of CPU threads.
        command: the command line, which records keep.
    """

    prior: str
    digest: str
    device: str = "cpu"
    threads: int = 1
    command: tuple[str, ...] = ()

    def load(self) -> Prior[Subject]:
        """Load the prior onto its device.

        Raises:
            NisfError: it cannot be read, or has changed meanwhile.
        """
        prior = load_prior(self.prior)
        if prior.digest != self.digest:
            raise BadFileError(f"{self.prior}: the prior was changed while it was in use; start again")
        return prior.to(named_device(self.device))


def serve(pipe: Connection, begin: Begin, work: Work) -> None:
    """Run the cases that come through the pipe until it is closed.

    It sends ``("ready", None)`` or ``("unable", sentence)``, then ``("stage", text)`` and
    ``("result", Result)``.
    """
    try:
        try:
            _take_signals()
            _serve(pipe, begin, work)
        except (EOFError, BrokenPipeError, ConnectionError):
            pass  # the other end is closed
        finally:
            _be_deaf()
    except BaseException:
        _be_deaf()  # an interrupt may have come before
        if caught() is None:
            raise
        sys.exit(128 + signal.SIGTERM)


def _be_deaf() -> None:
    """Ignore interrupts while the process ends; they could only cause a traceback."""
    ignore()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _serve(pipe: Connection, begin: Begin, work: Work) -> None:
    COMMAND.set(begin.command)
    use_threads(begin.threads)
    try:
        prior = begin.load()
    except NisfError as error:
        pipe.send(("unable", told(error)))
        return
    except Exception as error:
        pipe.send(("unable", f"{begin.prior}: cannot be loaded by a worker ({unexpected(error)})"))
        return
    turn = threading.Lock()  # several threads report stages

    def send(what: str, value: object = None) -> None:
        with turn:
            pipe.send((what, value))

    send("ready")
    while True:
        files: Any = pipe.recv()
        send("result", do_case(files, prior, work, partial(send, "stage")))


def _take_signals() -> None:
    """From now on, ignore Ctrl-C, which the parent handles; end cleanly on SIGTERM or without a parent."""
    listen()
    ignore()
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_parent, name="nisf-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        with suppress(OSError):
            os.kill(os.getpid(), signal.SIGTERM)
