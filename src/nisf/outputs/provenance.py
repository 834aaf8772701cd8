"""What made an output: versions and command line, without paths that may name people."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path

COMMAND: ContextVar[tuple[str, ...]] = ContextVar("command", default=())
"""The arguments of the command line that runs; empty in a library."""


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    from importlib.metadata import PackageNotFoundError, version  # a quarter of a second

    found = {"python": platform.python_version()}
    for name in ("nisf", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit that this package was built from, or that its checkout is at; None if unknown.

    A wheel has it in ``commit.txt`` (see ``hatch_build.py``); a checkout asks git, and adds ``-dirty`` if
    files differ from the commit.
    """
    here = Path(__file__).resolve()
    built = here.with_name("commit.txt")
    if built.is_file():
        return built.read_text(encoding="utf-8").strip() or None
    root = here.parents[3]
    if not (root / ".git").exists() or not (root / "src" / "nisf").is_dir():
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


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
