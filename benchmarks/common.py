"""What the benchmarks share: arguments, cohorts, cases that are refused, tables."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nisf.data.case import Case
from nisf.errors import NisfError
from nisf.files import replacing
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.prior.prior import Prior


def new_parser(text: str | None) -> argparse.ArgumentParser:
    """An argument parser that prints ``text`` without re-wrapping it."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def prior_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser of ``PRIOR --data DATA -o OUT``.

    Args:
        text: text of the help.
    """
    parser = new_parser(text)
    parser.add_argument("prior", help="folder, or name of a model that comes with nisf")
    parser.add_argument("--data", type=Path, required=True, help="cohort with labels")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser


def cohort_parser(text: str | None, cases: int | None = 8) -> argparse.ArgumentParser:
    """A parser of ``COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]``.

    Args:
        text: text of the help.
        cases: default of ``--cases``; None for all.
    """
    parser = new_parser(text)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("prior", help="folder, or name of a model that comes with nisf")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--cases", type=int, default=cases)
    return parser


def phantom_or_cohort_parser(
    text: str | None,
) -> tuple[argparse.ArgumentParser, list[argparse.ArgumentParser]]:
    """A parser of ``phantom PRIOR -o OUT`` and ``cohort COHORT PRIOR -o OUT [--only NAMES.txt]``.

    Args:
        text: text of the help.

    Returns:
        The parser, whose ``verb`` is the chosen form, and the parsers of both forms, for further arguments.
    """
    parser = new_parser(text)
    verbs = parser.add_subparsers(dest="verb", required=True)
    forms = []
    for verb in ("phantom", "cohort"):
        form = verbs.add_parser(verb)
        if verb == "cohort":
            form.add_argument("cohort", type=Path)
            form.add_argument("--only", type=Path)
        form.add_argument("prior", help="folder, or name of a model that comes with nisf")
        form.add_argument("-o", "--output", type=Path, required=True)
        forms.append(form)
    return parser, forms


def device_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser of ``-o OUT [--device cuda] [--quick]``, for benchmarks without a cohort."""
    parser = new_parser(text)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    return parser


def cases_of(folder: Path, prior: Prior, only: Path | None, count: int | None = None) -> Iterator[Case]:
    """Yield the first ``count`` cases that ``only`` names; cases that cannot be read are reported at the end.

    Raises:
        NisfError: none of them can be read.
    """
    found = open_cohort(folder, prior.anatomy)
    reader = CaseReader(found, prior.anatomy, only_named(found.cases, only)[:count])
    yield from (case for _, case in reader if isinstance(case, Case))
    for line in reader.lines():
        print(line, file=sys.stderr)
    if len(reader.failed) == len(reader):
        raise NisfError(f"{folder}: none of {len(reader)} cases can be read")


@dataclass(frozen=True)
class Refused:
    """Items that could not be processed; the benchmark goes on without them.

    Attributes:
        sentences: the error messages, by name of the item.
    """

    sentences: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def go_on(self, name: str) -> Generator[None]:
        """Record a `NisfError` of the block instead of passing it on."""
        try:
            yield
        except NisfError as error:
            self.sentences[name] = str(error)
            print(f"refused: {name}: {error}", file=sys.stderr, flush=True)

    def status(self) -> int:
        """Exit status of the benchmark; prints which items its numbers leave out."""
        if self.sentences:
            print(f"refused, not in these numbers: {', '.join(self.sentences)}")
        return 1 if self.sentences else 0

    def check_any(self, done: Collection[Any]) -> None:
        """Raise if nothing was processed.

        Raises:
            NisfError: every item failed; the message is that of the first.
        """
        if not done:
            raise NisfError(f"nothing could be measured ({next(iter(self.sentences.values()), 'no case')})")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file, completely or not at all; the keys of the first row are the columns."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
