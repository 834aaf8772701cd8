"""Check a cohort before training: first headers, then every voxel, in parallel."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.data.stacking import arrangement_of
from nisf.data.time_axis import frames_may_be_slices, repeated_frames, same_images
from nisf.errors import NisfError
from nisf.io.dicom.study import DicomStudy
from nisf.io.dicom.volume import read_study
from nisf.io.readers.dicom_cohort import with_identifiers
from nisf.io.readers.labels import Notes, class_table
from nisf.io.readers.listing import CaseFiles, Problem, StackFiles, refuse_dead_links
from nisf.io.readers.matching import StackGeometry, image_arrangement, label_arrangement
from nisf.io.readers.measured import measured, nothing_measured
from nisf.io.readers.nifti import Header, read_header, read_numbers, read_volume
from nisf.io.readers.reading import (
    EXCHANGED,
    frames_of,
    note_geometry,
    note_thickness,
    repeats,
    undrawn_phase,
)
from nisf.io.readers.segments import names_in_file
from nisf.io.readers.several import open_inputs


@dataclass
class StackReport:
    """One stack according to its first header: spacing in mm, cycle in ms; None if it could not be read."""

    name: str
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    frames: int | None = None
    oriented: bool | None = None
    cycle_ms: float | None = None


@dataclass
class CaseReport:
    """One case.

    Attributes:
        labels: names of the labels found in its files.
        volumes_ml: mL per frame of the first stack, by label name; only with ``full``.
        series: series of a DICOM study, with guesses of what they show.
        person: identity in a DICOM study; only with ``identifiers``.
    """

    name: str
    stacks: list[StackReport] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    volumes_ml: dict[str, list[float]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    person: dict[str, str] = field(default_factory=dict)

    def error(self, message: str) -> None:
        self.problems.append(Problem(self.name, "error", message))

    def warn(self, message: str) -> None:
        self.problems.append(Problem(self.name, "warning", message))


@dataclass
class Report:
    """The result of a check.

    Attributes:
        layout: None if the cohort could not be opened.
        cases: one entry per listed case.
        problems: those of no particular case, e.g. a folder without images.
        notes: remarks about the cohort, each once.
    """

    root: Path
    anatomy: str
    layout: str | None = None
    cases: list[CaseReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def all_problems(self) -> list[Problem]:
        """Problems of the cohort, then those of its cases."""
        return self.problems + [problem for case in self.cases for problem in case.problems]

    @property
    def errors(self) -> int:
        """Number of problems that prevent a case from being read correctly."""
        return sum(problem.severity == "error" for problem in self.all_problems())

    @property
    def warnings(self) -> int:
        return sum(problem.severity == "warning" for problem in self.all_problems())

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""

        def plain(problems: list[Problem]) -> list[dict[str, str]]:
            return [{"case": p.case, "severity": p.severity, "message": p.message} for p in problems]

        return {
            "root": str(self.root),
            "anatomy": self.anatomy,
            "layout": self.layout,
            "errors": self.errors,
            "warnings": self.warnings,
            "cases": [
                {
                    "name": case.name,
                    "stacks": [dict(vars(stack)) for stack in case.stacks],
                    "labels": case.labels,
                    "volumes_ml": case.volumes_ml,
                    **({"series": case.series} if case.series else {}),
                    **({"person": case.person} if case.person else {}),
                    "problems": plain(case.problems),
                }
                for case in self.cases
            ],
            "problems": plain(self.problems),
            "notes": self.notes,
        }


def check_cohort(
    path: str | Path | Sequence[str | Path],
    anatomy: Anatomy,
    layout: str = "auto",
    full: bool = False,
    *,
    identifiers: bool = False,
) -> Report:
    """Check every case of a cohort. Problems are reported, not raised.

    Args:
        path: the cohort, or several inputs.
        anatomy: its structures.
        layout: folder layout of its cases.
        full: also measure the labels' volumes.
        identifiers: whether to show the identities in DICOM studies.
    """
    paths = [path] if isinstance(path, str | Path) else path
    report = Report(Path(paths[0]) if len(paths) == 1 else Path(), anatomy.name)
    try:
        cohort = open_inputs(paths, anatomy, layout)
        cohort = with_identifiers(cohort) if identifiers else cohort
    except NisfError as error:
        report.problems.append(Problem("", "error", str(error)))
        return report
    report.layout = cohort.layout
    if len(paths) > 1:
        report.root = cohort.root
    notes = dict(cohort.notes)
    report.cases = [CaseReport(case.name) for case in cohort.cases]
    by_name = {case.name: case for case in report.cases}
    for problem in cohort.problems:
        holder = by_name.get(problem.case)
        (report.problems if holder is None else holder.problems).append(problem)
    headers = [
        _check_headers(case, entry, anatomy, notes)
        for case, entry in zip(cohort.cases, report.cases, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib releases the interpreter lock
        jobs = [
            pool.submit(_check_voxels, case, entry, anatomy, readable, full)
            for case, entry, readable in zip(cohort.cases, report.cases, headers, strict=True)
        ]
        for job in jobs:
            job.result()
    report.notes = list(notes.values())
    return report


@contextmanager
def _noting(entry: CaseReport) -> Generator[None]:
    """Turn a `NisfError` of the block into an error of the case."""
    try:
        yield
    except NisfError as error:
        entry.error(str(error))


def _check_headers(case: CaseFiles, entry: CaseReport, anatomy: Anatomy, notes: Notes) -> dict[Path, Header]:
    """Compare the headers of each stack; returns the readable ones, by file."""
    readable: dict[Path, Header] = {}
    for stack in case.stacks:
        summary = StackReport(stack.name)
        entry.stacks.append(summary)
        if stack.series is not None:
            _check_dicom(stack.series, summary, entry, anatomy, notes)
            continue
        for path in stack.paths():
            with _noting(entry):
                refuse_dead_links([path])
                readable[path] = read_header(path)
        first = readable.get(stack.images[0][0])
        if first is None:
            continue
        note_geometry(first, notes, anatomy)
        if len(case.stacks) == 1:  # of several, single slices may be joined
            note_thickness(str(first.path), first.shape, first.grid.spacing, notes)
        x, y, z = (float(size) for size in first.grid.spacing)
        summary.shape, summary.spacing = first.shape[:3], (x, y, z)
        summary.oriented, summary.cycle_ms = first.oriented, first.cycle_ms
        with _noting(entry):
            summary.frames = frames_of(first, stack)
            late = [name for name, frame in stack.phases.items() if frame >= summary.frames]
            if late:
                entry.error(
                    f"{first.path}: {late[0]} is given as frame {stack.phases[late[0]]}, but it has "
                    f"{summary.frames} frames, counted from 0; correct the table"
                )
        _compare(stack, first, anatomy, readable, entry)
    return readable


def _check_dicom(
    study: DicomStudy, summary: StackReport, entry: CaseReport, anatomy: Anatomy, notes: Notes
) -> None:
    entry.series = study.listed()
    if not study.identifiers.hiding:
        entry.person = study.person
    with _noting(entry):
        found, voxels = read_study(study, notes)
        x, y, z = (float(size) for size in found.grid.spacing)
        summary.shape, summary.spacing, summary.frames = found.grid.shape, (x, y, z), len(found.grid.times)
        summary.oriented, summary.cycle_ms = True, found.cycle_ms
        note_thickness(study.name, found.grid.shape, found.grid.spacing, notes)
        way = arrangement_of(found.grid.shape, found.grid.affine, anatomy, oriented=True)
        _check_measured(study.name, way.apply(voxels), entry)


def _compare(
    stack: StackFiles, first: Header, anatomy: Anatomy, readable: dict[Path, Header], entry: CaseReport
) -> None:
    """Compare the geometry of each file with that of the stack's first, by the rules of reading."""
    arrangement = arrangement_of(first.shape[:3], first.affine, anatomy, oriented=first.oriented)
    on = StackGeometry(arrangement.of_grid(first.grid), arrangement)
    for path in stack.paths()[1:]:
        other = readable.get(path)
        if other is None:
            continue
        differences: Notes = {}
        with _noting(entry):
            matched = label_arrangement if path in stack.labels else image_arrangement
            matched(other, first, on, differences)
        if differences:
            entry.warn(f"{path}: its affine is not that of {first.path.name}; the image's is used")


