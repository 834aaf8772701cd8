"""A fit that optimises the network's weights along with the latent, as the authors' public code does.

The paper freezes the weights. Here each subject starts from the prior's weights and gets its own copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.case import Case
from nisf.data.points import CasePoints, batch_of
from nisf.errors import CannotFitError
from nisf.kinds.latent.fit import orientations, oriented
from nisf.kinds.latent.model import LatentPrior, LatentSubject
from nisf.networks.latent_field import LatentField
from nisf.networks.losses import intensity_bce
from nisf.paper.published import WEIGHTS_RATE

UnfrozenCallback = Callable[[int, LatentField, Tensor], None]
"""Called with the number of steps done, the network and the latent (l,)."""


def fit_all(
    points: CasePoints,
    prior: LatentPrior,
    config: FitConfig,
    *,
    seed: int = 0,
    callback: UnfrozenCallback | None = None,
) -> tuple[LatentField, Tensor]:
    """Network and latent (l,) of one subject after ``config.steps`` steps of Adam on the intensities.

    Args:
        points: the points to draw from.
        prior: initial weights and latent.
        config: steps, points, learning rate of the latent; the weights use the paper's rate.
        seed: seed of the drawn points.
        callback: called before the first step and after each step.
    """
    field = copy.deepcopy(prior.field).requires_grad_(True)
    latent = prior.latent_mean[None].clone().requires_grad_(True)
    groups = [
        {"params": [latent], "lr": config.learning_rate},
        {"params": list(field.parameters()), "lr": WEIGHTS_RATE},
    ]
    optimiser = torch.optim.Adam(groups)
    if callback:
        callback(0, field, latent.detach()[0])
    for step in range(config.steps):
        rng = np.random.default_rng([seed, step])
        index = points.draw(rng, config.points) if config.points else points.frame(rng)
        batch = batch_of([(points, index)])
        logits = field.intensity(batch.coordinates, latent)
        loss = intensity_bce(logits, batch.intensity, batch.weight).sum()
        loss = loss + config.latent_l2 * latent.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if callback:
            callback(step + 1, field, latent.detach()[0])
    return field.requires_grad_(False), latent.detach()[0]


def fit_unfrozen(case: Case, prior: LatentPrior, config: FitConfig, *, seed: int = 0) -> LatentSubject:
    """`nisf.prior.fit.fit` with free weights.

    Raises:
        CannotFitError: nothing was measured inside the region.
    """
    region, _ = prior.search.find(case)
    points = CasePoints(case, region, prior.config.field.dimensions)
    if not len(points):
        raise CannotFitError(f"{case.name}: nothing was measured inside the region")
    ways = orientations(case, prior.anatomy)
    points, _ = oriented(points, ways, prior.field, prior.latent_mean, prior.config.fit, seed)
    field, latent = fit_all(points, prior, config, seed=seed)
    return LatentSubject(case.name, replace(prior, field=field), points.region, case.stacks, latent=latent)
