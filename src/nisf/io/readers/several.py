"""Open several inputs as one cohort: files, folders and patterns, whose cases have unique names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.errors import BadFileError, BadSettingError
from nisf.io.readers.cohort import Cohort, open_cohort
from nisf.io.readers.labels import Notes
from nisf.io.readers.listing import CaseFiles, Problem


def open_inputs(
    inputs: Sequence[str | Path], anatomy: Anatomy, layout: str = "auto", *, labels: bool = True
) -> Cohort:
    """List the cases of one or more inputs; of several, one that cannot be listed does not stop the others.

    Args:
        inputs: anything that `open_cohort` accepts, or patterns with ``*``, ``?`` and ``[...]``.
        anatomy: their structures.
        layout: the layout that all of them have.
        labels: whether labels will be read too.

    Raises:
        BadSettingError: no input, or an unknown layout.
        BadFileError: none of them can be opened; a pattern has no match; two cases have the same name.
    """
    paths = list(dict.fromkeys(_matched(inputs)))
    if not paths:
        raise BadSettingError("no input; give an image file, a folder or a manifest CSV")
    if len(paths) == 1:
        return open_cohort(paths[0], anatomy, layout, labels=labels)
    cohorts: list[Cohort] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            cohorts.append(open_cohort(path, anatomy, layout, labels=labels))
            problems += cohorts[-1].problems
        except BadFileError as error:
            problems.append(Problem(str(path), "error", str(error)))
    if not cohorts:
        raise BadFileError(problems[0].message)
    notes: Notes = {}
    for cohort in cohorts:
        for kind, note in cohort.notes.items():
            notes.setdefault(kind, note)
    layouts = {cohort.layout for cohort in cohorts}
    return Cohort(
        root=Path(os.path.commonpath([path.absolute() for path in paths])),
        layout=layouts.pop() if len(layouts) == 1 else "several",
        labels=anatomy.labels,
        cases=_named(cohorts),
        problems=tuple(problems),
        notes=notes,
    )


def _matched(inputs: Sequence[str | Path]) -> Iterator[Path]:
    """Each input that exists as written, or else its matches as a pattern."""
    for given in inputs:
        text = os.fspath(given)
        if os.path.lexists(text) or not glob.has_magic(text):
            yield Path(text)
            continue
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise BadFileError(f"{text}: no such file or folder, and no match as a pattern; check the path")
        yield from map(Path, found)


def _named(cohorts: Sequence[Cohort]) -> tuple[CaseFiles, ...]:
    """All cases; identical files given twice count once.

    Raises:
        BadFileError: two cases have the same name, which output files are named after.
    """
    cases: dict[str, CaseFiles] = {}
    for case in (case for cohort in cohorts for case in cohort.cases):
        first = cases.setdefault(case.name, case)
        if first is not case and _files(first) != _files(case):
            raise BadFileError(
                f"{_shown(first)} and {_shown(case)}: both are the case {case.name}, and files are "
                "named after cases; rename one, or run them one after another, with a folder for each"
            )
    return tuple(cases.values())


def _files(case: CaseFiles) -> list[str]:
    return [os.path.abspath(path) for path in case.without_labels().paths()]


def _shown(case: CaseFiles) -> str:
    """Its first file; for DICOM, whose paths may identify the patient, the study's display name."""
    study = case.stacks[0].series
    return str(case.paths()[0]) if study is None else f"the study {study.name}"
