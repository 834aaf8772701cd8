"""Are the probabilities calibrated? Reliability diagram and expected calibration error on labelled cases.

    python benchmarks/calibration.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--choose NAMES.txt]

Every case is fitted with the second-order method. The benchmark compares the answer of the fitted latent
with the answer averaged over the latent's posterior. ``--choose`` first chooses the strength of the prior
and the temperature of the posterior on other cases, as training does. OUT gets ``calibration.json`` and
``calibration.png``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import cohort_parser
from nisf.data.points import CasePoints
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.second_order import fit_second_order
from nisf.kinds.latent.selection import calibration, choose_fit
from nisf.kinds.latent.validation import point_dice, scored_points
from nisf.picture import STYLE, new_figure, save_figure
from workloads import points_of, prior_of_kind

SAMPLES, VOXELS = 32, 4096


def compare(prior: LatentPrior, cases: Sequence[CasePoints]) -> dict[str, Any]:
    """Reliability of the fitted latents' answers and of the answers averaged over the posterior."""
    config = prior.config.fit
    model = parametrisation_of(prior.field, prior.latent_mean, prior.latent_covariance, config, cases)
    fits = fit_second_order(model, cases, replace(config, temperature=1.0))
    index = scored_points(cases, 1)
    dice = [
        point_dice(prior.field, latent, case, i, len(prior.anatomy.labels))
        for latent, case, i in zip(fits.latent, cases, index, strict=True)
    ]
    out: dict[str, Any] = {
        "cases": [case.name for case in cases],
        "mean_dice": float(np.nanmean(dice)),
        "prior_strength": config.prior_strength,
        "temperature": config.temperature,
    }
    for name, temperature in (("latent alone", 0.0), ("averaged over the posterior", config.temperature)):
        found = calibration(prior.field, fits, temperature, cases, 1, samples=SAMPLES, count=VOXELS)
        out[name] = {
            "expected_calibration_error": found.expected_error,
            "confidence": [None if np.isnan(v) else round(float(v), 4) for v in found.confidence],
            "accuracy": [None if np.isnan(v) else round(float(v), 4) for v in found.accuracy],
            "count": found.count.tolist(),
        }
    return out


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw the reliability diagram: accuracy against confidence; on the diagonal they agree."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(4.5, 4.0)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        for name, colour in (("latent alone", "#777777"), ("averaged over the posterior", "#d1495b")):
            bins = [
                (x, y)
                for x, y, n in zip(
                    *(found[name][k] for k in ("confidence", "accuracy", "count")), strict=True
                )
                if n >= 20
            ]
            error = found[name]["expected_calibration_error"]
            axes.plot(*zip(*bins, strict=True), "o-", color=colour, label=f"{name} (ECE {error:.3f})")
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0.2, 1), ylim=(0, 1))
        axes.legend()
        save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, compare, print and write."""
    parser = cohort_parser(__doc__)
    parser.add_argument("--choose", type=Path)
    chosen = parser.parse_args(arguments)
    prior = prior_of_kind(chosen.prior, LatentPrior)
    if chosen.choose:
        others = points_of(chosen.cohort, prior, chosen.choose, chosen.cases)
        fit = choose_fit(
            prior.field,
            prior.latent_mean,
            prior.latent_covariance,
            others,
            prior.config,
            prior.anatomy.labels,
            print,
        )
        prior = replace(prior, config=replace(prior.config, fit=fit))
    found = compare(prior, points_of(chosen.cohort, prior, chosen.only, chosen.cases))
    write_json(chosen.output / "calibration.json", found)
    picture(found, chosen.output / "calibration.png")
    for name in ("latent alone", "averaged over the posterior"):
        print(f"{name}: expected calibration error {found[name]['expected_calibration_error']:.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("calibration.py", main))
