"""Figure 2: Dice of each structure and the intensity loss against inference steps, far past convergence.

Adam and the second-order fit start at the prior's mean and fit the same subjects. Losses are computed on
points that were given to neither. Times are CPU time without these measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nisf.data.points import CasePoints, batch_of
from nisf.kinds.latent.fit import fit_latents
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.second_order import fit_second_order
from nisf.kinds.latent.validation import point_dice, scored_points, step_counts
from nisf.networks.losses import intensity_bce
from nisf.paper.costs import FRAME_POINTS
from nisf.paper.needs import Needs, Part, of_paper
from nisf.paper.published import published
from nisf.paper.results import COLOURS, Result, draw, publish
from nisf.paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURED = 8192
"""Number of voxels of a case for the loss, and for Dice."""


class Measure:
    """Called with the step and the latents; records Dice, loss and time at some of the steps."""

    def __init__(self, prior: LatentPrior, cases: Sequence[CasePoints], at: Sequence[int]) -> None:
        self.field, self.names, self.cases, self.at = prior.field, prior.anatomy.labels, cases, set(at)
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
        dice = np.array(
            [
                point_dice(self.field, h, case, index, len(self.names))
                for h, case, index in zip(latent, self.cases, self.index, strict=True)
            ]
        )
        loss = []
        for i in range(len(self.cases)):
            one = slice(i, i + 1)  # one case at a time, so that memory does not grow with their number
            logits = self.field.intensity(self.unseen.coordinates[one], latent[one])
            loss.append(float(intensity_bce(logits, self.unseen.intensity[one], self.unseen.weight[one])[0]))
        self.rows.append(
            {
                "iterations": step,
                "seconds": round(self.seconds, 2),
                "dice": {n: float(v) for n, v in zip(self.names[1:], np.nanmean(dice, 0), strict=True)},
                "mean_dice": float(np.nanmean(dice)),
                "loss": float(np.mean(loss)),
                "dice_of_cases": np.nanmean(dice, 1).round(4).tolist(),
            }
        )
        self.since = time.process_time()


def curves(
    prior: LatentPrior,
    cases: Sequence[CasePoints],
    steps: int,
    iterations: int,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The curves of both methods, and the ends of the second-order fits.

    Args:
        prior: prior of the fits.
        cases: labelled.
        steps: last step of Adam.
        iterations: last iteration of the second-order fit, far past convergence.
        say: called with the outcome.
    """
    config = prior.config.fit
    model = parametrisation_of(prior.field, prior.latent_mean, prior.latent_covariance, config, cases)
    second = Measure(prior, cases, step_counts(iterations))
    past = replace(config, iterations=iterations, tolerance=0.0)
    fit_second_order(model, cases, past, callback=second)
    end = Measure(prior, cases, [])
    ended = fit_second_order(model, cases, config)
    seconds = time.process_time() - end.since
    end.at, end.since = {0}, time.process_time()
    end(0, ended.latent)
    say(
        f"second order: Dice {end.rows[0]['mean_dice']:.3f} at convergence, "
        f"{second.rows[-1]['mean_dice']:.3f} far past it"
    )
    adam = Measure(prior, cases, step_counts(steps))
    start = prior.latent_mean[None].repeat(len(cases), 1)
    fit_latents(prior.field, cases, start, replace(config, steps=steps), callback=adam)
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


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    budget, config = study.budget, study.paper.config
    points = budget.curve_steps * (config.fit.points or FRAME_POINTS)
    points += 1.5 * budget.curve_iterations * config.fit.points_last
    part = Part(
        "curves", "curves.json", 1, lambda costs: budget.curve_cases * points * costs.point(config.field)
    )
    return Needs((of_paper(study),), (part,))


def run(study: Study) -> Result:
    """The curves of the prior with the paper's network; its validated step count is marked."""
    budget, prior = study.budget, study.latent_prior(study.paper)
    cases = study.test[: budget.curve_cases]
    settings = {
        "prior": prior.fingerprint,
        "fit": asdict(prior.config.fit),
        "to": [budget.curve_steps, budget.curve_iterations],
    }

    def work() -> dict[str, Any]:
        study.say(f"fitting {len(cases)} subjects far past convergence, two ways")
        points = prior.validation_points(cases)
        return curves(prior, points, budget.curve_steps, budget.curve_iterations, study.say)

    found = study.once("curves", cases, settings, work)
    adam, second, end = found["adam"], found["second_order"], found["end"]
    best = max(adam, key=lambda row: row["mean_dice"])
    line = (
        f"{len(found['cases'])} subjects. Adam: Dice {best['mean_dice']:.3f} at best (step "
        f"{best['iterations']}), {adam[-1]['mean_dice']:.3f} at step {adam[-1]['iterations']}. Second order: "
        f"{end['mean_dice']:.3f} at convergence ({end['iterations']:.0f} iterations), "
        f"{second[-1]['mean_dice']:.3f} after {second[-1]['iterations']}. Validation had chosen "
        f"{prior.config.fit.steps} steps; the paper's {published()['best_steps']}."
    )
    rows = [
        {
            "method": name,
            "iterations": row["iterations"],
            "seconds": row["seconds"],
            "loss": row["loss"],
            "mean": row["mean_dice"],
            **row["dice"],
        }
        for key, name in (("adam", "Adam"), ("second_order", "second order"))
        for row in found[key]
    ]
    result = Result("fig2", "Figure 2: Dice and loss against inference steps", line, rows)
    publish(study.output, result, picture(found, prior.config.fit.steps))
    return result


def picture(found: dict[str, Any], validated: int | None = None) -> Figure:
    """Dice of each structure and the loss, Adam on the left and second order on the right.

    Args:
        found: the result of `curves`.
        validated: step count to mark on Adam's side.
    """
    names = list(found["adam"][0]["dice"])

    def make(figure: Figure) -> None:
        grid = figure.subplots(2, 2, sharey="row", sharex="col")
        for column, (key, title) in enumerate((("adam", "Adam"), ("second_order", "second order"))):
            rows = [row for row in found[key] if row["iterations"]]
            steps = [row["iterations"] for row in rows]
            dice, loss = grid[0, column], grid[1, column]
            for name, colour in zip(names, COLOURS, strict=False):
                dice.plot(steps, [row["dice"][name] for row in rows], color=colour, lw=1.0, label=name)
            dice.plot(steps, [row["mean_dice"] for row in rows], color="black", lw=2.0, label="mean")
            loss.plot(steps, [row["loss"] for row in rows], color="black", lw=1.5)
            marked = validated if key == "adam" else found["end"]["iterations"]
            for axes in (dice, loss):
                if marked:
                    text = "validated" if key == "adam" else "converged"
                    axes.axvline(marked, color="0.5", ls="--", lw=1.0, label=text if axes is loss else None)
                axes.grid(color="0.9")
            dice.set_title(title)
            loss.set(xlabel="iterations", xscale="log")
            loss.legend()
        grid[0, 0].set(ylabel="Dice")
        grid[1, 0].set(ylabel="intensity loss, points not given")
        handles, texts = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=len(handles))

    return draw(7.2, 5.0, make)
