"""The listing of a layout: which files belong to which case, before anything is read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nisf.data.anatomy import Anatomy
from nisf.data.case import BACKGROUND, UNKNOWN_NAME
from nisf.data.wording import counted
from nisf.errors import BadFileError
from nisf.io.dicom.study import DicomStudy
from nisf.io.readers.itk import ENDINGS


@dataclass(frozen=True)
class StackFiles:
    """The files of one stack.

    Attributes:
        name: e.g. ``sa``.
        images: per frame, the files of its channels; a single entry may be a 4D file with all frames.
        labels: one label file or None per entry of `images`.
        times: fractions of the cycle, one per frame; None: frame ``k`` of ``n`` at ``k / n``.
        phases: index of the frame of each named phase.
        numbers: label numbers of this stack, if they differ from those of the case.
        series: the DICOM study that the stack is from; `images` are then its files, in any order.
    """

    name: str
    images: tuple[tuple[Path, ...], ...]
    labels: tuple[Path | None, ...]
    times: tuple[float, ...] | None = None
    phases: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[int, str] | None = None
    series: DicomStudy | None = None

    def paths(self) -> tuple[Path, ...]:
        """Every file of the stack, images first."""
        images = tuple(path for frame in self.images for path in frame)
        return images + tuple(path for path in self.labels if path is not None)

    def without_labels(self) -> StackFiles:
        """The images only."""
        return replace(self, labels=(None,) * len(self.labels))


@dataclass(frozen=True, repr=False)
class CaseFiles:
    """The files of one case, and the meaning of their label numbers.

    Attributes:
        name: unique in the cohort.
        layout: the layout that found it.
        stacks: the first one becomes the reference stack.
        numbers: label names by number; 0 is background.
        known: names of the labels that the annotators drew.
        background_known: whether unlabelled voxels are background; if labels of the anatomy were not drawn,
            another structure may be hidden there, and these voxels are unknown.
        attributes: other metadata, e.g. ``{"group": "DCM"}``.
    """

    name: str
    layout: str
    stacks: tuple[StackFiles, ...]
    numbers: Mapping[int, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    background_known: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        files = sum(len(stack.paths()) for stack in self.stacks)
        counts = f"{counted(len(self.stacks), 'stack')}, {counted(files, 'file')}"
        return f"CaseFiles({self.name!r}, {self.layout}, {counts}{', labelled' if self.labelled else ''})"

    def without_labels(self) -> CaseFiles:
        """The images only, which is all that a fit may see, and which need no readable labels."""
        return replace(self, stacks=tuple(stack.without_labels() for stack in self.stacks))

    @property
    def labelled(self) -> bool:
        return any(path is not None for stack in self.stacks for path in stack.labels)

    def paths(self) -> tuple[Path, ...]:
        """Every file of the case, stack by stack."""
        return tuple(path for stack in self.stacks for path in stack.paths())


@dataclass(frozen=True)
class Problem:
    """A problem of a case, or (``case == ""``) of the cohort."""

    case: str
    severity: Literal["error", "warning"]
    message: str


@dataclass
class Listing:
    """The result of a layout, filled while it walks through the folder.

    Attributes:
        notes: one sentence per kind of remark, so that each is reported once per cohort.
        label_problems: warnings that do not matter if only images are read.
        skipped: files and folders that are not cases of the layout.
        labels_unknown: why the labels of a case, or (name "") of the cohort, cannot be read, although its
            images can.
    """

    cases: list[CaseFiles] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    label_problems: list[Problem] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    skipped: list[Path] = field(default_factory=list)
    labels_unknown: dict[str, str] = field(default_factory=dict)

    def error(self, case: str, message: str) -> None:
        self.problems.append(Problem(case, "error", message))

    def warn(self, case: str, message: str) -> None:
        self.problems.append(Problem(case, "warning", message))

    def warn_of_labels(self, case: str, message: str) -> None:
        self.label_problems.append(Problem(case, "warning", message))

    def leave_out_cine(self, cine: Path) -> None:
        """Note that a whole cine is not used beside single frames of it."""
        self.notes.setdefault(
            "cine",
            f"{cine} (and maybe others): the whole cine is not used beside the frames with labels; to "
            "segment all its frames, give this file",
        )

    @contextmanager
    def costs(self, folder: Path) -> Generator[None]:
        """Context in which a folder that cannot be listed loses its case, not the cohort."""
        try:
            yield
        except OSError as error:
            self.error(folder.name, _unlisted(folder, error))


def case_files(
    name: str,
    layout: str,
    stacks: Iterable[StackFiles],
    anatomy: Anatomy,
    numbers: Mapping[int, str],
    *,
    known: Iterable[str] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> CaseFiles:
    """A case whose annotators drew ``known``: by default every label that has a number."""
    stacks = tuple(stacks)
    labelled = any(path is not None for stack in stacks for path in stack.labels)
    named = numbers.values() if known is None else known
    drawn = frozenset(named) - {BACKGROUND, UNKNOWN_NAME} if labelled else frozenset()
    return CaseFiles(
        name=name,
        layout=layout,
        stacks=stacks,
        numbers=numbers,
        known=drawn,
        background_known=drawn >= set(anatomy.labels[1:]),
        attributes=attributes or {},
    )


def numbers_of(anatomy: Anatomy, layout: str) -> Mapping[int, str]:
    """The anatomy's label numbers for a layout, or none: then images can be read, labels cannot."""
    return anatomy.numbers.get(layout, {})


