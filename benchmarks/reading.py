"""How much of the error is convention: in which slices a structure is drawn at all?

    python benchmarks/reading.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]

Readers differ in how far towards base and apex they draw. Cases are segmented as `nisf segment` does and
scored twice: unchanged, and with each structure removed from the slices in which the reference has none,
which no method can know without the readers' convention. Volumes are sums of slices in mL (with assumed
voxel sizes where a cohort has no true ones): the difference between model and readers in slices that both
drew, the volume in slices that only the model drew, how much of it lies next to a slice of the readers, and
the volume in slices that only the readers drew. OUT gets ``reading.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from common import cases_of, cohort_parser, write_rows
from nisf.data.case import UNKNOWN, Case
from nisf.errors import exit_status
from nisf.evaluation.metrics import dice_of_structures
from nisf.evaluation.scores import label_volume, phase_name
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.prior.prior import Prior


def as_read(label: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """A segmentation (x, y, z), without each structure in the slices in which the reference lacks it."""
    out = label.copy()
    for k in range(1, classes):
        lacking = ~(reference == k).any((0, 1))
        out[(label == k) & lacking] = 0
    return out


def rows_of(case: Case, prior: Prior) -> Iterator[dict[str, Any]]:
    """Dice and volumes of each structure at each labelled frame."""
    truth, grid = label_volume(case), case.stacks[0].grid
    label = fit(case, prior).render().label
    classes, voxel_ml = len(case.labels), float(np.prod(grid.spacing)) / 1000
    for t, time in enumerate(grid.times):
        reference = truth[..., t]
        if not (reference > 0).any():
            continue
        found = np.where(reference == UNKNOWN, 0, label[..., t])
        restricted = as_read(found, reference, classes)
        scores = [dice_of_structures(one.ravel(), reference.ravel(), classes) for one in (found, restricted)]
        for k in range(1, classes):
            ours, theirs = ((one == k).sum((0, 1)) * voxel_ml for one in (found, reference))
            both = (ours > 0) & (theirs > 0)
            beside = np.convolve(theirs > 0, np.ones(3), "same") > 0
            yield {
                "case": case.name,
                "phase": phase_name(case, float(time)),
                "label": case.labels[k],
                "dice": scores[0][k - 1],
                "dice_as_read": scores[1][k - 1],
                "both_ml": (ours - theirs)[both].sum(),
                "only_model_ml": ours[theirs == 0].sum(),
                "of_it_next_ml": ours[(theirs == 0) & beside].sum(),
                "only_readers_ml": theirs[ours == 0].sum(),
            }


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, segment, score, print and write."""
    options = cohort_parser(__doc__, cases=None).parse_args(arguments)
    prior = load_prior(options.prior)
    rows = [
        row
        for case in cases_of(options.cohort, prior, options.only, options.cases)
        for row in rows_of(case, prior)
    ]
    names = ("dice", "dice_as_read", "both_ml", "only_model_ml", "of_it_next_ml", "only_readers_ml")
    print(f"{'':28s}" + "".join(f"{name:>17s}" for name in names))
    means = []
    for key in sorted({(row["label"], row["phase"]) for row in rows}):
        chosen = [row for row in rows if (row["label"], row["phase"]) == key]
        means.append([float(np.nanmean([row[name] for row in chosen])) for name in names])
        print(f"{' '.join(key):28s}" + "".join(f"{value:17.4f}" for value in means[-1]))
    print(f"{'mean':28s}" + "".join(f"{value:17.4f}" for value in np.mean(means, axis=0)[:2]))
    write_rows(options.output / "reading.csv", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("reading.py", main))
