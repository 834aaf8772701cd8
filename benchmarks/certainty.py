"""How sure a section has to be: Dice against what is asked for, and of a choice made on other cases.

    python benchmarks/certainty.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]

Training chooses the least certainty of each structure's sections on its validation cases (`fit.certain`),
so their scores with it are not those of unseen cases. Here the cases are split into two halves, every second
one in each; what is best on one half is measured on the other, both ways. All slices given, and every 2nd
hidden; Dice from up to 16,384 voxels a volume, islands kept. OUT gets ``certainty.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

import numpy as np

from held import cases_of, parser_of
from nisf.errors import BadSettingError, exit_status
from nisf.files import replacing
from nisf.kinds.image.validation import answers, validation_cases
from nisf.kinds.load import load_prior
from nisf.networks.image_field import ImageField
from nisf.subject.sections import CANDIDATES, Answered, classes_of, dice_of_class, least_certainty

Asked = tuple[float, ...]


def scores(volumes: Sequence[Answered], asked: Asked) -> np.ndarray:
    """Dice of each structure in each volume (v, k); NaN where there is none."""
    found = [classes_of(of, asked) for of in volumes]
    structures = range(1, len(asked) + 1)
    return np.array(
        [[dice_of_class(f, of, k) for k in structures] for f, of in zip(found, volumes, strict=True)]
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse, ask, score, print, write."""
    options = parser_of(__doc__, cases=None).parse_args(arguments)
    prior = load_prior(options.prior)
    field, anatomy = prior.field, prior.anatomy
    if not isinstance(field, ImageField):
        raise BadSettingError(f"{options.prior}: has no image-conditioned field, whose sections these are")
    cases = list(cases_of(options.cohort, prior, options.only, options.cases))
    halves: list[dict[str, list[Answered]]] = []
    for half in (cases[::2], cases[1::2]):
        held = validation_cases([(case, prior.search.find(case)[0]) for case in half], prior.config.image, 0)
        found = [list(answers(field, part, both=anatomy.reorder, mirrors=prior.mirrors)) for part in held]
        halves.append(dict(zip(("given", "hidden"), found, strict=True)))
    classes = len(anatomy.labels)
    none: Asked = (0.0,) * (classes - 1)
    chosen = [least_certainty([*half["given"], *half["hidden"]], classes) for half in halves]
    ways = {
        "nothing asked": [none, none],
        "the prior's own": [prior.config.fit.certain or none] * 2,
        "chosen on the other half": chosen[::-1],
    }
    rows = []
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
            volumes = [of for half in halves for of in half[kind]]
            for least in CANDIDATES:
                dice = scores(volumes, (*none[:k], least, *none[k + 1 :]))[:, k]
                mean = float(np.nanmean(dice))
                rows.append({"way": f"at least {least:g}", "slices": kind, "label": name, "dice": mean})
    options.output.mkdir(parents=True, exist_ok=True)
    with replacing(options.output / "certainty.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["way", "slices", "label", "dice"])
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("certainty.py", main))
