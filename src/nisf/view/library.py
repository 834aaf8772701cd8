"""The cases that can be viewed: subjects in files, and scans that are segmented when they are opened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.errors import BadFileError, BadSettingError
from nisf.io.readers import CaseFiles, read_case
from nisf.io.readers.several import open_inputs
from nisf.io.source import source_case
from nisf.kinds.load import load_prior, read_subject
from nisf.prior.fit_step import OnStep
from nisf.prior.prior import Prior
from nisf.segmentation import Request, segment_case
from nisf.subject.subject import Subject
from nisf.view.findings import kept_measures
from nisf.view.live import LiveFit
from nisf.view.measured import description
from nisf.view.packets import Packet
from nisf.view.viewed import Viewed
from nisf.view.worker import Step, Work

MOST_OPEN = 2
"""Cases kept open; each may take a gigabyte."""


@dataclass(frozen=True)
class Entry:
    """One case in the list.

    Attributes:
        name: shown in the list.
        open: yields packets about its progress, then the case as a `Viewed`.
    """

    name: str
    open: Callable[[], Work]


class Library:
    """A list of cases, a few of which are open.

    Args:
        entries: the list.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self._open: OrderedDict[int, Viewed] = OrderedDict()

    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    def viewed(self, number: int) -> Viewed:
        """Return an open case.

        Raises:
            BadSettingError: it is not open.
        """
        viewed = self._open.get(number)
        if viewed is None:
            raise BadSettingError("The case is no longer open; choose it in the list again.")
        # Requests and the worker have threads of their own, and the worker may close the case.
        with suppress(KeyError):
            self._open.move_to_end(number)
        return viewed

    def put(self, number: int, viewed: Viewed) -> None:
        """Replace an open case."""
        self._open[number] = viewed

    def opening(self, number: int) -> Work:
        """Open a case; yields progress, then the case's description."""
        if not 0 <= number < len(self.entries):
            raise BadSettingError("There is no such case in the list.")
        if number not in self._open:
            for answer in self.entries[number].open():
                if isinstance(answer, Viewed):
                    self._open[number] = answer
                else:
                    yield answer
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        yield Packet(description(self.viewed(number)))


def progress(sentence: str, fraction: float) -> Packet:
    """A progress message about opening a case."""
    return Packet({"progress": sentence, "fraction": fraction})


def library_of(paths: Sequence[Path], prior: str | None, scan: Path | None, request: Request) -> Library:
    """Collect the cases at some paths: ``.nisf`` files, folders with such files, or scans.

    Args:
        paths: where to look.
        prior: prior of subjects whose prior has moved; for scans, the prior to segment with.
        scan: the images of a single subject, if they have moved.
        request: how to segment scans.

    Raises:
        BadFileError: there is nothing to view.
    """
    subjects: list[Path] = []
    scans: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.nisf")) if path.is_dir() else []
        if path.suffix == ".nisf" and not path.is_dir():
            if not path.is_file():
                raise BadFileError(f"{path}: no such file; check the path")
            subjects.append(path)
        elif inside:
            subjects += inside
        else:
            scans.append(path)
    entries = [_subject_entry(path, prior, scan) for path in subjects]
    if scans:
        entries += _scan_entries(scans, prior, request)
    return Library(entries)


def _subject_entry(path: Path, prior: str | None, scan: Path | None) -> Entry:
    def opened() -> Work:
        yield progress("Reading the subject", 0.1)
        subject = read_subject(path, prior)
        yield progress("Reading the scan", 0.5)
        case, reason = source_case(subject, scan)
        missing = f"{reason.capitalize()}; give the path of the scan that was segmented." if reason else ""
        yield Viewed(subject, case, missing, kept_measures(subject, path))

    return Entry(path.stem, opened)


def _scan_entries(paths: Sequence[Path], prior: str | None, request: Request) -> list[Entry]:
    from nisf.prior.bundled import DEFAULT

    loaded = load_prior(prior or DEFAULT)
    loaded.check_options(request.fit)
    cohort = open_inputs(paths, loaded.anatomy, labels=False)
    return [_scan_entry(files.without_labels(), loaded, loaded.anatomy, request) for files in cohort.cases]


def _scan_entry(files: CaseFiles, prior: Prior[Subject], anatomy: Anatomy, request: Request) -> Entry:
    def opened() -> Work:
        yield progress("Reading the scan", 0.1)
        case: Case = read_case(files, anatomy)
        yield progress("Finding the anatomy and segmenting", 0.2)

        def fit(see: OnStep) -> Subject:
            return segment_case(case, prior, request, inputs=files.paths(), see=see)

        subject = yield from LiveFit(fit, case).work()
        yield progress("Preparing the first view", 0.9)
        yield Step.WORKED
        yield Viewed(subject, case)

    return Entry(files.name, opened)
