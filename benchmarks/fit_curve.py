"""Dice and intensity loss against iterations, far past the end: Adam and second order in one picture.

    python benchmarks/fit_curve.py COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N] [--steps 2000]
                                   [--iterations 200] [--set fit.prior_strength=0.1 ...]

Both start at the prior's mean and fit the same cases, all at once. OUT gets ``curve.json`` and
``curve.png``. The second-order fit goes on past its end, which is marked; Adam has no end of its own.
Losses are over points that neither method was given. Seconds are of processor time, measuring left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from held import parser_of, read
from nisf.files import replacing
from nisf.fitting import fit_latents
from nisf.losses import intensity_bce
from nisf.picture import STYLE, new_figure, save_figure
from nisf.points import CasePoints, batch_of
from nisf.prior import Prior, load_prior
from nisf.readers import open_cohort
from nisf.second_order import fit_second_order
from nisf.settings import override
from nisf.unknowns import subject_of
from nisf.validate import point_dice, scored_points, step_counts

MEASURED = 8192
"""Voxels of a case for the loss, and as many for Dice."""


class Measure:
    """Called with the step and the latents; keeps Dice, loss and seconds at some of the steps."""

    def __init__(self, prior: Prior, cases: Sequence[CasePoints], at: Sequence[int]) -> None:
        self.prior, self.cases, self.at = prior, cases, set(at)
        self.index = scored_points(cases, 1, MEASURED)
        rng = np.random.default_rng([2, 4])
        self.unseen = batch_of([(case, case.draw(rng, MEASURED)) for case in cases])
        self.rows: list[dict[str, Any]] = []
        self.seconds, self.since = 0.0, time.process_time()

    @torch.no_grad()
    def __call__(self, step: int, latent: Tensor) -> None:
        if step not in self.at:
            return
        self.seconds += time.process_time() - self.since
        names = self.prior.anatomy.labels
        dice = np.array(
            [
                point_dice(self.prior.field, h, case, index, len(names))
                for h, case, index in zip(latent, self.cases, self.index, strict=True)
            ]
        )
        loss = [
            float(
                intensity_bce(
                    self.prior.field.intensity(self.unseen.coordinates[i : i + 1], latent[i : i + 1]),
                    self.unseen.intensity[i : i + 1],
                    self.unseen.weight[i : i + 1],
                )[0]
            )
            for i in range(len(self.cases))
        ]
        self.rows.append(
            {
                "iterations": step,
                "seconds": round(self.seconds, 2),
                "dice": {name: float(v) for name, v in zip(names[1:], np.nanmean(dice, 0), strict=True)},
                "mean_dice": float(np.nanmean(dice)),
                "loss": float(np.mean(loss)),
                "dice_of_cases": np.nanmean(dice, 1).round(4).tolist(),
            }
        )
        self.since = time.process_time()


def curves(
    prior: Prior, cases: Sequence[CasePoints], steps: int, iterations: int, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Both methods' curves, and where the second-order fits ended by themselves."""
    config = prior.config.fit
    subject = subject_of(prior.field, prior.latent_mean, prior.latent_covariance, config, cases)
    second = Measure(prior, cases, step_counts(iterations))
    past = replace(config, iterations=iterations, tolerance=0.0)
    fit_second_order(subject, cases, past, watch=second)
    end = Measure(prior, cases, [])
    ended = fit_second_order(subject, cases, config)
    seconds = time.process_time() - end.since
    end.at, end.since = {0}, time.process_time()
    end(0, ended.latent)
    say(
        f"second order: Dice {end.rows[0]['mean_dice']:.3f} at its end, "
        f"{second.rows[-1]['mean_dice']:.3f} far past it"
    )
    adam = Measure(prior, cases, step_counts(steps))
    start = prior.latent_mean[None].repeat(len(cases), 1)
    fit_latents(prior.field, cases, start, replace(config, steps=steps), watch=adam)
    best = max(adam.rows, key=lambda row: row["mean_dice"])
    say(
        f"Adam: Dice {best['mean_dice']:.3f} at best (step {best['iterations']}), "
        f"{adam.rows[-1]['mean_dice']:.3f} far past it"
    )
    return {
        "cases": [case.name for case in cases],
        "prior": prior.fingerprint,
        "adam": adam.rows,
        "second_order": second.rows,
        "end": {
            **end.rows[0],
            "iterations": float(ended.iterations.double().mean()),
            "iterations_of_cases": ended.iterations.tolist(),
            "converged": ended.converged.tolist(),
            "seconds": round(seconds, 2),
        },
    }


def picture(found: dict[str, Any], path: Path) -> None:
    """Dice and loss against iterations and seconds, on logarithmic axes."""
    import matplotlib as mpl

    kinds = (("adam", "Adam", "#777777"), ("second_order", "second order", "#d1495b"))
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(8.0, 5.0)
        grid = figure.subplots(2, 2, sharey="row", sharex="col")
        for row, (value, name) in enumerate((("mean_dice", "Dice"), ("loss", "intensity loss"))):
            for column, across in enumerate(("iterations", "seconds")):
                axes = grid[row, column]
                for key, label, colour in kinds:
                    rows = [r for r in found[key] if r["iterations"]]
                    axes.plot([r[across] for r in rows], [r[value] for r in rows], color=colour, label=label)
                end = found["end"]
                axes.plot(end[across], end[value], "o", color="#d1495b", label="ends by itself")
                axes.set(xscale="log")
                if row:
                    axes.set(
                        xlabel=across if column == 0 else f"seconds, {len(found['cases'])} cases together"
                    )
                if not column:
                    axes.set(ylabel=name)
        grid[0, 0].legend()
        save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--set", nargs="*", default=[])
    chosen = parser.parse_args(arguments)
    prior = load_prior(chosen.prior)
    prior.config = override(prior.config, chosen.set)
    cases = read(open_cohort(chosen.cohort, prior.anatomy), prior, chosen.only, chosen.cases)
    found = curves(prior, cases, chosen.steps, chosen.iterations)
    chosen.output.mkdir(parents=True, exist_ok=True)
    with replacing(chosen.output / "curve.json") as path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    picture(found, chosen.output / "curve.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
