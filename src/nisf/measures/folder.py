"""The tables of a folder, which combine the measures of all its cases.

Each case has its own file, ``NAME.measures.json``. The tables are made from all of these files, and again
if a file has changed meanwhile. The process that writes a table last has therefore seen all files. Several
processes can write to one folder without losing a row.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nisf.errors import BadFileError
from nisf.files import DRAFT
from nisf.measures.case import CaseMeasures
from nisf.measures.table import (
    CURVES,
    ENDING,
    EVERYTHING,
    PARQUET,
    PART,
    TABLE,
    WALLS,
    read_case,
    write_tables,
)
from nisf.outputs import BusyError, Made, as_json, claimed, read_part, recorded, refuse_to_replace

WAIT_S = 600.0
"""Seconds to wait at the end for another process that is making the tables."""
_TURN = threading.Lock()  # between threads of this process; `recorded` is between processes
EVERY_S = 20.0
"""Seconds between updates of the tables while cases are added; they are always made at the end."""
PART_OF_TIME = 0.05
"""Maximum fraction of the run time spent on the tables of very many cases."""


def has_tables(folder: str | Path) -> bool:
    """Whether a folder has tables as nisf wrote them, which must follow its cases."""
    part = read_part(folder, "", PART)
    return part is not None and part.whole(Path(folder))


class Tables:
    """The tables of a folder, updated as cases are added; a context manager that completes them on exit.

    A case's file that is damaged is left out; `damaged` tells of it.

    Args:
        folder: holds the cases' files.
        parquet: also write the table as Parquet.
        overwrite: replace tables that nisf did not write.
    """

    def __init__(self, folder: str | Path, *, parquet: bool = False, overwrite: bool = False) -> None:
        self.folder, self.parquet, self.overwrite = Path(folder), parquet, overwrite
        self._read: dict[Path, tuple[tuple[int, int, int], CaseMeasures]] = {}
        self._made, self._took = -math.inf, 0.0
        self._damaged: list[str] = []
        self._waiting = False

    def __enter__(self) -> Tables:
        """Check that no foreign tables are in the way, before anything is measured.

        Raises:
            BadFileError: there is a table that nisf did not write.
        """
        if not self.overwrite:
            parquet = [PARQUET] if self.parquet else []
            refuse_to_replace(self.folder, "", PART, planned=[TABLE, EVERYTHING, CURVES, WALLS, *parquet])
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self.make()

    @property
    def damaged(self) -> tuple[str, ...]:
        """What is wrong with the files that were left out of the tables last made; a sentence each."""
        return tuple(self._damaged)

    def note(self) -> None:
        """Note that a case's file may have been written; the tables are updated now or a little later."""
        self._waiting = True
        if time.monotonic() - self._made > max(EVERY_S, self._took / PART_OF_TIME):
            with suppress(BusyError):  # another process is making them
                self.make(wait=0.0)

    def make(self, *, wait: float = WAIT_S) -> None:
        """Make the tables from all cases' files, unless they are up to date.

        A damaged file of a case is left out; see `damaged`.

        Args:
            wait: seconds to wait for another process that is making them.

        Raises:
            BusyError: another process is still making them.
            BadFileError: a table cannot be written.
        """
        began = time.monotonic()
        with _TURN, claimed(self.folder, wait=wait):
            states = self._states()
            made = as_json(Made(options={"cases": _digest(states), "parquet": self.parquet}))
            last = read_part(self.folder, "", PART)
            if last is None or last.made != made or not last.whole(self.folder):
                with recorded(self.folder, "", PART, made, overwrite=self.overwrite) as writing:
                    self._write(states)
                    if self._damaged:
                        writing.now.made = Made()  # makes sure that they are made and reported again
        self._made, self._waiting, self._took = time.monotonic(), False, time.monotonic() - began

    def _write(self, states: Mapping[Path, tuple[int, int, int]]) -> None:
        while states:
            write_tables(self.folder, self._cases(states), parquet=self.parquet)
            before, states = states, self._states()
            if states == before:  # another process may have added a case meanwhile
                return

    def _states(self) -> dict[Path, tuple[int, int, int]]:
        """The cases' files, each with a state that changes when the file is written again."""
        out = {}
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            if path.name.startswith(DRAFT):
                continue
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # replaced or removed at this very moment
            out[path] = (state.st_mtime_ns, state.st_size, state.st_ino)
        return out

    def _cases(self, states: Mapping[Path, tuple[int, int, int]]) -> list[CaseMeasures]:
        """The measures of all readable files; unchanged files are not read again."""
        self._damaged, found = [], []
        for path, state in states.items():
            if path not in self._read or self._read[path][0] != state:
                try:
                    self._read[path] = (state, read_case(path))
                except BadFileError as error:
                    self._damaged.append(str(error))
                    continue
            found.append(self._read[path][1])
        return found


def _digest(states: Mapping[Path, tuple[int, int, int]]) -> str:
    """Digest of the states of the cases' files from which the tables were made."""
    lines = (f"{path.name} {state}" for path, state in states.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
