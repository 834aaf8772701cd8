"""Where do draws of the answer differ: between measured slices, or where the answer is wrong?

    python benchmarks/deviation.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--samples 16]

Every second slice is hidden. The deviation at a point is the largest standard deviation over its class
probabilities. The benchmark reports its mean on measured slices and between them, and the area under the
ROC curve when it separates wrong from right voxels within 10 mm of a border, next to that of 1 - p, where
p is the probability of the answer. OUT gets ``deviation.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from common import cases_of, cohort_parser, write_rows
from nisf.data.case import UNKNOWN, Case
from nisf.data.hiding import hide
from nisf.errors import exit_status
from nisf.evaluation.scores import label_volume
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.subject.answerer import Answerer
from nisf.subject.subject import Subject
from nisf.uncertainty.calibration import NEAR_MM, border_mm

ALONG = (0.0, 0.25, 0.5, 1.0)
"""Places between two measured slices, which are two positions apart: 1 is half way."""
MEMORY_MB = 512.0


def area(score: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the ROC curve: how often a wrong voxel has a higher score than a right one."""
    positive = int(wrong.sum())
    if not 0 < positive < len(wrong):
        return float("nan")
    rank = rankdata(score)[wrong].sum()
    return float((rank - positive * (positive + 1) / 2) / (positive * (len(wrong) - positive)))


def pixels_near(case: Case, z: int, t: int, truth: np.ndarray) -> np.ndarray:
    """Labelled pixels of a slice near a true border (n, 3), as voxels."""
    label = truth[:, :, z, t]
    near = border_mm(label, case.stacks[0].grid.spacing) <= NEAR_MM
    return np.c_[np.argwhere(near & (label != UNKNOWN)), np.full(int((near & (label != UNKNOWN)).sum()), z)]


def rows_of(case: Case, subject: Subject, drawn: Answerer, seen: set[int]) -> list[dict[str, Any]]:
    """For each labelled slice, the pixels near a border: their deviation, and whether the answer is wrong."""
    truth, grid, rows = label_volume(case), case.stacks[0].grid, []
    for item in case.labelled():
        z, t = item.position, item.frame
        pixel = pixels_near(case, z, t, truth)
        if not len(pixel):
            continue
        time = np.full(len(pixel), grid.times[t])
        # Along the stack only from measured slices that have another one two positions further.
        steps = ALONG if z in seen and z + 2 in seen else (0.0,)
        for along in steps:
            place = grid.affine(pixel + np.array([0.0, 0.0, along]))
            found = drawn.answer(place, time, memory_mb=MEMORY_MB)
            assert found.deviation is not None
            row = {"way": "given" if z in seen else "hidden", "along": along}
            row["deviation"] = found.deviation.max(1)
            if not along:
                best = subject.answers.answer(place, time, memory_mb=MEMORY_MB).probability
                row["wrong"] = best.argmax(1) != truth[pixel[:, 0], pixel[:, 1], z, t]
                row["doubt"] = 1 - best.max(1)
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, query the cases, print and write."""
    parser = cohort_parser(__doc__)
    parser.add_argument("--samples", type=int, default=16)
    chosen = parser.parse_args(arguments)
    prior = load_prior(chosen.prior)
    found: list[dict[str, Any]] = []
    for case in cases_of(chosen.cohort, prior, chosen.only, chosen.cases):
        seen, _ = hide(case, "every-2nd-slice")
        subject = fit(seen, prior)
        found += rows_of(case, subject, subject.drawn(chosen.samples), {s.position for s in seen.slices})
        print(f"{case.name}: asked", flush=True)
    rows: list[dict[str, Any]] = []
    for along in ALONG:
        parts = [r["deviation"] for r in found if r["way"] == "given" and r["along"] == along]
        if parts:
            rows.append({"what": "deviation", "where": f"{along:g}", "value": np.concatenate(parts).mean()})
    for way in ("given", "hidden"):
        parts = [row for row in found if row["way"] == way and not row["along"]]
        wrong = np.concatenate([row["wrong"] for row in parts])
        for name in ("deviation", "doubt"):
            score = np.concatenate([row[name] for row in parts])
            rows.append({"what": f"ROC area of {name}", "where": way, "value": area(score, wrong)})
            rows.append(
                {
                    "what": f"correlation of {name} with error",
                    "where": way,
                    "value": np.corrcoef(score, wrong)[0, 1],
                }
            )
    for row in rows:
        print(f"{row['what']:36s} {row['where']:7s} {row['value']:.4f}")
    write_rows(chosen.output / "deviation.csv", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("deviation.py", main))