def match_names(numbers: Mapping[int, str], anatomy: Anatomy, source: Path) -> dict[int, str]:
    """Spell the names of a user's table as in the anatomy (case does not matter).

    Raises:
        BadFileError: a name that the anatomy does not have.
    """
    spelled = {**anatomy.spelled(), UNKNOWN_NAME: UNKNOWN_NAME}
    strange = [name for name in numbers.values() if name.lower() not in spelled]
    if strange:
        labels = ", ".join(anatomy.labels)
        raise BadFileError(
            f"{source}: the label '{strange[0]}' is not one of {anatomy.name}'s ({labels}); "
            f"use these names ('{BACKGROUND}' for what should be ignored), or an anatomy file with yours"
        )
    return {number: spelled[name.lower()] for number, name in numbers.items()}


def existing(folder: Path, name: str) -> Path | None:
    """The image ``folder/name``, NIfTI before other formats; None if there is none.

    Dead links count too, after all readable files.
    """
    names = [f"{name}{ending}" for ending in (".nii.gz", ".nii", *ENDINGS)]
    # As text first: most candidates do not exist, and path objects are slow to make.
    listed = _names_in(str(folder))
    if listed is None:
        there = [one for one in names if os.path.lexists(os.path.join(folder, one))]
    else:
        there = [one for one in names if one in listed]
    found = [path for path in (folder / one for one in there) if is_listed(path)]
    return min(found, key=is_dead_link, default=None)


_LISTED: ContextVar[OrderedDict[str, frozenset[str]] | None] = ContextVar("listed", default=None)
LISTED = 16
"""Number of folders whose listings are cached."""


@contextmanager
def each_folder_once() -> Generator[None]:
    """Context in which `existing` lists each folder once, instead of testing every possible file name."""
    token = _LISTED.set(OrderedDict())
    try:
        yield
    finally:
        _LISTED.reset(token)


def _names_in(folder: str) -> frozenset[str] | None:
    """Names in a folder; None outside `each_folder_once`, or if it cannot be listed."""
    known = _LISTED.get()
    if known is None:
        return None
    if folder not in known:
        try:
            known[folder] = frozenset(os.listdir(folder))
        except OSError:
            return None
        while len(known) > LISTED:
            known.popitem(last=False)
    return known[folder]


def is_listed(path: Path) -> bool:
    """Whether a folder lists the file; a dead link (git-annex) is a file that is missing here."""
    return path.is_file() or is_dead_link(path)


def is_dead_link(path: Path) -> bool:
    """Whether the path is a link with a missing target."""
    return path.is_symlink() and not os.path.exists(path)  # includes links that lead to themselves


def refuse_dead_links(paths: Iterable[Path]) -> None:
    """Report dead links as such, before a reader says that there is no such file.

    Raises:
        BadFileError: one of the paths is a dead link.
    """
    for path in paths:
        if is_dead_link(path):
            raise BadFileError(
                f"{path}: a link with a missing target; fetch it (git annex get, datalad get), or repair "
                "the link"
            )


def subfolders(root: Path) -> list[Path]:
    """Visible folders in ``root``, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def any_case(is_case: Callable[[Path], bool], root: Path) -> bool:
    """Whether ``root`` is or contains the folder of a case; folders that cannot be listed are ignored."""

    def answers(folder: Path) -> bool:
        try:
            return is_case(folder)
        except OSError:
            return False

    return is_case(root) or any(answers(folder) for folder in subfolders(root))


def whole_number(text: str) -> int | None:
    """Integer value of plain digits; None for anything else, including more than nine digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def _unlisted(folder: Path, error: OSError) -> str:
    return f"{folder}: cannot be listed ({error.strerror or error}); check its permissions"
