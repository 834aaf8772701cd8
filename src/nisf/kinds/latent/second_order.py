"""Fit latents and other unknowns by Levenberg-Marquardt on a growing sample of the points.

The first iterations use few points, drawn anew each time. Their noise, and the larger weight of the prior,
lead the fit past local minima in which a fit of all points from the prior's mean would end
(docs/experiments.md). Then the points stay the same until the objective converges; no labels are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints, batch_of
from nisf.kinds.latent.levenberg_marquardt import Solver, solve
from nisf.kinds.latent.parametrisation import Parametrisation, placed_points
from nisf.kinds.latent.posterior import Posterior
from nisf.networks.losses import intensity_bce
from nisf.prior.prior import FitCallback


@dataclass(frozen=True, eq=False)
class SecondOrderFit:
    """The result of a fit.

    Attributes:
        unknowns: see `nisf.kinds.latent.parametrisation.Parametrisation` (s, u).
        latent: (s, l).
        covariance: covariance of the latent's Laplace posterior (s, l, l).
        loss: mean cross-entropy of the intensities over the last points (s,).
        iterations: number of iterations (s,).
        converged: (s,); False where the iterations ran out.
    """

    unknowns: Float[Tensor, "s u"]
    latent: Float[Tensor, "s l"]
    covariance: Float[Tensor, "s l l"]
    loss: Float[Tensor, "s"]
    iterations: Int[Tensor, "s"]
    converged: Bool[Tensor, "s"]


def posterior_of(
    model: Parametrisation, cases: Sequence[CasePoints], config: FitConfig, count: int, *seed: int
) -> Posterior:
    """The posterior on ``count`` points of each case; they depend only on the seed."""
    # One generator each, so that a subject's points do not depend on the others.
    drawn = [(case, case.spread(np.random.default_rng(seed), count)) for case in cases]
    batch = batch_of(drawn)
    device = model.mean.device
    share = batch.weight * (config.points_worth / config.points_last)
    return Posterior(
        model,
        placed_points(drawn, batch.coordinates).to(device),
        batch.intensity.to(device),
        share.to(device),
        strength=config.prior_strength,
        likelihood=config.likelihood,
        sigma=config.sigma,
        dense=sum(model.sizes) <= Solver.dense,
    )


def points_of(iteration: int, config: FitConfig) -> int:
    """Number of points of an iteration: from first to last in a geometric progression."""
    if iteration >= config.growth:
        return config.points_last
    ratio = config.points_last / config.points_first
    return round(config.points_first * ratio ** (iteration / max(1, config.growth)))


def fit_second_order(
    model: Parametrisation,
    cases: Sequence[CasePoints],
    config: FitConfig,
    *,
    seed: int = 0,
    callback: FitCallback | None = None,
) -> SecondOrderFit:
    """Fit several subjects at once; each gets the same result alone or in a batch.

    Args:
        model: the unknowns, with the prior's statistics; its field should need no weight gradients.
        cases: points to draw from.
        config: settings of the fit.
        seed: seed of the drawn points.
        callback: called before the first iteration and after each iteration.
    """
    drawn: dict[int, Posterior] = {}

    def problems(iteration: int) -> Posterior:
        draw = min(iteration, config.growth)
        if draw not in drawn:
            drawn.clear()
            drawn[draw] = posterior_of(model, cases, config, points_of(draw, config), seed, draw)
        return drawn[draw]

    start = model.mean.new_zeros(len(cases), sum(model.sizes))
    solver = Solver(iterations=config.iterations, tolerance=config.tolerance)
    see = None if callback is None else lambda i, x: callback(i, model.split(x)[0])
    found = solve(problems, start, solver, callback=see)
    ended = problems(config.iterations)
    with torch.no_grad():
        logits = torch.cat(
            [model.intensity(found.unknowns, ended.points.part(part)) for part in ended.parts()], dim=1
        )
    return SecondOrderFit(
        found.unknowns,
        model.split(found.unknowns)[0],
        latent_covariance(ended, found.unknowns, config.temperature),
        intensity_bce(logits, ended.intensity, (ended.share > 0).to(ended.share.dtype)),
        found.iterations,
        found.converged,
    )


def latent_covariance(
    posterior: Posterior, unknowns: Float[Tensor, "s u"], temperature: float
) -> Float[Tensor, "s l l"]:
    """Covariance of the latents in the Laplace posterior, marginalised over all other unknowns."""
    size, root = posterior.model.sizes[0], posterior.model.root
    return temperature * (root @ posterior.covariance(unknowns)[:, :size, :size] @ root.T)


def laplace(
    model: Parametrisation,
    cases: Sequence[CasePoints],
    latent: Float[Tensor, "s l"],
    config: FitConfig,
    *,
    seed: int = 0,
) -> Float[Tensor, "s l l"]:
    """Covariance of the Laplace posterior around latents that were fitted by another method.

    Args:
        model: the unknowns, with the prior's statistics.
        cases: the points to draw from.
        latent: result of the fit.
        config: weights of the points.
        seed: seed of the drawn points.
    """
    posterior = posterior_of(model, cases, config, config.points_last, seed, config.growth)
    return latent_covariance(posterior, model.join(latent), config.temperature)
