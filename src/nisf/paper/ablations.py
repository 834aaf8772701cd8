"""Ablations: activation, weight of the intensities (alpha), size of the latent, one network or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nisf.paper.methods import of_subjects
from nisf.paper.needs import Needs, of_variants
from nisf.paper.results import Result, draw, publish
from nisf.paper.study import Study, Variant
from nisf.paper.variants import base, dots, named, score_variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOICES = {
    "activation": ("field.activation", ("gabor", "gabor+relu", "gabor+sine", "sine", "relu")),
    "alpha": ("train.alpha", ("1", "10", "100")),
    "latent size": ("field.latent", ("32", "128", "256")),
    "networks": ("field.backbone", ("shared", "separate")),
}
"""The varied settings and their values."""

WAVELETS = ("field.coordinate_scale=1", "train.learning_rate=1e-4")
"""Additional settings for wavelets, as in the paper: they do not learn at the rates that suit sines."""


def variants(study: Study) -> dict[tuple[str, str], Variant]:
    """The variant for each varied setting and value."""
    return {
        (what, value): named(
            study,
            f"{what}-{value}".replace(" ", "-"),
            f"{setting}={value}",
            *(WAVELETS if value.startswith("gabor") else ()),
        )
        for what, (setting, values) in CHOICES.items()
        for value in values
    }


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    return of_variants(study, [base(study), *variants(study).values()])


def run(study: Study) -> Result:
    """Train and fit all variants alike, wavelets with their own learning rate."""
    rows, table = [], [["varied", "value", "mean Dice", "intensity loss"]]
    scores: dict[tuple[str, str], np.ndarray] = {}
    for (what, value), variant in variants(study).items():
        found = score_variant(study, variant)
        rows += [{"varied": what, "value": value, **row} for row in found]
        scores[what, value] = of_subjects(found)
        loss = of_subjects(found, value="loss").mean()
        table.append([what, value, f"{scores[what, value].mean():.3f}", f"{loss:.4f}"])
    best = {
        what: max(values, key=lambda value, what=what: scores[what, value].mean())
        for what, (_, values) in CHOICES.items()
    }
    config, cases = study.budget.variant_config(), {row["case"] for row in rows}
    line = (
        f"Best of each: {', '.join(f'{what} {value}' for what, value in best.items())}. Preset "
        f"{study.budget.base}, {config.train.steps} steps, {len(cases)} test subjects."
    )
    result = Result("ablations", "Ablations", line, rows, table)

    def make(figure: Figure) -> None:
        widths = [len(values) for _, values in CHOICES.values()]
        grid = figure.subplots(1, len(CHOICES), sharey=True, width_ratios=widths)
        for axes, (what, (_, values)) in zip(grid, CHOICES.items(), strict=True):
            names = [value.replace("+", "+\n") for value in values]
            dice = [scores[what, value] for value in values]
            dots(axes, names, [v.mean() for v in dice], [v.std() for v in dice])
            axes.set_title(what)
        grid[0].set(ylabel="Dice, mean ± standard deviation")

    publish(study.output, result, draw(8.4, 3.0, make))
    return result
