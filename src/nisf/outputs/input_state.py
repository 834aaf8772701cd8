"""The state of the input files of a result, and whether they have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nisf.errors import MALFORMED, BadFileError


def input_state(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Location, size, modification time and hash of each file, as JSON.

    The location is a hash of the path, because folders are often named after patients.

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
    """Whether two states describe files with the same content, in order."""
    try:
        return [entry["sha256"] for entry in recorded] == [entry["sha256"] for entry in state]
    except MALFORMED:
        return False


def other_places(recorded: Any, state: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the files of two states are all in different locations; False if a location is not recorded."""
    try:
        places = {str(entry["place"]) for entry in recorded}
        return bool(places) and bool(state) and not places & {str(entry["place"]) for entry in state}
    except MALFORMED:
        return False


def same_inputs(recorded: Any, paths: Sequence[Path]) -> bool:
    """Whether files are those of a recorded state, in order, wherever they are now.

    Size and time are compared first. A file is hashed only if its time or location differs, so that copied
    or touched files do not cause results to be computed again.
    """
    try:
        return len(recorded) == len(paths) and all(map(_same, recorded, paths))
    except (OSError, *MALFORMED):
        return False  # an entry of an older version, or the file no longer exists


def among_inputs(recorded: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> bool:
    """Whether files are some of those of a recorded state, or include all of them, wherever they are now.

    A file is hashed only if its size is recorded, and its time or location is not. A state without hashes,
    of an older version, tells no files apart.
    """
    try:
        known = {(entry["place"], entry["size"], entry["mtime_ns"]): entry["sha256"] for entry in recorded}
    except MALFORMED:
        return True
    sizes, found = {size for _, size, _ in known}, set()
    for path in paths:
        try:
            status = path.stat()
            state = (_place(path), status.st_size, status.st_mtime_ns)
            digest = known.get(state) or (sha256_of(path) if status.st_size in sizes else "")
        except OSError:
            digest = ""
        found.add(digest)
    return not known or found <= set(known.values()) or set(known.values()) <= found


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
