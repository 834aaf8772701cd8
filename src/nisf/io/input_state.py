"""The state of the files that an answer was made from, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nisf.errors import BadFileError


def input_state(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Path, size, time of change and hash of each file, as JSON takes it.

    Raises:
        BadFileError: a file cannot be read.
    """
    states = []
    for path in paths:
        try:
            status = path.stat()
            digest = _sha256(path)
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror})") from error
        states.append(
            {
                "path": os.path.abspath(path),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": digest,
            }
        )
    return states


def same_inputs(recorded: Any, paths: Sequence[Path]) -> bool:
    """Whether files are those of a recorded state, in their order, wherever they lie now.

    Size and time are compared first. Only where the time or the place is another is the file hashed, so that
    a copied or touched file causes no work.
    """
    try:
        return len(recorded) == len(paths) and all(map(_same, recorded, paths))
    except (OSError, KeyError, TypeError):
        return False  # of an older version, or not there any more


def another_input(recorded: Any, paths: Sequence[Path]) -> str | None:
    """The first recorded file, if none of the recorded files lies where one of the paths does."""
    try:
        places = [str(entry["path"]) for entry in recorded]
    except (KeyError, TypeError):
        return None
    now = {os.path.abspath(path) for path in paths}
    return places[0] if places and now and not now & set(places) else None


def _same(entry: dict[str, Any], path: Path) -> bool:
    status = path.stat()
    if entry["size"] != status.st_size:
        return False
    if entry["mtime_ns"] == status.st_mtime_ns and entry["path"] == os.path.abspath(path):
        return True
    return entry["sha256"] == _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
