"""The state of the files that an answer was made from, and whether they are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nisf.errors import MALFORMED, BadFileError


def input_state(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Place, size, time of change and hash of each file, as JSON takes it.

    The place is the hash of the path, since folders are named after patients too often.

    Raises:
        BadFileError: a file cannot be read.
    """
    states = []
    for path in paths:
        try:
            status = path.stat()
            digest = sha256_of(path)
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror})") from error
        states.append(
            {
                "place": _place(path),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "sha256": digest,
            }
        )
    return states


def same_content(recorded: Any, state: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two states are of files with the same content, in their order."""
    try:
        return [entry["sha256"] for entry in recorded] == [entry["sha256"] for entry in state]
    except MALFORMED:
        return False


def other_places(recorded: Any, state: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no file of one state lies where one of the other does; False if a place is not recorded."""
    try:
        places = {str(entry["place"]) for entry in recorded}
        return bool(places) and bool(state) and not places & {str(entry["place"]) for entry in state}
    except MALFORMED:
        return False


def same_inputs(recorded: Any, paths: Sequence[Path]) -> bool:
    """Whether files are those of a recorded state, in their order, wherever they lie now.

    Size and time are compared first. Only where the time or the place is another is the file hashed, so that
    a copied or touched file causes no work.
    """
    try:
        return len(recorded) == len(paths) and all(map(_same, recorded, paths))
    except (OSError, *MALFORMED):
        return False  # of an older version, or not there any more


def _same(entry: dict[str, Any], path: Path) -> bool:
    status = path.stat()
    if entry["size"] != status.st_size:
        return False
    if entry["mtime_ns"] == status.st_mtime_ns and entry["place"] == _place(path):
        return True
    return entry["sha256"] == sha256_of(path)


def sha256_of(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(path: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
