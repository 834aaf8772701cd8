"""The tables of a folder, made of the measures of all its cases by whoever was there last.

Each case has a file of its own, ``NAME.measures.json``. The tables are made from all of these, and once more
if one has changed meanwhile. Whoever writes a table last has therefore seen every file that was there then:
several processes can write to one folder, and no row is lost.
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
"""Seconds to wait at the end for other processes that make the tables."""
_TURN = threading.Lock()  # of the threads of this process; `recorded` is for processes
EVERY_S = 20.0
"""Seconds between tables while cases are being added; they are always made at the end."""
PART_OF_TIME = 0.05
"""Making tables of very many cases takes its time, but no more than this part of the whole."""


class Tables:
    """The tables of a folder, made anew as cases are added; a context manager that makes them at its end.

    At its end it raises `BadFileError` if a case's file in the folder was damaged and had to be left out.

    Args:
        folder: with the cases' files.
        parquet: whether to write the table as Parquet too.
        overwrite: replace tables that nisf did not write.
    """

    def __init__(self, folder: str | Path, *, parquet: bool = False, overwrite: bool = False) -> None:
        self.folder, self.parquet, self.overwrite = Path(folder), parquet, overwrite
        self._read: dict[Path, tuple[tuple[int, int, int], CaseMeasures]] = {}
        self._made, self._took = -math.inf, 0.0
        self._damaged: BadFileError | None = None
        self._waiting = False

    def __enter__(self) -> Tables:
        """Refuse tables that are in the way, before anything is measured.

        Raises:
            BadFileError: nisf did not write one that is there.
        """
        if not self.overwrite:
            parquet = [PARQUET] if self.parquet else []
            refuse_to_replace(self.folder, "", PART, planned=[TABLE, EVERYTHING, CURVES, WALLS, *parquet])
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._waiting:
            self.make()
        if self._damaged is not None and kind is None:
            raise self._damaged

    def note(self) -> None:
        """A case's file may have been written; the tables follow now or a little later."""
        self._waiting = True
        if time.monotonic() - self._made > max(EVERY_S, self._took / PART_OF_TIME):
            with suppress(BusyError):  # another process makes them just now
                self.make(wait=0.0)

    def make(self, *, wait: float = WAIT_S) -> None:
        """Make the tables of all cases' files, unless they are made of just these.

        A case's file that is damaged is left out, and told at the end.

        Args:
            wait: seconds to wait for another process that makes them.

        Raises:
            BusyError: another process makes them still.
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
                    if self._damaged is not None:
                        writing.now.made = Made()  # to be made, and told, again
        self._made, self._waiting, self._took = time.monotonic(), False, time.monotonic() - began

    def _write(self, states: Mapping[Path, tuple[int, int, int]]) -> None:
        while states:
            write_tables(self.folder, self._cases(states), parquet=self.parquet)
            before, states = states, self._states()
            if states == before:  # another process may add a case while we write
                return

    def _states(self) -> dict[Path, tuple[int, int, int]]:
        """The cases' files, and what changes when one is written again."""
        out = {}
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            if path.name.startswith(DRAFT):
                continue
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # replaced or taken away this very moment
            out[path] = (state.st_mtime_ns, state.st_size, state.st_ino)
        return out

    def _cases(self, states: Mapping[Path, tuple[int, int, int]]) -> list[CaseMeasures]:
        """Those that can be read; what was read before is not read again."""
        self._damaged, found = None, []
        for path, state in states.items():
            if path not in self._read or self._read[path][0] != state:
                try:
                    self._read[path] = (state, read_case(path))
                except BadFileError as error:
                    self._damaged = error
                    continue
            found.append(self._read[path][1])
        return found


def _digest(states: Mapping[Path, tuple[int, int, int]]) -> str:
    """What tells the cases' files that tables were made of from others."""
    lines = (f"{path.name} {state}" for path, state in states.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
