"""How does mean Dice change if a case is presented differently?

    python benchmarks/robustness.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]

Every case is segmented unchanged and after each change: slices in reverse order, the stack rotated by 90
degrees or mirrored, intensities scaled, gamma 0.7 and 1.4, a bias field. Labels are changed accordingly,
and Dice is computed on the changed case's own grid. Then with pixels of half and of twice the size: the
answer is rendered on the original grid, on which the labels were drawn. OUT gets ``robustness.csv``, with
empty cells for refused cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from common import Refused, cases_of, cohort_parser, write_rows
from nisf.data.case import Case, intensity_range, slices_of_volume
from nisf.data.geometry import Affine, Grid
from nisf.errors import exit_status
from nisf.evaluation.scores import label_volume, score_case
from nisf.kinds.load import load_prior
from nisf.paper.resample import resampled
from nisf.prior.fit import fit
from nisf.prior.prior import Prior

Volumes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image (x, y, z, t), label (x, y, z, t), spacing (3,)."""


def volumes(case: Case) -> Volumes:
    """The reference stack of a case."""
    grid = case.stacks[0].grid
    image = np.zeros((*grid.shape, len(grid.times)), dtype=np.float32)
    for item in case.slices:
        if item.stack == 0:
            image[:, :, item.position, item.frame] = item.image[..., 0]
    return image, label_volume(case), grid.spacing


def rebuilt(case: Case, changed: Volumes) -> Case:
    """The case with another reference stack, aligned with the world axes."""
    image, label, spacing = changed
    grid = Grid(image.shape[:3], Affine.scaling(spacing), case.stacks[0].grid.times)
    image = np.ascontiguousarray(image)[..., None]
    stack = replace(case.stacks[0], grid=grid, intensity_range=intensity_range(image))
    return replace(case, stacks=(stack,), slices=slices_of_volume(image, np.ascontiguousarray(label), grid))


def with_gamma(v: Volumes, gamma: float) -> Volumes:
    """Intensities with another contrast."""
    low, high = v[0].min(), v[0].max()
    return low + (high - low) * ((v[0] - low) / (high - low)) ** gamma, v[1], v[2]


def with_bias(v: Volumes) -> Volumes:
    """Intensities times a factor from 0.6 to 1.4 across the image."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in v[0].shape[:2]), indexing="ij")
    return v[0] * (1 + 0.4 * np.sin(1.5 * x + y))[:, :, None, None].astype(np.float32), v[1], v[2]


CHANGES: dict[str, Callable[[Volumes], Volumes]] = {
    "reverse order": lambda v: (v[0][:, :, ::-1], v[1][:, :, ::-1], v[2]),
    "rotated by 90": lambda v: (np.rot90(v[0]), np.rot90(v[1]), v[2][[1, 0, 2]]),
    "mirrored": lambda v: (v[0][::-1], v[1][::-1], v[2]),
    "scaled": lambda v: (3.7 * v[0] + 50, v[1], v[2]),
    "gamma 0.7": lambda v: with_gamma(v, 0.7),
    "gamma 1.4": lambda v: with_gamma(v, 1.4),
    "bias field": with_bias,
}


PIXELS = {"pixels 0.5x as large": 0.5, "pixels 2x as large": 2.0}
"""Other pixels: the factor on their size."""


def segmented(case: Case, prior: Prior, grid: Grid | None = None) -> np.ndarray:
    """Classes (x, y, z, t) of a case on a grid, by default its own."""
    return fit(case, prior).render(grid).label.astype(np.int16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, segment after every change, print and write."""
    options = cohort_parser(__doc__, cases=None).parse_args(arguments)
    prior = load_prior(options.prior)
    rows: dict[str, dict[str, float]] = {}
    refused = Refused()
    for case in cases_of(options.cohort, prior, options.only, options.cases):
        same = volumes(case)
        found = {}
        for name, change in {"as it is": lambda v: v, **CHANGES}.items():
            with refused.go_on(f"{case.name} {name}"):
                changed = rebuilt(case, change(same))
                found[name] = score_case(segmented(changed, prior), changed)
        for name, factor in PIXELS.items():
            grid = case.stacks[0].grid
            with refused.go_on(f"{case.name} {name}"):
                found[name] = score_case(segmented(resampled(case, factor), prior, grid), case)
        for name in ("as it is", *CHANGES, *PIXELS):
            dice = [score.dice for score in found.get(name, ())]
            rows.setdefault(name, {})[case.name] = float(np.mean(dice)) if dice else float("nan")
        print(case.name, " ".join(f"{name} {row[case.name]:.3f}" for name, row in rows.items()), flush=True)
    refused.check_any([dice for row in rows.values() for dice in row.values() if np.isfinite(dice)])
    plain = np.array(list(rows["as it is"].values()))
    print(f"{'':15s} mean Dice   change   largest change of a case")
    for name, row in rows.items():
        change = np.array(list(row.values())) - plain
        both = np.isfinite(change)
        if both.any():
            change, base = change[both], plain[both].mean()
            most = change[np.abs(change).argmax()]
            print(f"{name:15s} {base + change.mean():.4f}   {change.mean():+.4f}   {most:+.4f}")
    table = [
        {"case": name, **{way: row[name] if np.isfinite(row[name]) else "" for way, row in rows.items()}}
        for name in rows["as it is"]
    ]
    write_rows(options.output / "robustness.csv", table)
    return refused.status()


if __name__ == "__main__":
    raise SystemExit(exit_status("robustness.py", main))
