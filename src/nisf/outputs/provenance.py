"""Provenance of an output: versions and command line, without paths that could identify people."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path

COMMAND: ContextVar[tuple[str, ...]] = ContextVar("command", default=())
"""The arguments of the running command; empty when used as a library."""


@cache
def versions() -> dict[str, str]:
    """Versions of everything that results depend on."""
    from importlib.metadata import PackageNotFoundError, version  # takes a quarter of a second

    found = {"python": platform.python_version()}
    for name in ("nisf", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit that this package was built from, or that its checkout is at; None if unknown.

    Wheels store it in ``commit.txt`` (see ``hatch_build.py``); checkouts ask git, and append ``-dirty`` if
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
    """The command line without paths: file names are kept, folders become ``FOLDER``.

    Folders are often named after patients.
    """
    return reduced(COMMAND.get())


def reduced(arguments: Sequence[str]) -> list[str]:
    """`command` for any list of arguments."""
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
