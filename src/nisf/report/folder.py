"""Reports of an output folder: a page per case, the cohort's page, and the key to their names."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from nisf import __version__
from nisf.data.case import Case
from nisf.errors import MALFORMED, BadFileError, NisfError
from nisf.files import replacing, write_csv
from nisf.io.source import source_case
from nisf.kinds.load import read_subject
from nisf.measures.case import CaseMeasures
from nisf.measures.table import case_path
from nisf.measures.table import read_case as read_measures
from nisf.outputs import read_record, recorded_file
from nisf.prior.prior import Prior
from nisf.report import case_page, cohort_page
from nisf.subject.subject import Subject

INDEX, KEY = "index.html", "report-key.csv"


@dataclass(frozen=True)
class ReportOptions:
    """Options of reports.

    Attributes:
        identifiers: show the cases' names; otherwise numbers, which `KEY` resolves.
        only: names of the cases; all if None.
        references: reference value by case and column, for the cohort's page.
        overwrite: remake pages whose inputs have not changed, and replace files that are in the way,
            whoever wrote them.
        memory_mb: working memory, MiB.
    """

    identifiers: bool = False
    only: frozenset[str] | None = None
    references: Mapping[str, Mapping[str, float]] | None = None
    overwrite: bool = False
    memory_mb: float = 512.0


def write_reports(
    folder: str | Path,
    prior: Prior[Subject] | str | Path | None = None,
    options: ReportOptions | None = None,
    *,
    to: str | Path | None = None,
    cases: Mapping[str, Case] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Write a page for each subject of a folder, and one for the cohort.

    Args:
        folder: output folder of `nisf segment`.
        prior: prior of the subjects; if None, found from the subjects' files.
        options: options of the reports.
        to: folder of the pages; by default, ``report`` inside the output folder.
        cases: measured images by case name, for subjects whose files should not be searched for.
        say: called with sentences about what is drawn and written.

    Returns:
        Errors, by the names of the cases without a page.

    Raises:
        BadFileError: there is no subject, or nothing can be written.
    """
    folder, options = Path(folder), options or ReportOptions()
    to = folder / "report" if to is None else Path(to)
    names = subjects_in(folder, options.only)
    write = Writer(folder, to, options.overwrite, say)
    titles = {name: name for name in names} if options.identifiers else numbered(folder, names, write)
    pages = page_names(titles)
    failed: dict[str, str] = {}
    rows: list[tuple[str, str, CaseMeasures | None]] = []
    for number, name in enumerate(names, start=1):
        try:
            measures = measures_of(folder, name)
            path, mark = to / pages[name], made_from(folder, name, titles[name])
            if options.overwrite or not _same(path, mark):
                say(f"[{number}/{len(names)}] {titles[name]}: drawing its page")
                subject = read_subject(folder / f"{name}.nisf", prior)
                case, missing = _measured(subject, (cases or {}).get(name), titles[name], say)
                page = case_page.case_page(
                    subject,
                    measures,
                    case,
                    titles[name],
                    missing=missing,
                    made_from=mark,
                    versions=versions_of(folder, name),
                    memory_mb=options.memory_mb,
                )
                write.text(path, case_page.as_html(page, INDEX))
            rows.append((titles[name], pages[name], measures))
        except NisfError as error:
            failed[name] = str(error)
    if rows:
        _write_index(write, rows, options.references)
    return failed


def subjects_in(folder: Path, only: frozenset[str] | None = None) -> list[str]:
    """The names of the cases that a folder has a subject of, sorted; only some of them if ``only`` is given.

    Raises:
        BadFileError: there is none.
    """
    names = sorted(path.name.removesuffix(".nisf") for path in folder.glob("*.nisf"))
    if not names:
        raise BadFileError(f"{folder}: contains no subject (NAME.nisf); give the output folder of 'segment'")
    chosen = names if only is None else [name for name in names if name in only]
    if not chosen:
        raise BadFileError(f"{folder}: contains none of the cases to report on; check their names")
    return chosen


