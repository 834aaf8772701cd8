"""The exceptions that users see as a sentence instead of a traceback, and how a program ends with one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from nisf.interrupts import caught, ignore, listen, restore


class NisfError(Exception):
    """Something the user can mend: the message names the file, the value found and what to do.

    Args:
        message: one sentence; it speaks of no command line.
        options: names, as Python spells them, of the arguments that would help, e.g. ``["centre"]``.
    """

    def __init__(self, message: str, *, options: Sequence[str] = ()) -> None:
        super().__init__(message)
        self._options = tuple(options)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the arguments that would help; those of its cause if it has none of its own."""
        cause = self.__cause__
        return cause.options if not self._options and isinstance(cause, NisfError) else self._options


class BadFileError(NisfError):
    """A file or folder is missing, unreadable, damaged, of another kind or version, or cannot be written."""


class BadSettingError(NisfError):
    """A setting, option or argument has a value that means nothing, or nothing here."""


class NoSuchModelError(NisfError):
    """There is no prior in the folder, or no model of the name."""


class CannotFitError(NisfError):
    """A case cannot be fitted, answered or scored: what that needs is not in it."""


def told(error: NisfError) -> str:
    """The error as a command tells it: the sentence, then the flags that would help."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in error.options)
    return f"{error} ({flags})" if flags else str(error)


def unexpected(error: Exception) -> str:
    """An error that nobody foresaw, in one line; one of memory says what helps."""
    if lacking := out_of_memory(error):
        return told(lacking)
    return " ".join(f"{type(error).__name__}: {error}".split())


def gigabytes(count: float) -> str:
    """Bytes in words, e.g. ``3.2 GB``."""
    return f"{count / 1e9:.1f} GB" if count < 1e13 else f"{count / 1e12:.0f} TB"


_UNITS = {"": 1, "b": 1, "bytes": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_ASKED = re.compile(r"allocate (?:\S+ )?\(?(\d+(?:\.\d+)?) ?(bytes|[kmgtpe]?)i?b?\b", re.IGNORECASE)
_LACKS = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")


def out_of_memory(error: BaseException) -> CannotFitError | None:
    """What to tell of a failed allocation of Python, NumPy or PyTorch; None for other errors."""
    text = str(error)
    lacks = any(part in text.lower() for part in _LACKS)
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError | OSError) and lacks):
        return None
    found = _ASKED.search(text)
    size = "more memory than is free"
    if found:
        size = f"about {gigabytes(float(found[1]) * _UNITS[found[2].lower()])} at once"
    return CannotFitError(
        f"needs {size}; give less working memory, larger voxels or fewer frames, or crop the image",
        options=("memory_mb", "spacing", "frames"),
    )


TRACEBACK = "NISF_TRACEBACK"
"""Environment variable that asks for the traceback of errors that nobody foresaw."""


def exit_status(program: str, run: Callable[[], int]) -> int:
    """What ``run`` returns, or how it failed, in one line.

    2 after an error that the user can mend, 1 after one that nobody foresaw, 130 or 143 after Ctrl-C or
    SIGTERM; 1 without a word where nobody reads our output any more.
    """
    listen()
    streams = sys.stdout, sys.stderr
    for stream in streams:
        say_anything(stream)
    sys.stdout, sys.stderr = map(Tolerant.around, streams)
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        if isinstance(sys.stdout, Tolerant) and sys.stdout.lost:
            print(f"{program}: its output could not be written ({sys.stdout.lost})", file=sys.stderr)
            return status or 1
        return status
    except BrokenPipeError:
        # What is still in the buffer goes nowhere, or Python would complain of it at its end.
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        ignore()
        status, sentence = _ended(error)
        if sentence is None:
            raise
        with suppress(OSError):
            print(f"{program}: {sentence}", file=sys.stderr)
        return status
    finally:
        sys.stdout, sys.stderr = streams
        if caught() is None:
            restore()


def _ended(error: BaseException) -> tuple[int, str | None]:
    """Exit status and sentence for what ended a program; no sentence for what is to be raised."""
    number = caught()
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = number or 2
        return 128 + number, "interrupted; what was finished is kept" if number == 2 else (
            "terminated; what was finished is kept"
        )
    if isinstance(error, NisfError):
        return 2, told(error)
    if not isinstance(error, Exception) or os.environ.get(TRACEBACK):
        return 1, None
    if out_of_memory(error):
        return 1, unexpected(error)
    return 1, f"failed unexpectedly ({unexpected(error)}); {TRACEBACK}=1 shows where, please report it"


class Tolerant:
    """A stream of messages that cannot end the work: what cannot be written is lost, and noted.

    Attributes:
        lost: why something could not be written; empty if all was.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.lost = stream, ""

    @classmethod
    def around(cls, stream: Any) -> Any:
        """The stream so wrapped; None, where there is no stream, stays."""
        return None if stream is None else cls(stream)

    def write(self, text: str) -> int:
        """Write, if it can be written."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self.lost = " ".join(str(error).split())
            return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self.lost = " ".join(str(error).split())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say_anything(stream: object) -> None:
    """Let a stream write what its encoding lacks, e.g. in a file's name, as escapes instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
