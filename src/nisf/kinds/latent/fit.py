"""Find the latents that explain the intensities, weights frozen (paper, section 2.3), and orientations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.points import CasePoints, batch_of
from nisf.networks.latent_field import LatentField
from nisf.networks.losses import intensity_bce
from nisf.prior.prior import FitCallback

TRIAL_STEPS, TRIAL_POINTS = 60, 256
"""Length of the trial fit of each orientation."""


def fit_latents(
    field: LatentField,
    cases: Sequence[CasePoints],
    start: Float[Tensor, "s l"],
    config: FitConfig,
    *,
    seed: int = 0,
    callback: FitCallback | None = None,
) -> tuple[Float[Tensor, "s l"], Float[Tensor, "s"]]:
    """Fit the latents of several subjects at once by Adam, as in the paper; returns them and their losses.

    Each subject has its own objective, optimiser state and points, so that it gets the same latent alone or
    in a batch. The returned loss is the mean over the last tenth of the steps.

    Args:
        field: the network; its weights get no gradient.
        cases: the points to draw from.
        start: initial latents.
        config: number of steps, rate, points, penalty.
        seed: seed of the drawn points.
        callback: called before the first step and after each step.
    """
    latent = start.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([latent], lr=config.learning_rate)
    frozen = [p for p in field.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    recent: list[Tensor] = []
    try:
        if callback:
            callback(0, latent.detach())
        for step in range(config.steps):
            drawn = []
            for case in cases:
                # One generator each, so that a subject's points do not depend on the others.
                rng = np.random.default_rng([seed, step])
                drawn.append((case, case.draw(rng, config.points) if config.points else case.frame(rng)))
            batch = batch_of(drawn)
            logits = field.intensity(batch.coordinates.to(latent.device), latent)
            loss = intensity_bce(logits, batch.intensity.to(latent.device), batch.weight.to(latent.device))
            # A sum, so that a subject's gradient does not depend on the number of others.
            objective = loss.sum() + config.latent_l2 * latent.square().mean(1).sum()
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()
            if step >= min(0.9 * config.steps, config.steps - 1):
                recent.append(loss.detach())
            if callback:
                callback(step + 1, latent.detach())
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    final = torch.stack(recent).mean(0) if recent else torch.full((len(cases),), torch.nan)
    return latent.detach(), final


def orientations(case: Case, anatomy: Anatomy) -> list[dict[str, Any]]:
    """Possible orientations of the case's files, as stored first: arguments of `Region.turned`."""
    several = len({s.position for s in case.slices}) > 1
    return [
        {"quarters": quarters, "mirror": mirror, "reverse": reverse}
        for reverse in ((False, True) if anatomy.reorder and several else (False,))
        for mirror in ((False, True) if anatomy.turn else (False,))
        for quarters in (range(4) if anatomy.turn else (0,))
    ]


def best_orientation(
    points: CasePoints,
    ways: list[dict[str, Any]],
    field: LatentField,
    mean: Float[Tensor, "l"],
    config: FitConfig,
    seed: int,
) -> dict[str, Any]:
    """The orientation in which a short fit explains the intensities best."""
    turned = [points.seen_from(points.region.turned(**way)) for way in ways]
    trial = replace(config, steps=TRIAL_STEPS, points=TRIAL_POINTS)
    _, losses = fit_latents(field, turned, mean[None].repeat(len(ways), 1), trial, seed=seed)
    return ways[int(losses.argmin())]


def oriented(
    points: CasePoints,
    ways: list[dict[str, Any]],
    field: LatentField,
    mean: Float[Tensor, "l"],
    config: FitConfig,
    seed: int = 0,
) -> tuple[CasePoints, dict[str, Any]]:
    """The points in the orientation that the field explains best, and that orientation.

    Args:
        points: as stored.
        ways: see `orientations`.
        field: the network.
        mean: latent from which the trials start (l,).
        config: settings of the trials, except their length.
        seed: seed of the drawn points.
    """
    if len(ways) == 1:
        return points, ways[0]
    way = best_orientation(points, ways, field, mean, config, seed)
    return points.seen_from(points.region.turned(**way)), way
