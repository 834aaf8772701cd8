"""Provenance of a file: its part of a record, and whether it has changed since it was written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nisf.errors import BadFileError
from nisf.outputs.input_state import sha256_of
from nisf.outputs.record import ENDING, Part, Record, is_plain, read_record

LEVELS = 3
"""Number of parent folders in which a record may list a file: reports and pages are in subfolders."""


@dataclass(frozen=True)
class Origin:
    """A part of a record, and the requested file in it.

    Attributes:
        record: file of the record.
        name: name of the case; empty for the folder's own files.
        part: what wrote it, e.g. ``segment``.
        made: its inputs, versions and command.
        file: path relative to the record's folder; None if the whole part was requested.
    """

    record: Path
    name: str
    part: str
    made: Part
    file: str | None

    def changed(self) -> list[str]:
        """Names of files that were changed or removed since they were written.

        Each file is hashed, whatever its modification time.

        Raises:
            BadFileError: a file cannot be read.
        """
        names = list(self.made.files) if self.file is None else [self.file]
        return [name for name in names if not self._as_written(name)]

    def _as_written(self, name: str) -> bool:
        path, mark = self.record.parent / name, self.made.files[name]
        if not is_plain(path) or path.lstat().st_size != mark.get("size"):
            return False
        try:
            return sha256_of(path) == mark.get("sha256")
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def origins(path: str | Path) -> list[Origin]:
    """The parts that list a file, a folder's own parts, or all parts of a record's file.

    Empty if no record in the file's folder or the `LEVELS` folders above lists it.

    Raises:
        BadFileError: the file is a damaged record.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir():
        return _parts(read_record(path))
    if path.name == ENDING or path.name.endswith(f".{ENDING}"):
        return _parts(read_record(path.parent, path.name.removesuffix(ENDING).removesuffix(".")))
    found = []
    for folder in path.parents[:LEVELS]:
        inside = path.relative_to(folder).as_posix()
        for record in _records(folder, inside):
            found += [
                Origin(record.path, record.name, name, part, inside)
                for name, part in record.parts.items()
                if inside in part.files
            ]
        if found:
            break
    return found


def _parts(record: Record) -> list[Origin]:
    return [Origin(record.path, record.name, name, part, None) for name, part in record.parts.items()]


def _records(folder: Path, inside: str) -> Iterator[Record]:
    """The records of a folder that may list a file: those of cases with a matching name, and the folder's."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(ENDING)]
    except OSError:
        return
    for name in sorted(names, key=len, reverse=True):
        stem = name.removesuffix(ENDING).removesuffix(".")
        if name == ENDING or (name == f"{stem}.{ENDING}" and inside.startswith(stem)):
            try:
                yield read_record(folder, stem)
            except BadFileError:  # of another program or damaged: no information about this file
                continue
