"""The exceptions that users see as a sentence instead of a traceback, and how a program ends with one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress


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
    """An error that nobody foresaw, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def exit_status(program: str, run: Callable[[], int]) -> int:
    """What ``run`` returns; 2 after an error that the user can mend, which is told; 130 if interrupted.

    1 without a word where nobody reads our output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        say_anything(stream)
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # What is still in the buffer goes nowhere, or Python would complain of it at its end.
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except NisfError as error:
        print(f"{program}: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; what was finished is kept", file=sys.stderr)
        return 130


def say_anything(stream: object) -> None:
    """Let a stream write what its encoding lacks, e.g. in a file's name, as escapes instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
