"""Does the answer depend on which of eight in-plane orientations a stack is stored in?

    python benchmarks/turned.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--unoriented]

Every case is segmented as stored, and rotated by quarters and mirrored. The answers are turned back and
compared with the answer for the case as stored, and with the labels. Cases with a patient orientation are
read in the same way however they are stored, so this concerns the others; with ``--unoriented``, the
orientation of all is ignored. For a prior with an orienter, the table also shows how often it finds the
right orientation, and how certain it is. OUT gets ``turned.csv``, one row per case and orientation, from
which an interrupted run resumes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import Refused, cases_of, cohort_parser, write_rows
from nisf.data.case import Case
from nisf.errors import exit_status
from nisf.evaluation.metrics import dice
from nisf.evaluation.scores import score_case
from nisf.kinds.load import load_prior
from nisf.networks.orienter import way_probabilities
from nisf.prior.prior import Prior
from robustness import rebuilt, segmented, volumes

WAYS = {
    f"{90 * quarters} degrees{', mirrored' if mirror else ''}": (quarters, mirror)
    for mirror in (False, True)
    for quarters in range(4)
}
"""Quarter turns after a mirror along the first axis; the first way changes nothing."""


def turned(array: np.ndarray, quarters: int, mirror: bool) -> np.ndarray:
    """An array (x, y, ...), mirrored, then turned in its plane."""
    return np.rot90(array[::-1] if mirror else array, quarters)


def turned_back(array: np.ndarray, quarters: int, mirror: bool) -> np.ndarray:
    """The inverse of `turned`."""
    back = np.rot90(array, -quarters)
    return back[::-1] if mirror else back


def rows_of(case: Case, prior: Prior) -> list[dict[str, Any]]:
    """Dice of each structure against the answer as stored, and mean Dice against the labels, by orientation.

    Raises:
        NisfError: the case cannot be segmented in one of the orientations.
    """
    image, label, spacing = volumes(case)
    probability = None if prior.orienter is None else way_probabilities(case, prior.orienter)
    own, sure = ("", "") if probability is None else (probability[0], probability.max())
    rows: list[dict[str, Any]] = []
    first: np.ndarray | None = None
    for way, (quarters, mirror) in WAYS.items():
        sides = spacing[[1, 0, 2]] if quarters % 2 else spacing
        changed = (turned(image, quarters, mirror), turned(label, quarters, mirror), sides)
        found = turned_back(segmented(rebuilt(case, changed), prior), quarters, mirror)
        first = found if first is None else first
        row: dict[str, Any] = {"case": case.name, "way": way}
        for k, name in enumerate(prior.anatomy.labels[1:], start=1):
            row[name] = dice(found == k, first == k)
        scores = score_case(np.ascontiguousarray(found), rebuilt(case, (image, label, spacing)))
        reference = float(np.mean([score.dice for score in scores]))
        rows.append({**row, "own way": own, "surest way": sure, "reference": reference})
    return rows


def done_before(path: Path) -> list[dict[str, Any]]:
    """The rows that an earlier run wrote."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                key: value if key in ("case", "way") or not value else float(value)
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, segment in every orientation, print and write."""
    parser = cohort_parser(__doc__, cases=None)
    parser.add_argument("--unoriented", action="store_true", help="as if no case said how it lies")
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior)
    path = options.output / "turned.csv"
    rows = done_before(path)
    done, refused = {row["case"] for row in rows}, Refused()
    for case in cases_of(options.cohort, prior, options.only, options.cases):
        if case.name in done:
            continue
        with refused.go_on(case.name):
            stacks = tuple(replace(s, oriented=s.oriented and not options.unoriented) for s in case.stacks)
            mine = rows_of(replace(case, stacks=stacks), prior)
            rows += mine
            write_rows(path, rows)
            print(case.name, *(f"{row['way']} {row['reference']:.3f}" for row in mine), flush=True)
    refused.check_any(rows)
    print_means(rows, prior.anatomy.labels[1:])
    return refused.status()


def print_means(rows: Sequence[dict[str, Any]], structures: Sequence[str]) -> None:
    """Print mean and minimum over the cases for each orientation."""
    first = {row["case"]: row["reference"] for row in rows if row["way"] == next(iter(WAYS))}
    print(
        f"{'':24s} Dice against the case as it is: mean (least)   change of Dice against labels: mean (worst)"
    )
    for way in WAYS:
        mine = [row for row in rows if row["way"] == way]
        same = "  ".join(
            f"{name} {np.nanmean(values):.4f} ({np.nanmin(values):.3f})"
            for name, values in ((name, [row[name] for row in mine]) for name in structures)
        )
        change = [row["reference"] - first[row["case"]] for row in mine]
        print(f"{way:24s} {same}   {np.mean(change):+.4f} ({min(change):+.4f})")
    spread = [np.ptp([row["reference"] for row in rows if row["case"] == name]) for name in first]
    print(
        f"best minus worst way of a case: mean {np.mean(spread):.4f}, most {max(spread):.4f}; "
        f"{len(first)} cases"
    )
    found = [row for row in rows if row["way"] == next(iter(WAYS)) and row["surest way"] != ""]
    if found:
        own = sum(row["own way"] == row["surest way"] for row in found)
        sure = [row["surest way"] for row in found]
        print(
            f"the way is the case's own in {own} of {len(found)} cases; it has a probability of "
            f"{np.mean(sure):.2f}, at least {min(sure):.2f}"
        )


if __name__ == "__main__":
    raise SystemExit(exit_status("turned.py", main))
