"""Table 1: Dice of each structure, mean and standard deviation over test subjects, and the paper's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nisf.paper.methods import (
    FROZEN,
    OURS,
    PAPER,
    SECOND,
    UNET,
    UNET_SHAPE,
    UNFROZEN,
    by_unet,
    frozen,
    of_subjects,
    ours,
    score_method,
    second_order,
    unfrozen,
)
from nisf.paper.needs import Needs, Part, of_image, of_network, of_paper, one_fit, scored
from nisf.paper.published import SUBJECTS, published_dice
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    cases = study.budget.unfrozen_cases
    steps = Part(
        "step count of fits with free weights", "unfrozen-steps.json", 1, lambda costs: cases * one_fit(costs)
    )
    scores = scored(study, "none", (FROZEN, SECOND, OURS, UNFROZEN, UNET_SHAPE))
    return Needs((of_paper(study), of_image(study), of_network(study)), (steps, *scores))


def run(study: Study) -> Result:
    """All methods on the same test subjects, with all slices given."""
    methods = [frozen(study), unfrozen(study), second_order(study), ours(study), *by_unet(study)[:1]]
    rows = []
    for method in methods:
        rows += [
            {**row, "method": UNET if method.name == UNET_SHAPE else method.name}
            for row in score_method(study, method)
        ]
    names = list(dict.fromkeys(row["method"] for row in rows))
    labels = [label for label in study.anatomy.labels[1:] if any(row["label"] == label for row in rows)]
    found = {
        name: {label: of_subjects([r for r in rows if r["method"] == name], label) for label in labels}
        | {"mean": of_subjects([r for r in rows if r["method"] == name])}
        for name in names
    }
    summary = {
        name: {
            label: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for label, v in dice.items()
        }
        for name, dice in found.items()
    }
    if theirs := published_dice(labels):
        summary = {PAPER: theirs, **summary}
    table = [["method", *labels, "mean", "HD95 mm", "s per subject", "subjects"]]
    for name, dice in summary.items():
        mine = [row for row in rows if row["method"] == name]
        cells = [f"{dice[label][0]:.3f} ± {dice[label][1]:.3f}" for label in (*labels, "mean")]
        if mine:
            seconds = np.median(of_subjects(mine, value="seconds"))
            cells += [f"{of_subjects(mine, value='hd95_mm').mean():.1f}", f"{seconds:.1f}"]
            cells += [str(len({row["case"] for row in mine}))]
        else:
            cells += ["", "", f"{SUBJECTS} (UK Biobank)"]
        table.append([name, *cells])
    best = max(names, key=lambda name: summary[name]["mean"][0])
    line = f"Mean Dice {summary[best]['mean'][0]:.3f} at best ({best}); " + "; ".join(
        f"{name} {summary[name]['mean'][0]:.3f}" for name in summary if name != best
    )
    result = Result("table1", "Table 1: Dice over test subjects", line + ".", rows, table)
    publish(study.output, result, _figure(summary, [*labels, "mean"]))
    return result


def _figure(summary: dict[str, dict[str, tuple[float, float]]], labels: list[str]) -> Figure:
    def make(figure: Figure) -> None:
        axes = figure.subplots()
        for i, (name, dice) in enumerate(summary.items()):
            place = np.arange(len(labels)) + (i - (len(summary) - 1) / 2) * 0.8 / len(summary)
            mean, spread = np.array([dice[label] for label in labels]).T
            axes.errorbar(
                place,
                mean,
                spread,
                ls="",
                capsize=2,
                label=name,
                **look(name),
            )
        axes.set_xticks(range(len(labels)), labels)
        axes.set(ylabel="Dice, mean ± standard deviation", ylim=(None, 1))
        axes.grid(axis="y", color="0.9")
        figure.legend(loc="outside right upper")

    return draw(7.2, 3.2, make)
