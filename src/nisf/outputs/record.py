"""The record of what wrote a case's files; it determines what may be replaced and what is done already.

It is ``NAME.run.json`` beside the files of a case, and ``run.json`` for the folder's own files. A record has
one part for each writer: "segment", "measures", and so on. A part describes its inputs and lists its files
with sizes and hashes. A file belongs to the part that lists it as long as its content is unchanged: a file
that a person edited afterwards is the person's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nisf.errors import MALFORMED, BadFileError, NisfError
from nisf.files import kept_by, read_json, write_json
from nisf.outputs.input_state import sha256_of
from nisf.outputs.names import file_stem
from nisf.outputs.provenance import command, versions

FORMAT = 1
"""Version of the record's file."""
ENDING = "run.json"

State = Literal["writing", "done"]


@dataclass(frozen=True)
class Made:
    """Everything that determines the files of a part.

    Attributes:
        inputs: from `nisf.outputs.input_state.input_state`.
        prior: fingerprint of the prior; None if there is none.
        options: all other options, as JSON.
    """

    inputs: Sequence[Mapping[str, Any]] = ()
    prior: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def as_json(made: Made) -> Made:
    """The same after a round trip through JSON, as read from a record."""
    return Made(**json.loads(json.dumps(asdict(made))))


@dataclass
class Part:
    """One part of a record.

    Attributes:
        made: what its files were made from.
        state: ``writing`` from before the first file until after the last.
        files: size, modification time and hash by relative path; empty for a file that is being written.
        versions: versions of nisf and the libraries that it computes with.
        command: the command line, with reduced paths.
    """

    made: Made
    state: State
    files: dict[str, dict[str, Any]]
    versions: dict[str, str] = field(default_factory=versions)
    command: list[str] = field(default_factory=command)

    def whole(self, folder: Path) -> bool:
        """Whether it is finished, and every file has the content that was written."""
        return self.state == "done" and all(
            is_unchanged(folder / name, mark) for name, mark in self.files.items()
        )

    def wrote(self, folder: Path, name: str) -> bool:
        """Whether a file is one of its own."""
        mark = self.files.get(name)
        if mark is None:
            return False
        return is_unchanged(folder / name, mark) if mark else is_plain(folder / name)


class Record:
    """The parts of one case's record, or of the folder's.

    Args:
        folder: folder of the files.
        name: name of the case; empty for the folder itself.
        parts: by name.
    """

    def __init__(self, folder: Path, name: str, parts: dict[str, Part] | None = None) -> None:
        self.folder, self.name = folder, name
        self.parts: dict[str, Part] = {} if parts is None else parts

    @property
    def path(self) -> Path:
        """Its file."""
        return record_path(self.folder, self.name)

    def write(self) -> None:
        """Write its file; without parts, there is no file."""
        with kept_by(None):
            if not self.parts:
                self.path.unlink(missing_ok=True)
                return
            parts = {name: asdict(part) for name, part in self.parts.items()}
            write_json(self.path, {"nisf_record": FORMAT, "name": self.name, "parts": parts})


def record_path(folder: str | Path, name: str = "") -> Path:
    """Path of the record for a name in a folder."""
    return Path(folder) / (f"{file_stem(name)}.{ENDING}" if name else ENDING)


def read_record(folder: str | Path, name: str = "") -> Record:
    """Read the record for a name in a folder; empty if there is none.

    Raises:
        BadFileError: its file is not a record of nisf.
    """
    folder, path = Path(folder), record_path(folder, name)
    if not os.path.lexists(path):
        return Record(folder, name)
    data = read_json(path)
    try:
        if data["nisf_record"] != FORMAT:
            raise BadFileError(
                f"{path}: a record of format {data['nisf_record']!r}; this nisf reads {FORMAT}"
            )
        return Record(folder, name, {str(key): _part(part) for key, part in data["parts"].items()})
    except MALFORMED as error:
        raise BadFileError(
            f"{path}: not a record written by nisf; move it away, or choose another output folder"
        ) from error


def _part(data: Mapping[str, Any]) -> Part:
    made, state = data["made"], data["state"]
    if state not in ("writing", "done"):
        raise ValueError(state)
    return Part(
        Made(list(made["inputs"]), made["prior"], dict(made["options"])),
        state,
        {str(name): dict(mark) for name, mark in data["files"].items()},
        dict(data["versions"]),
        list(data["command"]),
    )


def read_part(folder: str | Path, name: str, part: str) -> Part | None:
    """One part of a record; None if it does not exist or cannot be read."""
    try:
        return read_record(folder, name).parts.get(part)
    except NisfError:
        return None


def is_plain(path: Path) -> bool:
    """Whether a path is a regular file, not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def mark_of(path: Path) -> dict[str, Any]:
    """Size, modification time and hash of a file.

    Raises:
        BadFileError: it cannot be read.
    """
    try:
        status = path.lstat()
        digest = sha256_of(path)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read again ({error.strerror})") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}


def is_unchanged(path: Path, mark: Mapping[str, Any]) -> bool:
    """Whether a file is unchanged since it was written; hashed only if its modification time differs."""
    if not is_plain(path):
        return False
    status = path.lstat()
    if status.st_size != mark.get("size"):
        return False
    try:
        return status.st_mtime_ns == mark.get("mtime_ns") or mark_of(path)["sha256"] == mark.get("sha256")
    except BadFileError:
        return False
