"""Allow one writer at a time, with a lock that the system releases however its holder ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nisf.errors import BadFileError

ENDING = ".nisf-lock"


class BusyError(BadFileError):
    """Another process is writing the same outputs."""


@dataclass
class _Hold:
    """A lock that this process holds.

    Attributes:
        handle: file descriptor of the locked file.
        entered: number of blocks that hold it, possibly in several threads; the last one releases it.
    """

    handle: int
    entered: int = 1


_held: dict[str, _Hold] = {}
"""The locks that this process holds, by path."""
_counting = threading.Lock()
"""Lets no other thread come between taking a lock and counting it, or between counting and releasing it."""


@contextmanager
def locked(folder: Path, name: str, *, wait: float = 0.0) -> Generator[None]:
    """Hold the lock of a name in a folder; re-entrant within this process, whose threads share it.

    On file systems without locks it does nothing.

    Args:
        folder: must exist.
        name: what to lock; part of a file name.
        wait: seconds to wait for another process.

    Raises:
        BusyError: another process still holds the lock.
        BadFileError: the folder cannot be written to.
    """
    path = folder / f".{name}{ENDING}"
    key = os.path.abspath(path)
    hold = _waited(path, key, wait)
    try:
        yield
    finally:
        with _counting:
            hold.entered -= 1
            if not hold.entered:
                _held.pop(key, None)
                _release(path, hold.handle)


def remove_stale(folder: Path) -> None:
    """Remove lock files that no process holds."""
    for path in folder.glob(f".*{ENDING}"):
        with _counting, suppress(OSError):
            handle = None if os.path.abspath(path) in _held else _acquired(path)
            if handle is not None:
                _release(path, handle)


def _waited(path: Path, key: str, wait: float) -> _Hold:
    """The hold that this process has of a lock, counted once more; taken if no process has it."""
    end = time.monotonic() + wait
    while True:
        try:
            hold = _counted(path, key)
        except OSError as error:
            raise BadFileError(
                f"{path.parent}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        if hold is not None:
            return hold
        if time.monotonic() >= end:
            name = path.name.removeprefix(".").removesuffix(ENDING)
            raise BusyError(
                f"{path.parent}: another process is writing {name or 'there'}; wait for it, or choose "
                "another folder"
            )
        time.sleep(0.02)


def _counted(path: Path, key: str) -> _Hold | None:
    with _counting:
        hold = _held.get(key)
        if hold is not None:
            hold.entered += 1
            return hold
        handle = _acquired(path)
        if handle is None:
            return None
        hold = _held[key] = _Hold(handle)
        return hold


def _acquired(path: Path) -> int | None:
    """A handle of the locked file; None if another process holds the lock."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle):
                os.close(handle)
                return None
            # The previous holder may have removed the file after it was opened here.
            if os.fstat(handle).st_ino == os.stat(path).st_ino:
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the lock was acquired, or the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # ty: ignore[missing-attribute]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _release(path: Path, handle: int) -> None:
    # Removed while locked, so that no other process's lock is removed; Windows removes only closed files.
    if os.name == "nt":
        os.close(handle)
        with suppress(OSError):
            path.unlink()
        return
    with suppress(OSError):
        path.unlink()
    os.close(handle)
