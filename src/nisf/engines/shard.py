"""Shards: the parts of a cohort that several commands run, on any machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nisf.errors import BadSettingError
from nisf.io.readers.listing import CaseFiles


@dataclass(frozen=True)
class Shard:
    """One of several parts of a cohort.

    Attributes:
        number: number of this part, from 1.
        count: number of parts.
    """

    number: int
    count: int

    def cases(self, cases: Sequence[CaseFiles]) -> list[CaseFiles]:
        """The cases of this shard: every ``count``-th by name, so that all shards have about the same size.

        Every case is in exactly one shard, in whatever order the cases are given.
        """
        ordered = sorted(cases, key=lambda files: files.name)
        return ordered[self.number - 1 :: self.count]


def parsed(text: str) -> Shard:
    """Parse a shard such as ``3/16``.

    Raises:
        BadSettingError: it is something else.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    shard = None if found is None else Shard(int(found[1]), int(found[2]))
    if shard is None or not 1 <= shard.number <= shard.count:
        raise BadSettingError(
            f"shard {text}: give NUMBER/COUNT, e.g. 3/16, with numbers from 1 to the count", options=["shard"]
        )
    return shard
