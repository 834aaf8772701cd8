"""What made an output: versions and command line, without paths that may name people."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version

COMMAND: ContextVar[tuple[str, ...]] = ContextVar("command", default=())
"""The arguments of the command line that runs; empty in a library."""


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": platform.python_version()}
    for name in ("nisf", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command() -> list[str]:
    """The command line without paths: files by their names, folders as ``FOLDER``.

    Folders are named after patients too often.
    """
    return [_reduced(argument) for argument in COMMAND.get()]


def reduced(arguments: Sequence[str]) -> list[str]:
    """`command` of any arguments."""
    return [_reduced(argument) for argument in arguments]


def _reduced(argument: str) -> str:
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    head = f"{flag}{equals}"
    if os.path.isdir(value):
        return f"{head}FOLDER"
    separators = {os.sep, os.altsep or os.sep}
    if any(sign in value for sign in separators) or os.path.exists(value):
        return head + os.path.basename(value.rstrip("".join(separators)))
    return argument
