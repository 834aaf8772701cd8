"""The cases that a prior is trained on, and those that it is validated on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.errors import BadSettingError
from nisf.io.readers import CaseFiles, CaseReader, Cohort, only_named, open_cohort


def read_cases(reader: CaseReader) -> list[Case]:
    """The cases that could be read; a bar shows how far it is."""
    from nisf.cli.progress import track

    return [case for _, case in track(reader, len(reader), "reading") if isinstance(case, Case)]


def fill_cache(*readers: CaseReader) -> None:
    """Have each of several ranks decompress its share of the cases, before all read all of them."""
    from nisf.optimisation.ranks import share, wait, world

    if world() == 1:
        return
    for reader in readers:
        own = share(len(reader))
        chosen = reader.files[own.start : own.stop]
        for _ in CaseReader(reader.cohort, reader.anatomy, chosen, cache=reader.cache):
            pass
    wait()


def split(
    cohort: Cohort, validation: str, anatomy: Anatomy, layout: str, cache: Path | None = None
) -> tuple[CaseReader, CaseReader]:
    """Training and validation cases, not yet read.

    Args:
        cohort: all cases.
        validation: ``every-Nth``, ``none``, a text file with a case name a line, or another cohort's folder.
        anatomy: the cases' structures.
        layout: for the other cohort.
        cache: folder for decompressed cases, if wanted.

    Raises:
        NisfError: it is none of these, or names a case that is not there.
    """

    def chosen(files: Sequence[CaseFiles], source: Cohort = cohort) -> CaseReader:
        return CaseReader(source, anatomy, files, cache=cache)

    cases = cohort.cases
    if validation == "none":
        return chosen(cases), chosen(())
    every = re.fullmatch(r"every-(\d+)(st|nd|rd|th)", validation)
    if every and int(every[1]) > 1:
        n = int(every[1])
        return chosen([c for i, c in enumerate(cases) if i % n != n - 1]), chosen(cases[n - 1 :: n])
    path = Path(validation)
    if path.is_file() and path.suffix != ".csv":
        validated = only_named(cases, path)
        return chosen([c for c in cases if c not in validated]), chosen(validated)
    if path.exists():
        other = open_cohort(path, anatomy, layout)
        return chosen(cases), chosen(other.cases, other)
    raise BadSettingError(
        f"--validation {validation}: give every-5th (any number from 2), none, a text file of case names, "
        "or the folder of another cohort"
    )
