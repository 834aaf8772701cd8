"""Why are hidden slices harder: is it their unknown position, or their unknown content?

    python benchmarks/hidden.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--protocol NAME]

Slices are shifted against each other, mainly by breath-holds, and no method can know the shift of a slice
that it does not see. The hidden slices of every case are scored in four ways: ``hidden``, the field's
answer without the slice; ``hidden, best moved``, the same, each slice moved in its plane by up to 6 mm to
where it agrees best with its labels; ``given``, the answer with the slice given; and ``given, placed``,
the same, each slice moved by the mean offset of its neighbours' centres (of the first structure's
labels). The last is what a method would reach that knew a hidden slice's content, but only its
neighbours' position. OUT gets ``hidden.csv``.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import product

import numpy as np
from scipy.ndimage import shift

from common import Refused, cases_of, cohort_parser, write_rows
from nisf.data.case import UNKNOWN, Case, Slice
from nisf.data.hiding import hide
from nisf.errors import exit_status
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import score_case
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.prior.prior import Prior

REACH_MM, LEAST_MM2 = 6.0, 100.0
"""How far a slice is moved at most; the first structure's area from which its centre counts."""


def best_moved(found: np.ndarray, label: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Classes (x, y), shifted by the whole pixels that minimise the differences from the labels."""
    reach = np.floor(REACH_MM / spacing[:2]).astype(int)
    known = label != UNKNOWN
    moves = product(*(range(-r, r + 1) for r in reach))
    return min(
        (np.roll(found, move, (0, 1)) for move in moves), key=lambda m: (m[known] != label[known]).sum()
    )


def centre(item: Slice | None, spacing: np.ndarray) -> np.ndarray | None:
    """Centre (pixels) of the first structure's labels; None if there is too little of it."""
    if item is None or item.label is None or (item.label == 1).sum() * spacing[0] * spacing[1] < LEAST_MM2:
        return None
    return np.argwhere(item.label == 1).mean(0)


def shifted_by(found: np.ndarray, classes: int, off: np.ndarray) -> np.ndarray:
    """Classes (x, y), shifted by ``off`` pixels, which need not be whole."""
    return np.stack([shift((found == k).astype(float), off, order=1) for k in range(classes)]).argmax(0)


def ways(case: Case, prior: Prior, protocol: str) -> tuple[Case, dict[str, np.ndarray]]:
    """The hidden slices as a case, and the classes (x, y, z, t) of each way."""
    seen, hidden = hide(case, protocol)
    grid = case.stacks[0].grid
    unseen = fit(seen, prior).render(grid).label.astype(np.int16)
    given = fit(case, prior).render(grid).label.astype(np.int16)
    best, placed = unseen.copy(), given.copy()
    at = {(s.position, s.frame): s for s in case.slices if s.stack == 0}
    for item in hidden.labelled():
        z, t = item.position, item.frame
        assert item.label is not None
        best[:, :, z, t] = best_moved(unseen[:, :, z, t], item.label, grid.spacing)
        own, below, above = (centre(at.get((z + step, t)), grid.spacing) for step in (0, -1, 1))
        if own is not None and below is not None and above is not None:
            off = (below + above) / 2 - own
            placed[:, :, z, t] = shifted_by(given[:, :, z, t], len(prior.anatomy.labels), off)
    return hidden, {"hidden": unseen, "hidden, best moved": best, "given": given, "given, placed": placed}


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, score, print and write."""
    parser = cohort_parser(__doc__, cases=None)
    parser.add_argument("--protocol", default="every-2nd-slice")
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior)
    rows: list[tuple[str, Score]] = []
    refused = Refused()
    for case in cases_of(options.cohort, prior, options.only, options.cases):
        with refused.go_on(case.name):
            hidden, found = ways(case, prior, options.protocol)
            rows += [(way, score) for way, label in found.items() for score in score_case(label, hidden)]
            print(case.name, flush=True)
    refused.check_any(rows)
    for way in dict.fromkeys(way for way, _ in rows):
        scores = [score for name, score in rows if name == way]
        each = (
            f"{name} {np.mean([s.dice for s in scores if s.label == name]):.3f}"
            for name in prior.anatomy.labels[1:]
        )
        print(f"{way:20s} {np.mean([s.dice for s in scores]):.4f}   {', '.join(each)}")
    write_rows(options.output / "hidden.csv", [{"way": way, **asdict(score)} for way, score in rows])
    return refused.status()


if __name__ == "__main__":
    raise SystemExit(exit_status("hidden.py", main))