def _check_voxels(
    case: CaseFiles, entry: CaseReport, anatomy: Anatomy, readable: dict[Path, Header], full: bool
) -> None:
    found: set[int] = set()
    for index, stack in enumerate(case.stacks):
        before: list[np.ndarray] = []
        repeated = 0
        for frame in stack.images:
            now: list[np.ndarray] = []
            for path in (path for path in frame if path in readable):
                with _noting(entry):
                    voxels, header = read_volume(path)
                    shape, oriented = header.shape[:3], header.oriented
                    way = arrangement_of(shape, header.affine, anatomy, oriented=oriented)
                    _check_measured(path, way.apply(voxels), entry)
                    now.append(voxels)
            repeated += 0 < len(now) == len(before) and same_images(zip(now, before, strict=True))
            before = now
        if repeated:
            entry.warn(f"{case.name}: {repeats(repeated, len(stack.images))}")
        names = case.numbers if stack.numbers is None else stack.numbers
        for path in (path for path in stack.labels if path in readable):
            with _noting(entry):
                numbers, header = read_numbers(path)
                remarks: Notes = {}
                table = class_table(numbers, names_in_file(path, names, anatomy, remarks), anatomy, path)
                for remark in remarks.values():
                    entry.warn(remark)
                here = {int(i) for i in np.unique(table) if i > 0}
                if len(stack.labels) == 1 and stack.phases:
                    drawn = [bool(table[numbers[..., t]].any()) for t in range(numbers.shape[3])]
                    if said := undrawn_phase(stack.phases, drawn):
                        entry.warn(f"{path}: {said}")
                found |= here
                if not here:
                    entry.warn(f"{path}: no voxel is labelled; it is treated as not annotated")
                if full and index == 0:
                    _measure(table[numbers], readable.get(stack.images[0][0], header), anatomy, entry)
    entry.labels = [anatomy.labels[i] for i in sorted(found)]
    if case.labelled and (missing := sorted(set(case.known) - set(entry.labels))):
        entry.warn(f"{case.name}: no voxel of {', '.join(missing)} in its label files")


def _check_measured(shown: Path | str, image: np.ndarray, entry: CaseReport) -> None:
    """Check the voxels (x, y, z, t, c) of an image, in the anatomy's arrangement."""
    found = measured(image)
    if found is None:
        raise nothing_measured(shown)
    if frames_may_be_slices(found.image):
        entry.warn(f"{shown}: {EXCHANGED}")
    if count := repeated_frames(found.image):
        entry.warn(f"{shown}: {repeats(count, found.image.shape[3])}")
    if found.blank:
        entry.warn(f"{shown}: {found.blank} of {found.slices.size} slices are blank; treated as not measured")
    if found.filled:
        entry.warn(
            f"{shown}: {100 * found.filled:.3g} % of the pixels are padding or not a number, and are ignored"
        )


def _measure(classes: np.ndarray, image: Header, anatomy: Anatomy, entry: CaseReport) -> None:
    """Add the volumes of classes; the size of a voxel is that of their image, as in reading."""
    for index, name in enumerate(anatomy.labels[1:], start=1):
        counts = np.count_nonzero(classes == index, axis=(0, 1, 2))
        entry.volumes_ml.setdefault(name, []).extend(float(n * image.grid.voxel_ml) for n in counts)
