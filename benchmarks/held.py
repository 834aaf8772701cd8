"""What the benchmarks of fits on labelled cases share: their arguments, and reading the cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from nisf.points import CasePoints
from nisf.prior import Prior
from nisf.readers import Cohort, only_named, read_case
from nisf.validate import validation_points


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("prior", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--cases", type=int, default=8)
    return parser


def read(cohort: Cohort, prior: Prior, only: Path | None, count: int) -> list[CasePoints]:
    """The labelled cases' points, as a user's region finds them."""
    files = only_named(cohort.cases, only)[:count]
    return validation_points([read_case(f, prior.anatomy, cohort.notes) for f in files], prior)
