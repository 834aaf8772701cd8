"""Reliable handling of Ctrl-C and SIGTERM, so that a command ends with one line.

An interrupt inside a library can surface as a different error or get lost in a destructor. The signal is
therefore remembered; loops check for it between cases.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType

_caught: list[int] = []
_owner: list[int] = []


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived.

    CPython notes a plain `KeyboardInterrupt` that leaves code run by an extension module (`PyRun_String`) and
    then ends the process by SIGINT whatever exit status was asked for. It does not note a subclass.
    """


def listen() -> None:
    """Start catching SIGINT and SIGTERM in this process. Call it from the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    _caught.clear()
    _owner[:] = [os.getpid()]
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError, OSError):
            signal.signal(number, _catch)


def caught() -> int | None:
    """The number of the signal that arrived since `listen`; None if none did."""
    return _caught[0] if _caught else None


def check() -> None:
    """Raise an interrupt that was caught but lost.

    Raises:
        Interrupted: a signal arrived.
    """
    if _caught:
        raise Interrupted


def ignore() -> None:
    """Ignore Ctrl-C while the program ends."""
    if threading.current_thread() is threading.main_thread():
        with suppress(ValueError, OSError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def restore() -> None:
    """Restore Python's default handlers."""
    if threading.current_thread() is threading.main_thread():
        _caught.clear()
        with suppress(ValueError, OSError):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _catch(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal calls it
    if _owner != [os.getpid()]:  # a forked worker: it ends as it would have without us
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _caught.append(int(number))
    raise Interrupted
