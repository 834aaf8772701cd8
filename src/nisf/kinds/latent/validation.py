"""Choose the number of fitting steps on validation subjects (paper, section 2.3 and Fig. 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nisf.config.schema import Config
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import larger_end_last
from nisf.data.wording import counted
from nisf.evaluation.metrics import dice_of_structures
from nisf.kinds.latent.fit import fit_latents
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.second_order import fit_second_order
from nisf.networks.latent_field import LatentField
from nisf.prior.region_search import RegionSearch

SCORED = 16_384
"""Number of labelled voxels from which a subject's Dice is estimated."""


@dataclass(frozen=True)
class StepDice:
    """Dice of the validation subjects against the number of fitting steps.

    Attributes:
        steps: the step counts that were evaluated.
        dice: mean Dice over the subjects at each count, by class name.
        best_steps: the count with the best mean over classes.
    """

    steps: tuple[int, ...]
    dice: dict[str, list[float]]
    best_steps: int

    def mean(self) -> np.ndarray:
        """Mean over classes at each step count."""
        return np.mean(list(self.dice.values()), axis=0)

    def to_dict(self) -> dict[str, Any]:
        """For the log and the prior's card."""
        dice = {name: [round(v, 4) for v in values] for name, values in self.dice.items()}
        return {"steps": list(self.steps), "dice": dice, "best_steps": self.best_steps}


def step_counts(most: int) -> list[int]:
    """The step counts to evaluate: dense at first, then increasing by 40 %."""
    counts = [0]
    while counts[-1] < most:
        counts.append(max(counts[-1] + 10, round(counts[-1] * 1.4)))
    return [*counts[:-1], most]


def validation_points(
    cases: Sequence[Case], search: RegionSearch, anatomy: Anatomy, dimensions: int
) -> list[CasePoints]:
    """The labelled validation cases as users give them, with regions found without labels.

    Only the direction in which slices are counted is taken from the labels; a fit finds it by trying both.
    """
    out = []
    for case in cases:
        region, _ = search.find(case)
        if anatomy.reorder and larger_end_last(case):
            region = region.turned(reverse=True)
        out.append(CasePoints(case, region, dimensions))
    return [points for points in out if (points.label > 0).any()]


def scored_points(cases: Sequence[CasePoints], seed: int, count: int = SCORED) -> list[np.ndarray]:
    """Flat indices of ``count`` labelled voxels of each case."""
    rng = np.random.default_rng([seed, 4])
    return [rng.permutation(np.flatnonzero(case.label >= 0))[:count] for case in cases]


@torch.no_grad()
def point_dice(
    field: LatentField, latent: Tensor, points: CasePoints, index: np.ndarray, classes: int
) -> np.ndarray:
    """Dice of each structure over the given voxels of one subject (k - 1,); NaN where it does not occur."""
    batch = batch_of([(points, index)])
    predicted = field(batch.coordinates.to(latent.device), latent[None])[1][0].argmax(-1).cpu()
    return dice_of_structures(predicted, batch.label[0], classes)


def validate(
    field: LatentField,
    mean: Tensor,
    covariance: Tensor,
    cases: Sequence[CasePoints],
    config: Config,
    labels: Sequence[str],
    say: Callable[[str], None],
) -> StepDice:
    """Fit the validation subjects and track their Dice.

    Args:
        field: the network in its present state.
        mean: mean of the training latents, where the fit starts (l,).
        covariance: covariance of the training latents (l, l), for the second-order method.
        cases: their points, all with labels.
        config: settings of the fit.
        labels: class names, background first.
        say: called with a line at the beginning, because a fit takes long, and one about the outcome.
    """
    settings = replace(config.fit, points=config.train.validate_points)
    second = settings.method == "second-order"
    counts = step_counts(settings.iterations if second else settings.steps)
    chosen = scored_points(cases, config.train.seed, SCORED)
    table: list[np.ndarray] = []
    say(f"validation: fitting {counted(len(cases), 'case')} in up to {max(counts)} steps")

    def callback(step: int, latent: Tensor) -> None:
        if step in counts:
            rows = [point_dice(field, latent[i], cases[i], chosen[i], len(labels)) for i in range(len(cases))]
            table.append(np.array(rows))

    training = field.training
    field.eval()
    if second:
        model = parametrisation_of(field, mean, covariance, settings, cases)
        fit_second_order(model, cases, settings, seed=config.train.seed, callback=callback)
        counts = counts[: len(table)]  # shorter if it converged
    else:
        start = mean[None].repeat(len(cases), 1)
        fit_latents(field, cases, start, settings, seed=config.train.seed, callback=callback)
    field.train(training)
    scores = np.array(table)  # (counts, subjects, structures)
    dice = {}
    for k, name in enumerate(labels[1:]):
        if not np.isnan(scores[:, :, k]).all():  # structures that never occur are left out
            dice[name] = np.nanmean(scores[:, :, k], axis=1).tolist()
    over = np.mean(list(dice.values()), axis=0)
    best = int(np.argmax(over))
    outcome = ", ".join(f"{name} {values[best]:.3f}" for name, values in dice.items())
    say(f"validation: Dice {over[best]:.3f} ({outcome}) after {counts[best]} fitting steps")
    return StepDice(tuple(counts), dice, max(1, counts[best]))
