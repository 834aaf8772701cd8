"""Open a cohort: recognise the layout of its folder, and list its cases without reading them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.wording import counted
from nisf.errors import BadFileError, BadSettingError
from nisf.io.dicom.sources import ARCHIVES
from nisf.io.readers.labels import Notes
from nisf.io.readers.layouts import LAYOUTS, dicom
from nisf.io.readers.listing import (
    CaseFiles,
    Listing,
    Problem,
    StackFiles,
    each_folder_once,
    is_dead_link,
    refuse_dead_links,
)
from nisf.io.readers.nifti import is_image_name, stem
from nisf.io.readers.reading import read_case
from nisf.outputs import file_stem, is_file_stem

__all__ = ["CaseFiles", "Cohort", "Problem", "StackFiles", "open_cohort", "read_case", "read_image"]


@dataclass(frozen=True, repr=False)
class Cohort:
    """The listed cases of a folder, not yet read.

    Attributes:
        root: the path that was opened.
        layout: a name of `LAYOUTS`, or ``file`` for a single image.
        labels: the anatomy's label names, background first.
        cases: in the order of their folders or rows.
        problems: problems found while listing.
        notes: remarks by kind, to which readers add theirs; `CaseReader` combines them for display.
    """

    root: Path
    layout: str
    labels: tuple[str, ...]
    cases: tuple[CaseFiles, ...]
    problems: tuple[Problem, ...] = ()
    notes: Notes = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = (
            counted(len(found), what)
            for found, what in ((self.cases, "case"), (self.problems, "problem"), (self.notes, "note"))
        )
        return f"Cohort({self.root.name!r}, {self.layout}, {', '.join(counts)})"


def open_cohort(path: str | Path, anatomy: Anatomy, layout: str = "auto", *, labels: bool = True) -> Cohort:
    """List the cases of a cohort folder, one case folder, one image file or a manifest CSV.

    Args:
        path: path of the folder or file.
        anatomy: its structures.
        layout: a name of `LAYOUTS`; ``auto`` recognises the layout.
        labels: whether labels will be read; if not, their names are not checked.

    Raises:
        BadFileError: the path does not exist or holds no case, or the anatomy lacks a label name.
        BadSettingError: the layout is unknown.
    """
    with each_folder_once():
        return _opened(Path(path), anatomy, layout, labels=labels)


def _opened(root: Path, anatomy: Anatomy, layout: str, *, labels: bool) -> Cohort:
    """The implementation of `open_cohort` for a normalised path."""
    if layout not in ("auto", *LAYOUTS):
        raise BadSettingError(
            f"{layout}: no such layout; give one of auto, {', '.join(LAYOUTS)}", options=["layout"]
        )
    refuse_dead_links([root])
    if not os.path.exists(root):
        raise BadFileError(f"{root}: no such file or folder; check the path")
    if not root.is_file() and not root.is_dir():
        raise BadFileError(f"{root}: neither a file nor a folder; give one")
    # "." has no name, but case folders are recognised by theirs.
    root = root if root.name not in ("", "..") else root.resolve()
    if root.is_file() and dicom.takes_file(root):
        layout = "dicom"
    elif root.is_file() and root.suffix.lower() != ".csv":
        return Cohort(root, "file", anatomy.labels, (_single(root),))
    layout = recognise(root) if layout == "auto" else layout
    if root.is_file() and layout not in ("manifest", "dicom"):
        raise BadFileError(
            f"{root}: a file, but the layout {layout} is a folder; give the folder", options=["layout"]
        )
    try:
        listing: Listing = LAYOUTS[layout].list_cases(root, anatomy)
        if layout != "dicom":  # which searches at any depth, and hides patients' IDs in names
            _find_dead_links(root, listing)
    except OSError as error:
        raise BadFileError(f"{root}: cannot be listed ({error}); check its permissions") from error
    if labels:
        listing.problems += listing.label_problems
        _refuse_labels(listing)
    _note_skipped(listing)
    cases = _usable(listing)
    if not cases:
        reason = listing.problems[0].message.removeprefix(f"{root}: ") if listing.problems else ""
        reason = f" ({reason})" if reason else ""
        raise BadFileError(
            f"{root}: no case of the layout {layout} in it{reason}; check path and layout", options=["layout"]
        )
    return Cohort(root, layout, anatomy.labels, cases, tuple(listing.problems), listing.notes)


def recognise(root: Path) -> str:
    """Recognise the layout of a folder or CSV file.

    Raises:
        BadFileError: no layout fits.
    """
    try:
        for name, layout in LAYOUTS.items():
            if (root.is_dir() or name == "manifest") and layout.recognises(root):
                return name
    except OSError as error:
        raise BadFileError(f"{root}: cannot be listed ({error}); check its permissions") from error
    if root.is_file():
        raise BadFileError(f"{root}: not a manifest; its first row must have the columns case and image")
    files = sorted(root.iterdir())
    packed = [path for path in files if path.name.lower().endswith(ARCHIVES) and not is_image_name(path)]
    if packed:
        raise BadFileError(
            f"{root}: holds an archive ({packed[0].name}) and no known images; unpack it, and give "
            "the new folder"
        )
    empty = "no known layout" if files else "an empty folder"
    raise BadFileError(
        f"{root}: {empty} ({', '.join(LAYOUTS)}); give the folder right above the cases, or a CSV file with "
        "the columns case,image,label"
    )


def read_image(path: str | Path, anatomy: Anatomy, notes: Notes | None = None) -> Case:
    """Read one NIfTI file as a case without labels, named after the file.

    Raises:
        BadFileError: the file cannot be read.
    """
    return read_case(_single(Path(path)), anatomy, notes)


def _single(path: Path) -> CaseFiles:
    if not is_image_name(path):
        raise BadFileError(
            f"{path}: not a .nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr or .hdr file, a cohort folder, or a "
            "manifest CSV; give one"
        )
    return CaseFiles(stem(path), "file", (StackFiles("image", ((path,),), (None,)),))


def _find_dead_links(root: Path, listing: Listing) -> None:
    """An error for each dead link that may be a case, its image or its folder, and belongs to no case."""
    taken = {path for case in listing.cases for path in case.paths()}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        looks = is_image_name(path) or not (path.suffix or path.name.startswith("."))
        if looks and is_dead_link(path) and path not in taken:
            try:
                refuse_dead_links([path])
            except BadFileError as error:
                listing.error(stem(path), str(error))


def _note_skipped(listing: Listing) -> None:
    """One note about all skipped files, the first few by name."""
    if names := [path.name for path in listing.skipped]:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        listing.notes["skipped"] = (
            f"{listing.skipped[0].parent}: skipped, because the layout has no such images: "
            f"{', '.join(names[:5])}{more}"
        )


def _refuse_labels(listing: Listing) -> None:
    """Leave out the cases whose labels cannot be read.

    Raises:
        BadFileError: the labels of no case can be read.
    """
    unknown = dict(listing.labels_unknown)
    if "" in unknown:
        raise BadFileError(unknown[""])
    for name, sentence in unknown.items():
        listing.error(name, sentence)
    listing.cases = [case for case in listing.cases if case.name not in unknown]


def _usable(listing: Listing) -> tuple[CaseFiles, ...]:
    """The cases with unique names that are valid in file names; problems for the others."""
    cases: dict[str, CaseFiles] = {}
    for case in listing.cases:
        if case.name in cases:
            listing.error(
                case.name,
                f"{case.stacks[0].images[0][0]}: the case name {case.name} is already used for "
                f"{cases[case.name].stacks[0].images[0][0]}; only the first is used, rename one",
            )
        elif not is_file_stem(case.name):
            # Output files are named after cases: "../x" would leave the output folder.
            listing.error(
                case.name,
                f"{case.name[:200]!r} cannot name a case, because files are named after it; rename it, "
                f"e.g. {file_stem(case.name)}",
            )
        else:
            cases[case.name] = case
    return tuple(cases.values())


def only_named(cases: Sequence[CaseFiles], path: Path | None) -> list[CaseFiles]:
    """The cases listed by name in a text file, one per line; all cases without a file.

    Raises:
        BadFileError: the file cannot be read, or names a case that is not there.
    """
    if path is None:
        return list(cases)
    names = names_in(path, [case.name for case in cases])
    return [case for case in cases if case.name in names]


def names_in(path: Path, known: Sequence[str]) -> set[str]:
    """Read case names from a text file, one per line.

    Args:
        path: the file.
        known: the existing names.

    Raises:
        BadFileError: the file cannot be read, names no case, or one that does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path}: cannot be read as a list of case names ({error})") from error
    names = {line.strip() for line in lines if line.strip()}
    missing = sorted(names - set(known))
    if missing or not names:
        what = f"case {missing[0]} is not in the cohort ({len(missing)} such)" if missing else "names no case"
        raise BadFileError(f"{path}: {what}; write one case name per line")
    return names
