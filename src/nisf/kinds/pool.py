"""The training pool of a recipe: prepared case by case, in memory or in mapped files beside the cases."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from typing_extensions import override

from nisf.data.case import Case
from nisf.data.outline import StoredCases
from nisf.data.region import Region
from nisf.errors import MALFORMED, BadFileError
from nisf.io.mapped import mapped_arrays, write_arrays

Item = TypeVar("Item")
Arrays = tuple[Mapping[str, np.ndarray], Any]
"""Arrays by name, and JSON metadata."""

MAPPED = 256
"""Number of cases mapped at a time, one file each; systems allow a process about 1,000 open files."""


@dataclass(frozen=True, eq=False)
class Prepared(Generic[Item]):
    """How an item of the pool is made from a case, stored and restored.

    Attributes:
        name: name of the file, with a version that changes when items are made differently.
        options: JSON of everything besides case and region that the item depends on.
        make: makes the item from a case and its region.
        keep: converts an item to arrays and metadata.
        take: converts arrays and metadata back to the item.
    """

    name: str
    options: Any
    make: Callable[[Case, Region], Item]
    keep: Callable[[Item], Arrays]
    take: Callable[[Mapping[str, np.ndarray], Any], Item]

    def file(self, region: Region) -> str:
        """Name of the file for a region."""
        place = [region.pose.matrix.tolist(), np.asarray(region.half).tolist()]
        text = json.dumps([self.options, place])
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


class MappedPool(Sequence[Item]):
    """One item per case, made on first use and memory-mapped from then on.

    Args:
        cases: stored cases.
        regions: their regions.
        prepared: how items are made and stored.
    """

    def __init__(self, cases: StoredCases, regions: Sequence[Region], prepared: Prepared[Item]) -> None:
        self._cases, self._regions, self._prepared = cases, regions, prepared
        self._mapped: OrderedDict[int, Item] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    @override
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        if index not in self._mapped:
            self._mapped[index] = self._taken(index)
        self._mapped.move_to_end(index)
        while len(self._mapped) > MAPPED:
            self._mapped.popitem(last=False)
        return self._mapped[index]

    def only(self, indices: Sequence[int]) -> MappedPool[Item]:
        """The pool of some of the cases."""
        return MappedPool(self._cases.only(indices), [self._regions[i] for i in indices], self._prepared)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mapped": OrderedDict()}  # the receiver maps the files again

    def _taken(self, index: int) -> Item:
        region, prepared = self._regions[index], self._prepared
        path: Path = self._cases.folder(index) / prepared.file(region)
        if path.is_file():
            try:
                return prepared.take(*mapped_arrays(path))
            except (BadFileError, *MALFORMED):
                path.unlink(missing_ok=True)  # damaged: make it again
        write_arrays(path, *prepared.keep(prepared.make(self._cases[index], region)))
        return prepared.take(*mapped_arrays(path))


def pool_of(cases: Sequence[Case], regions: Sequence[Region], prepared: Prepared[Item]) -> Sequence[Item]:
    """The items of all cases: mapped where the cases are stored on disk, otherwise in memory."""
    if isinstance(cases, StoredCases):
        return MappedPool(cases, regions, prepared)
    return [prepared.make(case, region) for case, region in zip(cases, regions, strict=True)]


def some(pool: Sequence[Item], indices: Sequence[int]) -> Sequence[Item]:
    """The items of some of the cases."""
    if len(indices) == len(pool):
        return pool
    return pool.only(indices) if isinstance(pool, MappedPool) else [pool[i] for i in indices]
