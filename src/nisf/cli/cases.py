"""Reading many cases: the ones that cannot be read cost themselves, not the batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.errors import NisfError
from nisf.io.readers import CaseFiles, Cohort, cached_case, only_named, open_cohort


def read_cases(
    files: Sequence[CaseFiles], cohort: Cohort, anatomy: Anatomy, cache: Path
) -> tuple[list[Case], dict[str, str]]:
    """Cases that could be read, and name to sentence for those that could not."""
    from nisf.cli.progress import track

    cases, failed = [], {}
    for item in track(list(files), "reading"):
        try:
            cases.append(cached_case(item, anatomy, cache))
        except NisfError as error:
            failed[item.name] = str(error)
    return cases, failed


def split(
    cohort: Cohort, validation: str, anatomy: Anatomy, layout: str
) -> tuple[list[CaseFiles], list[CaseFiles]]:
    """Training and validation cases.

    Args:
        cohort: all cases.
        validation: ``every-Nth``, ``none``, a text file with a case name a line, or another cohort's folder.
        anatomy: for the other cohort.
        layout: for the other cohort.

    Raises:
        NisfError: it is none of these, or names a case that is not there.
    """
    cases = list(cohort.cases)
    if validation == "none":
        return cases, []
    every = re.fullmatch(r"every-(\d+)(st|nd|rd|th)", validation)
    if every and int(every[1]) > 1:
        n = int(every[1])
        return [c for i, c in enumerate(cases) if i % n != n - 1], cases[n - 1 :: n]
    path = Path(validation)
    if path.is_file() and path.suffix != ".csv":
        held = only_named(cases, path)
        return [c for c in cases if c not in held], held
    if path.exists():
        return cases, list(open_cohort(path, anatomy, layout).cases)
    raise NisfError(
        f"--validation {validation}: give every-5th (any number from 2), none, a text file of case names, "
        "or the folder of another cohort"
    )
