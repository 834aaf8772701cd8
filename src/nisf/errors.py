"""Exceptions that the command line reports as one sentence instead of a traceback."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from nisf.interrupts import caught, ignore, listen, restore

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""Python's exceptions for entries of a file that are missing or not of the expected form."""


class NisfError(Exception):
    """An error that the user can fix. The message names the file, the value found and what to do.

    Args:
        message: one sentence, without command-line flags.
        options: Python names of the arguments that would help, e.g. ``["centre"]``.
    """

    def __init__(self, message: str, *, options: Sequence[str] = ()) -> None:
        super().__init__(message)
        self._options = tuple(options) or None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the arguments that would help, or those of its cause if it has none."""
        cause = self.__cause__
        return (
            cause.options if self._options is None and isinstance(cause, NisfError) else self._options or ()
        )

    def offer(self, names: Collection[str]) -> None:
        """Keep only the arguments with these names, e.g. those that a command has."""
        self._options = tuple(name for name in self.options if name in names)


class BadFileError(NisfError):
    """A file or folder is missing, unreadable, damaged, of another kind or version, or cannot be written."""


class BadSettingError(NisfError):
    """A setting, option or argument has an invalid value."""


class NoSuchModelError(NisfError):
    """The folder contains no prior, or no bundled model has this name."""


class CannotFitError(NisfError):
    """A case lacks what is needed to fit, evaluate or score it."""


def told(error: NisfError) -> str:
    """The error as the command line prints it: the message, then the flags that would help."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in error.options)
    return f"{error} ({flags})" if flags else str(error)


def unexpected(error: Exception) -> str:
    """An unexpected error in one line; for an error of memory, with what helps."""
    if lacking := out_of_memory(error):
        return told(lacking)
    return " ".join(f"{type(error).__name__}: {error}".split())


def sentence(error: Exception) -> str:
    """An error in one line: `told` if the user can fix it, else `unexpected`."""
    return told(error) if isinstance(error, NisfError) else unexpected(error)


def gigabytes(count: float) -> str:
    """A number of bytes in readable form, e.g. ``3.2 GB``."""
    if count < 1e8:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e13 else f"{count / 1e12:.0f} TB"


_UNITS = {"": 1, "b": 1, "bytes": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_ASKED = re.compile(r"allocate (?:\S+ )?\(?(\d+(?:\.\d+)?) ?(bytes|[kmgtpe]?)i?b?\b", re.IGNORECASE)
_LACKS = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")


def out_of_memory(error: BaseException) -> CannotFitError | None:
    """A message for a failed allocation of Python, NumPy or PyTorch; None for other errors."""
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
    """Call ``run`` and return its exit status; report an error in one line.

    The status is 2 after an error that the user can fix, 1 after an unexpected one, 130 or 143 after Ctrl-C
    or SIGTERM, and 1 without a message if the output pipe is closed.
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
    """Exit status and message for an exception; no message if it should be raised."""
    number = caught()
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = number or signal.SIGINT
        how = "interrupted" if number == signal.SIGINT else "terminated"
        return 128 + number, f"{how}; what was finished is kept"
    if isinstance(error, NisfError):
        return 2, told(error)
    if not isinstance(error, Exception) or os.environ.get(TRACEBACK):
        return 1, None
    if out_of_memory(error):
        return 1, unexpected(error)
    return 1, f"failed unexpectedly ({unexpected(error)}); {TRACEBACK}=1 shows where, please report it"


class Tolerant:
    """A stream whose write errors do not stop the program: they are recorded instead.

    Attributes:
        lost: why something could not be written; empty if everything was.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.lost = stream, ""

    @classmethod
    def around(cls, stream: Any) -> Any:
        """The wrapped stream; None stays None."""
        return None if stream is None else cls(stream)

    def write(self, text: str) -> int:
        """Write; errors are recorded."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self.lost = " ".join(str(error).split())
            return len(text)

    def flush(self) -> None:
        """Flush; errors are recorded."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self.lost = " ".join(str(error).split())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say_anything(stream: object) -> None:
    """Make a stream escape characters that its encoding lacks, e.g. in file names, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
