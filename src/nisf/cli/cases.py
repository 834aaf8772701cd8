"""The training and validation cases of a prior."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.errors import BadSettingError
from nisf.io.readers import CachedCases, CaseFiles, CaseReader, Cohort, only_named, open_cohort, stored_cases


def stored(reader: CaseReader) -> CachedCases:
    """The readable cases, in the reader's cache; with a progress bar."""
    from nisf.cli.progress import track

    return stored_cases(reader, track(reader.files, len(reader), "reading"))


def fill_cache(*readers: CaseReader) -> None:
    """Let each of several ranks store its part of the cases, before all ranks need all of them."""
    from nisf.optimisation.ranks import share, wait, world

    if world() == 1:
        return
    for reader in readers:
        own = share(len(reader))
        chosen = reader.files[own.start : own.stop]
        stored_cases(CaseReader(reader.cohort, reader.anatomy, chosen, cache=reader.cache))
    wait()


def split(
    cohort: Cohort, validation: str, anatomy: Anatomy, layout: str, cache: Path | None = None
) -> tuple[CaseReader, CaseReader]:
    """Training and validation cases, not yet read.

    Args:
        cohort: all cases.
        validation: ``every-Nth``, ``none``, a text file of case names, or another cohort's folder.
        anatomy: the cases' structures.
        layout: layout of the other cohort.
        cache: folder for decompressed cases, if wanted.

    Raises:
        NisfError: it is none of these, or names a case that does not exist.
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