@dataclass(frozen=True)
class Writer:
    """Writes the files of a report, without replacing files that nisf did not write.

    Attributes:
        folder: folder of the subjects; its record lists the pages too if they are inside it.
        to: folder of the pages.
        overwrite: replace any file.
        say: called with what was written.
    """

    folder: Path
    to: Path
    overwrite: bool
    say: Callable[[str], None]

    def recorded(self, path: Path) -> AbstractContextManager[object]:
        """Context in which a file is written."""
        within = path.resolve().is_relative_to(self.folder.resolve())
        home = self.folder if within else self.to
        return recorded_file(path, "report", folder=home, overwrite=self.overwrite)

    def text(self, path: Path, text: str) -> None:
        """Write a page."""
        with self.recorded(path), replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        self.say(f"wrote {path}")


def page_names(titles: Mapping[str, str]) -> dict[str, str]:
    """A file name for each title; all differ, even when case is ignored."""
    out, taken = {}, {INDEX}
    for name, title in titles.items():
        word = re.sub(r"[^\w.+()-]+", "-", title.lower() if title.startswith("Case ") else title)
        page, k = f"{word}.html", 2
        while page.lower() in taken:
            page, k = f"{word}-{k}.html", k + 1
        taken.add(page.lower())
        out[name] = page
    return out


def measures_of(folder: Path, name: str) -> CaseMeasures | None:
    """The measures of a case; None if there are none."""
    path = case_path(folder, name)
    return read_measures(path) if path.is_file() else None


def versions_of(folder: Path, name: str) -> Mapping[str, str] | None:
    """Versions of what a subject was made with, from its record; None without one."""
    try:
        parts = read_record(folder, name).parts.values()
    except BadFileError:
        return None
    return next((part.versions for part in parts if f"{name}.nisf" in part.files), None)


def numbered(folder: Path, names: Sequence[str], write: Writer) -> dict[str, str]:
    """Titles instead of the cases' names: ``Case 001`` and so on, kept in `KEY` for later reports.

    Raises:
        BadFileError: the key is damaged, or cannot be written.
    """
    path, known = folder / KEY, {}
    if path.is_file():
        try:
            with path.open(newline="", encoding="utf-8") as file:
                known = {row["case"]: int(row["number"]) for row in csv.DictReader(file)}
        except (OSError, csv.Error, *MALFORMED) as error:
            raise BadFileError(f"{path}: not a key of reports ({error!r}); delete it") from error
    following = 1 + max(known.values(), default=0)
    new = {name: following + k for k, name in enumerate(n for n in names if n not in known)}
    if new:
        known |= new
        with write.recorded(path):
            write_csv(path, ["case", "number"], known.items())
    return {name: f"Case {known[name]:03}" for name in names}


def made_from(folder: Path, name: str, title: str) -> str:
    """Digest of the subject's file, its measures, its title and the version of nisf."""
    digest = hashlib.sha256(f"{__version__} {title}".encode())
    for path in (folder / f"{name}.nisf", case_path(folder, name)):
        digest.update(path.read_bytes() if path.is_file() else b"none")
    return digest.hexdigest()[:16]


def _measured(
    subject: Subject, given: Case | None, title: str, say: Callable[[str], None]
) -> tuple[Case | None, str]:
    """The measured case, given or read again; or None and the reason, which is also said."""
    if given is not None:
        return given, ""
    case, missing = source_case(subject)
    if missing:
        say(f"{title}: {missing}, so its page shows the field's intensities")
    return case, missing


def _write_index(
    write: Writer,
    rows: Sequence[tuple[str, str, CaseMeasures | None]],
    references: Mapping[str, Mapping[str, float]] | None,
) -> None:
    """Write the cohort's page, and say which reference values it does not use."""
    write.text(write.to / INDEX, cohort_page.as_html(cohort_page.cohort_page(rows, references)))
    for sentence in cohort_page.unmatched(references, rows) if references is not None else ():
        write.say(f"note: {sentence}")


def _same(path: Path, mark: str) -> bool:
    """Whether a page was made from the same inputs."""
    if not path.is_file():
        return False
    # A file that is in the way need not be text.
    with path.open(encoding="utf-8", errors="replace") as file:
        return f'content="{mark}"' in file.read(2000)
