"""How certain must a section be? Dice against the threshold, which is chosen on other cases.

    python benchmarks/certainty.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]

Training chooses each structure's threshold (`fit.certain`) on its validation cases, so scores of these
cases are optimistic. Here every second case goes into one half and the others into the other half; the
threshold that is best on one half is evaluated on the other, in both directions. Two protocols: all
slices given, and every second slice hidden. Dice is computed from at most 16,384 voxels per volume, with
islands kept. OUT gets ``certainty.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common import cases_of, cohort_parser, write_rows
from nisf.errors import exit_status
from nisf.kinds.image.model import ImagePrior
from nisf.kinds.image.selection import CANDIDATES, Answered, classes_of, dice_of_class, least_certainty
from nisf.kinds.image.validation import answers, validation_cases
from workloads import prior_of_kind

Asked = tuple[float, ...]


def scores(volumes: Sequence[Answered], asked: Asked) -> np.ndarray:
    """Dice of each structure in each volume (v, k); NaN where neither answer nor label has the structure."""
    found = [classes_of(volume, asked) for volume in volumes]
    structures = range(1, len(asked) + 1)
    return np.array(
        [[dice_of_class(f, volume, k) for k in structures] for f, volume in zip(found, volumes, strict=True)]
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, query the cases, score, print and write."""
    options = cohort_parser(__doc__, cases=None).parse_args(arguments)
    prior = prior_of_kind(options.prior, ImagePrior)
    field, anatomy = prior.field, prior.anatomy
    cases = list(cases_of(options.cohort, prior, options.only, options.cases))
    halves: list[dict[str, list[Answered]]] = []
    for half in (cases[::2], cases[1::2]):
        found = [(case, prior.search.find(case)[0]) for case in half]
        parts = validation_cases(found, prior.config.image, 0)
        said = [list(answers(field, part, both=anatomy.reorder, mirrors=prior.mirrors)) for part in parts]
        halves.append(dict(zip(("given", "hidden"), said, strict=True)))
    classes = len(anatomy.labels)
    none: Asked = (0.0,) * (classes - 1)
    chosen = [least_certainty([*half["given"], *half["hidden"]], classes) for half in halves]
    ways = {
        "nothing asked": [none, none],
        "the prior's own": [prior.config.fit.certain or none] * 2,
        "chosen on the other half": chosen[::-1],
    }
    rows: list[dict[str, Any]] = []
    for way, asked in ways.items():
        print(f"{way}: {' and '.join(str(a) for a in dict.fromkeys(asked))}")
        for kind in ("given", "hidden"):
            dice = np.concatenate([scores(h[kind], a) for h, a in zip(halves, asked, strict=True)])
            each = dict(zip(anatomy.labels[1:], np.nanmean(dice, axis=0), strict=True))
            print(
                f"  {kind:7s} {np.nanmean(dice):.4f}   {', '.join(f'{n} {d:.3f}' for n, d in each.items())}"
            )
            rows += [{"way": way, "slices": kind, "label": n, "dice": d} for n, d in each.items()]
    for k, name in enumerate(anatomy.labels[1:]):
        for kind in ("given", "hidden"):
            volumes = [volume for half in halves for volume in half[kind]]
            for least in CANDIDATES:
                dice = scores(volumes, (*none[:k], least, *none[k + 1 :]))[:, k]
                mean = float(np.nanmean(dice))
                rows.append({"way": f"at least {least:g}", "slices": kind, "label": name, "dice": mean})
    write_rows(options.output / "certainty.csv", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("certainty.py", main))
