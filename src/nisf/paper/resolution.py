"""Test priors at other resolutions: the same test subjects with pixels 0.5 to 4 times as large."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nisf.paper.methods import (
    FROZEN,
    OURS,
    SECOND,
    UNET,
    UNET_SHAPE,
    by_unet,
    frozen,
    mean_of,
    ours,
    score_method,
    second_order,
)
from nisf.paper.needs import Needs, of_image, of_network, of_paper, scored
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTORS = (0.5, 1.0, 2.0, 4.0)


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    methods = (FROZEN, SECOND, OURS, UNET_SHAPE)
    ways = ["none" if factor == 1.0 else f"pixels-{factor:g}x" for factor in FACTORS]
    parts = [part for way in ways for part in scored(study, way, methods)]
    return Needs((of_paper(study), of_image(study), of_network(study)), tuple(parts))


def run(study: Study) -> Result:
    """All methods get the resampled images and are scored on the original grid."""
    methods = [frozen(study), second_order(study), ours(study), *by_unet(study)[:1]]
    rows = []
    for factor in FACTORS:
        for method in methods:
            rows += [{"factor": factor, **row} for row in score_method(study, method, factor=factor)]
    found = {
        method.name: [
            mean_of([r for r in rows if r["factor"] == f and r["method"] == method.name]) for f in FACTORS
        ]
        for method in methods
    }
    shown = {UNET if name == UNET_SHAPE else name: dice for name, dice in found.items()}
    table = [["pixels", *shown]]
    for i, factor in enumerate(FACTORS):
        table.append([f"{factor:g} x", *(f"{dice[i]:.3f}" for dice in shown.values())])
    one = FACTORS.index(1.0)
    complete = {name: dice for name, dice in shown.items() if all(map(math.isfinite, dice))}
    worst = {name: max(dice[one] - d for d in dice) for name, dice in complete.items()}
    line = "Largest loss of mean Dice against the original pixels: " + ", ".join(
        f"{name} {loss:.3f}" for name, loss in worst.items()
    )
    result = Result("resolution", "Other resolutions than in training", line + ".", rows, table)

    def make(figure: Figure) -> None:
        axes = figure.subplots()
        for name, dice in found.items():
            axes.plot(FACTORS, dice, label=UNET if name == UNET_SHAPE else name, **look(name))
        axes.set_xscale("log", base=2)
        axes.set_xticks(FACTORS, [f"{f:g}" for f in FACTORS])
        axes.set(xlabel="pixel size relative to the file's", ylabel="mean Dice", ylim=(None, 1))
        axes.grid(color="0.9")
        figure.legend(loc="outside right upper")

    publish(study.output, result, draw(6.0, 3.2, make))
    return result
