"""What benchmarks share: their arguments, and reading labelled cases."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from nisf.data.case import Case
from nisf.data.points import CasePoints
from nisf.errors import NisfError
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.prior.prior import Prior


def parser_of(text: str | None, cases: int | None = 8) -> argparse.ArgumentParser:
    """COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N].

    Args:
        text: of the help.
        cases: how many are taken if nothing is said; None for all.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("prior", help="folder, or name of a model that comes with nisf")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--cases", type=int, default=cases)
    return parser


def device_parser(text: str | None) -> argparse.ArgumentParser:
    """-o OUT [--device cuda] [--quick], of those that need no cohort."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    return parser


def cases_of(cohort: Path, prior: Prior, only: Path | None, count: int | None) -> Iterator[Case]:
    """The first ``count`` cases of those that ``only`` names, one by one; those left out are told at the end.

    Raises:
        NisfError: none of them can be read.
    """
    found = open_cohort(cohort, prior.anatomy)
    reader = CaseReader(found, prior.anatomy, only_named(found.cases, only)[:count])
    yield from (case for _, case in reader if isinstance(case, Case))
    for line in reader.lines():
        print(line, file=sys.stderr)
    if len(reader.failed) == len(reader):
        raise NisfError(f"{cohort}: none of {len(reader)} cases can be read")


def points_of(cohort: Path, prior: Prior, only: Path | None, count: int | None) -> list[CasePoints]:
    """The labelled cases' points, as a user's region finds them."""
    return prior.validation_points(list(cases_of(cohort, prior, only, count)))
