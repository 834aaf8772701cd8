"""How certain is the finder on whole and on cropped images, and what does cropping cost?

    python benchmarks/found.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--dice]

A case is refused if the finder's certainty is below the prior's bound (`region.certain`). Each case is
tested as it is, and cropped to 1.5, 1.2 and 1 times the box around its labels, both in plane and along
the stack. With --dice, each is also segmented and scored within the crop. OUT gets ``found.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common import cases_of, cohort_parser, write_rows
from nisf.data.case import Case
from nisf.errors import CannotFitError, NisfError, exit_status
from nisf.evaluation.scores import score_case
from nisf.kinds.load import load_prior
from nisf.networks.finder import finder_certainty, look
from nisf.prior.prior import Prior
from robustness import rebuilt, segmented, volumes

SIDES = (1.5, 1.2, 1.0)
"""Sides of the cut, as a multiple of the box around the labels."""


def cut(case: Case, side: float) -> Case:
    """The case cropped to ``side`` times the box around its labels, as far as it was measured.

    Raises:
        CannotFitError: the case has no labels.
    """
    image, label, spacing = volumes(case)
    inside = np.asarray((label > 0).any(axis=3))
    if not inside.any():
        raise CannotFitError(f"{case.name}: has no labels, which it would be cut to")
    window: list[slice] = []
    for axis in range(3):
        found = np.flatnonzero(np.moveaxis(inside, axis, 0).reshape(inside.shape[axis], -1).any(1))
        middle, half = (found[0] + found[-1]) / 2, side * (found[-1] - found[0] + 1) / 2
        window.append(slice(max(0, round(middle - half + 0.5)), round(middle + half + 0.5)))
    part = tuple(window)
    return rebuilt(case, (image[part], label[part], spacing))


def certainty(case: Case, prior: Prior) -> float:
    """Certainty of the prior's finder, in [0, 1].

    Raises:
        CannotFitError: the prior has no finder.
    """
    if prior.finder is None:
        raise CannotFitError("this prior has no finder; give one that finds its region")
    return finder_certainty(look(case, prior.finder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, test the finder, print and write."""
    parser = cohort_parser(__doc__, cases=None)
    parser.add_argument("--dice", action="store_true")
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior)
    asked = prior.config.region.certain
    rows: list[dict[str, Any]] = []
    for case in cases_of(options.cohort, prior, options.only, options.cases):
        row: dict[str, Any] = {"case": case.name}
        for name, made in (("whole", case), *((f"{side:g} x", cut(case, side)) for side in SIDES)):
            row[name] = certainty(made, prior)
            if options.dice:
                row[f"Dice {name}"] = scored(made, prior)
        rows.append(row)
        print(case.name, *(f"{key} {value:.3f}" for key, value in list(row.items())[1:]), flush=True)
    for name in list(rows[0])[1:]:
        values = np.array([row[name] for row in rows])
        refused = "" if name.startswith("Dice") else f", {(values < asked).sum()} below {asked:g}"
        said = np.flatnonzero(np.isfinite(values))
        if not len(said):
            print(f"{name:12s} every case is refused")
            continue
        least = rows[said[values[said].argmin()]]["case"]
        print(
            f"{name:12s} mean {values[said].mean():.4f}, least {values[said].min():.3f} ({least}){refused}; "
            f"{len(said)} cases"
        )
    write_rows(options.output / "found.csv", rows)
    return 0


def scored(case: Case, prior: Prior) -> float:
    """Mean Dice of a case; NaN if it is refused."""
    try:
        return float(np.mean([score.dice for score in score_case(segmented(case, prior), case)]))
    except NisfError:
        return float("nan")


if __name__ == "__main__":
    raise SystemExit(exit_status("found.py", main))
