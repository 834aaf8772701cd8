"""The cases of a cohort in its cache, memory-mapped on demand."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from typing_extensions import override

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.outline import Outline, StoredCases, content_of, outline
from nisf.errors import MALFORMED, BadFileError
from nisf.files import kept_by, replacing
from nisf.io.readers.cache import cache_entry, cached_case
from nisf.io.readers.cases import CaseReader
from nisf.io.readers.labels import Notes
from nisf.io.readers.listing import CaseFiles

OUTLINE, FORMAT = "outline.json", 2
MAPPED = 16
"""Number of cases mapped at a time; each takes two file descriptors per stack."""


class CachedCases(StoredCases):
    """Cases in a cache, a few of which are mapped at a time.

    Args:
        files: files of each case.
        outlines: outlines of each case.
        folders: entry of each case in the cache.
        anatomy: their structures.
        cache: folder of the cache.
    """

    def __init__(
        self,
        files: Sequence[CaseFiles],
        outlines: Sequence[Outline],
        folders: Sequence[Path],
        anatomy: Anatomy,
        cache: Path,
    ) -> None:
        self._files, self._outlines, self._folders = tuple(files), tuple(outlines), tuple(folders)
        self._anatomy, self._cache = anatomy, cache
        self._mapped: OrderedDict[int, Case] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": OrderedDict()}  # the receiver maps them again

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> CachedCases: ...
    @override
    def __getitem__(self, index: int | slice) -> Case | CachedCases:
        if isinstance(index, slice):
            return self.only(range(len(self))[index])
        index = range(len(self))[index]
        if index not in self._mapped:
            self._mapped[index] = cached_case(self._files[index], self._anatomy, self._cache)
        self._mapped.move_to_end(index)
        while len(self._mapped) > MAPPED:
            self._mapped.popitem(last=False)
        return self._mapped[index]

    @property
    @override
    def outlines(self) -> tuple[Outline, ...]:
        return self._outlines

    @override
    def folder(self, index: int) -> Path:
        return self._folders[index]

    @override
    def only(self, indices: Sequence[int]) -> CachedCases:
        return CachedCases(
            [self._files[i] for i in indices],
            [self._outlines[i] for i in indices],
            [self._folders[i] for i in indices],
            self._anatomy,
            self._cache,
        )


def stored_cases(reader: CaseReader, names: Iterable[CaseFiles] | None = None) -> CachedCases:
    """The readable cases of a reader with a cache; cases that were read before are not read again.

    Args:
        reader: collects the problems and remarks.
        names: iterates over ``reader.files``, e.g. with a progress bar.

    Raises:
        BadFileError: the cache cannot be written.
    """
    assert reader.cache is not None, "there is no cache to store cases in"
    files: list[CaseFiles] = []
    outlines: list[Outline] = []
    folders: list[Path] = []
    for one in reader.files if names is None else names:
        found = _stored(one, reader)
        if isinstance(found, str):
            reader.failed[one.name] = found
            continue
        files.append(one)
        outlines.append(found[0])
        folders.append(found[1])
    return CachedCases(files, outlines, folders, reader.anatomy, reader.cache)


def _stored(files: CaseFiles, reader: CaseReader) -> tuple[Outline, Path] | str:
    """The outline of a case and its folder, or why it cannot be read."""
    assert reader.cache is not None
    try:
        entry = reader.cache / cache_entry(files, reader.anatomy)
    except BadFileError:
        found = reader.read(files)  # reports what is wrong
        return found if isinstance(found, str) else f"{files.name}: was changed while it was read"
    kept = _read(entry / OUTLINE)
    notes: Notes = {}
    if kept is None:
        case = reader.read(files, notes)
        if isinstance(case, str):
            return case
        found = replace(outline(case, order=reader.anatomy.reorder), content=content_of(case))
        kept = found, notes
        with kept_by(None), replacing(entry / OUTLINE) as draft:
            said = {"format": FORMAT, "outline": kept[0].to_json(), "notes": notes}
            draft.write_text(json.dumps(said), encoding="utf-8")
    for kind, note in kept[1].items():
        reader.cohort.notes.setdefault(kind, note)
    return kept[0], entry


def _read(path: Path) -> tuple[Outline, Notes] | None:
    """The stored outline and notes of a case; None if they are missing or unreadable."""
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != FORMAT:
            return None
        return Outline.from_json(data["outline"]), dict(data["notes"])
    except (OSError, *MALFORMED):
        return None
