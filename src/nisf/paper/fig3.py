"""Figure 3: an unseen subject fitted with priors from several stages of their training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.case import Case
from nisf.data.region import pixel_positions
from nisf.evaluation.scores import label_volume, score_case
from nisf.paper.needs import Needs, Part, of_paper, one_fit
from nisf.paper.results import Result, draw, publish
from nisf.paper.study import Study
from nisf.paper.windows import window_of
from nisf.picture import Panel, draw_panel, legend_of
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.prior.snapshots import prior_at, snapshot_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    stages = Part("stages of training", "snapshots/*.json", len(study.budget.snapshots), one_fit)
    return Needs((of_paper(study),), (stages,))


def run(study: Study) -> Result | None:
    """Fit one test subject with each stage; None (and a sentence) if the prior has no snapshots."""
    prior = study.prior(study.paper)
    assert prior.folder is not None
    steps = snapshot_steps(prior.folder)
    if not steps:
        study.say(f"fig3 left out: {prior.folder} has no snapshots of its training")
        return None
    case = study.test[len(study.test) // 2]
    frame = min(s.frame for s in case.labelled())
    # A picture needs one frame, and the paper's volumes have no more.
    case = case.keep(lambda s: s.frame == frame)
    columns, rows = [], []
    for step in steps:
        found = study.once(
            f"snapshots/step-{step}",
            [case],
            {"prior": prior.fingerprint, "fit": vars(prior.config.fit)},
            lambda step=step: _fitted(case, prior_at(prior, step), frame),
        )
        rows.append({"step": step, **found["dice"], "mse": found["mse"]})
        columns.append((step, np.array(found["image"]), np.array(found["label"])))
        study.say(f"after {step} steps: Dice {np.mean(list(found['dice'].values())):.3f}")
    first, last = rows[0], rows[-1]
    names = study.anatomy.labels[1:]

    def mean(row: dict[str, Any]) -> float:
        return float(np.mean([row[name] for name in names if name in row]))

    line = (
        f"Subject {case.name}. Dice {mean(first):.3f} with the prior after {first['step']} steps, "
        f"{mean(last):.3f} after {last['step']}; mean square error {first['mse']:.4f} and {last['mse']:.4f}."
    )
    result = Result("fig3", "Figure 3: the prior at several stages of its training", line, rows)
    publish(study.output, result, _figure(study, case, frame, columns))
    return result


def _middle(case: Case, frame: int) -> int:
    """The middle slice of those with labels."""
    positions = sorted(
        s.position
        for s in case.labelled()
        if s.frame == frame and s.label is not None and (s.label > 0).any()
    )
    return positions[len(positions) // 2]


def _fitted(case: Case, prior: Prior, frame: int) -> dict[str, Any]:
    """Dice, error, and the middle slice's reconstruction and segmentation, for a fit with ``prior``."""
    prior = replace(prior, config=replace(prior.config, fit=replace(prior.config.fit, method="adam")))
    fitted = fit(case, prior)
    rendering = fitted.render()
    scores = score_case(rendering.label.astype(np.int16), case)
    stack, position = case.stacks[0], _middle(case, frame)
    errors = []
    for item in case.slices:
        answer = rendering.image[:, :, item.position, item.frame]
        inside = fitted.region.contains(pixel_positions(item))  # the field gives no answer outside
        errors.append((stack.normalise(answer) - stack.normalise(item.image))[inside].ravel())
    i, j = window_of(case)
    return {
        "dice": {score.label: score.dice for score in scores},
        "mse": float(np.square(np.concatenate(errors)).mean()),
        "image": rendering.image[i, j, position, frame, 0].round(1).tolist(),
        "label": rendering.label[i, j, position, frame].tolist(),
    }


def _figure(study: Study, case: Case, frame: int, columns: list) -> Figure:
    stack, position = case.stacks[0], _middle(case, frame)
    i, j = window_of(case)
    item = next(s for s in case.slices if s.position == position and s.frame == frame)
    spacing = (float(stack.grid.spacing[0]), float(stack.grid.spacing[1]))
    measured = np.asarray(item.image)[i, j, 0]
    reference = label_volume(case)[i, j, position, frame]
    vmax = float(np.percentile(measured, 99.5))
    above = [Panel(f"{step} steps", image, spacing=spacing, vmax=vmax) for step, image, _ in columns]
    below = [
        Panel("", measured, label=label, outline=reference, spacing=spacing, vmax=vmax)
        for _, _, label in columns
    ]
    above.append(Panel("measured", measured, spacing=spacing, vmax=vmax))
    below.append(Panel("reference", measured, label=reference, spacing=spacing, vmax=vmax))

    def make(figure: Figure) -> None:
        grid = figure.subplots(2, len(above), squeeze=False)
        for line, panels in zip(grid, (above, below), strict=True):
            for axes, panel in zip(line, panels, strict=True):
                draw_panel(axes, panel, study.anatomy)
        legend_of(figure, study.anatomy)

    return draw(1.6 * len(above), 3.8, make)
