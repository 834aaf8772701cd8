"""A disk cache of cases as plain arrays, so that files are unpacked only once.

An entry is a folder named by a hash of everything that it depends on. Its arrays are memory-mapped when a
case is loaded. It is written under a temporary name and then renamed, so that it is complete or absent.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.errors import MALFORMED, BadFileError
from nisf.io.readers.itk import files_of
from nisf.io.readers.labels import Notes
from nisf.io.readers.listing import CaseFiles
from nisf.io.readers.reading import Volume, assemble, read_volumes
from nisf.io.stack_json import stack_from_json, stack_to_json

READER_VERSION = 4
"""Part of every key; increment it when the same files would be read differently."""


class CacheError(BadFileError):
    """The cache cannot be written, which is not a problem of one case."""


def cached_case(files: CaseFiles, anatomy: Anatomy, folder: str | Path, notes: Notes | None = None) -> Case:
    """`read_case` with its arrays cached in ``folder``.

    The arrays are mapped copy-on-write: writing to them does not change the cache. Damaged or incomplete
    entries are made again.

    Raises:
        BadFileError: see `read_case`.
        CacheError: the folder cannot be written.
    """
    notes = {} if notes is None else notes
    entry = Path(folder) / cache_entry(files, anatomy)
    volumes = _load(entry, notes)
    if volumes is None:
        said: Notes = {}
        volumes = read_volumes(files, anatomy, said)
        try:
            _store(entry, volumes, said)
        except OSError as error:
            # NumPy reports an incomplete write only by its counts.
            reason = error.strerror or os.strerror(errno.ENOSPC)
            raise CacheError(
                f"{folder}: the cache cannot be written ({reason}); make room, or give another folder",
                options=["cache"],
            ) from error
        volumes = _load(entry, notes) or volumes
        for kind, note in said.items():
            notes.setdefault(kind, note)
    return assemble(files, anatomy, volumes)


def cache_entry(files: CaseFiles, anatomy: Anatomy) -> str:
    """Folder name of a case in a cache: its name, and a hash of everything that affects what is read.

    That is path, size and modification time of each file, and the way of reading them.

    Raises:
        BadFileError: a file does not exist.
    """
    stacks = []
    for stack in files.stacks:
        marks = []
        for path in (file for named in stack.paths() for file in files_of(named)):
            try:
                state = path.stat()
            except OSError as error:
                raise BadFileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
            marks.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
        shape = [len(frame) for frame in stack.images], [path is not None for path in stack.labels]
        numbers = None if stack.numbers is None else sorted(stack.numbers.items())
        stacks.append([stack.name, marks, shape, stack.times, numbers])
    way = [anatomy.orientation, anatomy.turn, anatomy.reorder]
    rest = [sorted(files.numbers.items()), files.background_known, anatomy.labels, way]
    series = files.attributes.get("series")  # which images of a DICOM study
    phases = [sorted(stack.phases.items()) for stack in files.stacks]
    text = json.dumps([READER_VERSION, np.little_endian, stacks, rest, series, phases])
    return f"{files.name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _store(entry: Path, volumes: list[Volume], notes: Notes) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=entry.parent))
    try:
        described = []
        for i, volume in enumerate(volumes):
            np.save(temporary / f"image{i}.npy", volume.image, allow_pickle=False)
            if volume.label is not None:
                np.save(temporary / f"label{i}.npy", volume.label, allow_pickle=False)
            measured = None if volume.measured is None else volume.measured.tolist()
            more = {
                "labelled": volume.label is not None,
                "measured": measured,
                "phases": dict(volume.phases),
            }
            described.append(stack_to_json(volume.stack) | more)
        text = json.dumps({"stacks": described, "notes": notes})
        (temporary / "case.json").write_text(text, encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)  # `_load` found it damaged
        os.rename(temporary, entry)
    except OSError:
        # Another process may have been faster: its entry is equivalent.
        if _load(entry, {}) is None:
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(entry: Path, notes: Notes) -> list[Volume] | None:
    """The volumes of an entry; None if it is missing or damaged."""
    try:
        data = json.loads((entry / "case.json").read_text(encoding="utf-8"))
        volumes = [_volume(entry, i, described) for i, described in enumerate(data["stacks"])]
        said = dict(data["notes"])
    except (OSError, EOFError, SyntaxError, *MALFORMED):
        return None
    for kind, note in said.items():
        notes.setdefault(kind, note)
    return volumes


def _volume(entry: Path, index: int, described: Mapping[str, Any]) -> Volume:
    stack = stack_from_json(described)
    # "c": copy on write. Torch warns about read-only arrays.
    image = np.load(entry / f"image{index}.npy", mmap_mode="c", allow_pickle=False)
    label = None
    if described["labelled"]:
        label = np.load(entry / f"label{index}.npy", mmap_mode="c", allow_pickle=False)
    expected = (*stack.grid.shape, len(stack.grid.times))
    if image.shape[:-1] != expected or (label is not None and label.shape != expected):
        raise ValueError(f"{entry}: arrays of another shape than {expected}")
    measured = None if described["measured"] is None else np.array(described["measured"], dtype=bool)
    if measured is not None and measured.shape != (stack.grid.shape[2], len(stack.grid.times)):
        raise ValueError(f"{entry}: does not say of each slice whether it was measured")
    phases = {str(name): float(time) for name, time in described["phases"].items()}
    return Volume(stack, np.asarray(image), None if label is None else np.asarray(label), measured, phases)
