"""Fit latents, and what else is unknown, by Levenberg-Marquardt on a growing sample of the points.

At first each iteration sees few, fresh points: their noise, and the prior's greater say, lead the fit
past the local minima that a fit of all points from the prior's mean falls into (docs/experiments.md).
Then the points stay and the objective converges: the end needs no label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints, batch_of
from nisf.kinds.latent.levenberg_marquardt import Solver, solve
from nisf.kinds.latent.posterior import Posterior
from nisf.kinds.latent.unknowns import Subject, placed
from nisf.networks.losses import intensity_bce

Watch = Callable[[int, Tensor], None]
"""Called with the number of iterations done and the latents (s, l)."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where a fit ended.

    Attributes:
        unknowns: see `nisf.kinds.latent.unknowns.Subject` (s, u).
        latent: (s, l).
        covariance: of the latent's Laplace posterior (s, l, l).
        loss: mean cross-entropy of the intensities over the last points (s,).
        iterations: (s,).
        converged: (s,); False where the iterations ran out.
    """

    unknowns: Float[Tensor, "s u"]
    latent: Float[Tensor, "s l"]
    covariance: Float[Tensor, "s l l"]
    loss: Float[Tensor, "s"]
    iterations: Int[Tensor, "s"]
    converged: Bool[Tensor, "s"]


def posterior_of(
    subject: Subject, cases: Sequence[CasePoints], config: FitConfig, count: int, *seed: int
) -> Posterior:
    """The posterior on ``count`` points of each case; the seed alone says which."""
    # A generator each, so that no subject's points depend on who came before it.
    drawn = [(case, case.spread(np.random.default_rng(seed), count)) for case in cases]
    batch = batch_of(drawn)
    device = subject.mean.device
    share = batch.weight * (config.points_worth / config.points_last)
    return Posterior(
        subject,
        placed(drawn, batch.coordinates).to(device),
        batch.intensity.to(device),
        share.to(device),
        strength=config.prior_strength,
        likelihood=config.likelihood,
        sigma=config.sigma,
        dense=sum(subject.sizes) <= Solver.dense,
    )


def points_of(iteration: int, config: FitConfig) -> int:
    """Points of an iteration: from first to last in even ratios."""
    if iteration >= config.growth:
        return config.points_last
    ratio = config.points_last / config.points_first
    return round(config.points_first * ratio ** (iteration / max(1, config.growth)))


def fit_second_order(
    subject: Subject,
    cases: Sequence[CasePoints],
    config: FitConfig,
    *,
    seed: int = 0,
    watch: Watch | None = None,
) -> Outcome:
    """Fit several subjects at once; each ends alone or in company at the same place.

    Args:
        subject: the unknowns, with the prior's statistics; its field should need no weight gradients.
        cases: points to draw from.
        config: settings.
        seed: of the drawn points.
        watch: called before the first iteration and after each.
    """
    drawn: dict[int, Posterior] = {}

    def problems(iteration: int) -> Posterior:
        stage = min(iteration, config.growth)
        if stage not in drawn:
            drawn.clear()
            drawn[stage] = posterior_of(subject, cases, config, points_of(stage, config), seed, stage)
        return drawn[stage]

    start = subject.mean.new_zeros(len(cases), sum(subject.sizes))
    solver = Solver(iterations=config.iterations, tolerance=config.tolerance)
    see = None if watch is None else lambda i, x: watch(i, subject.split(x)[0])
    found = solve(problems, start, solver, watch=see)
    ended = problems(config.iterations)
    with torch.no_grad():
        logits = torch.cat(
            [subject.intensity(found.unknowns, ended.points.part(part)) for part in ended.parts()], dim=1
        )
    return Outcome(
        found.unknowns,
        subject.split(found.unknowns)[0],
        latent_covariance(ended, found.unknowns, config.temperature),
        intensity_bce(logits, ended.intensity, (ended.share > 0).to(ended.share.dtype)),
        found.iterations,
        found.converged,
    )


def latent_covariance(
    posterior: Posterior, unknowns: Float[Tensor, "s u"], temperature: float
) -> Float[Tensor, "s l l"]:
    """Covariance of the latents in the Laplace posterior, whatever else was fitted averaged over."""
    size, root = posterior.subject.sizes[0], posterior.subject.root
    return temperature * (root @ posterior.covariance(unknowns)[:, :size, :size] @ root.T)


def laplace(
    subject: Subject,
    cases: Sequence[CasePoints],
    latent: Float[Tensor, "s l"],
    config: FitConfig,
    *,
    seed: int = 0,
) -> Float[Tensor, "s l l"]:
    """Covariance of the Laplace posterior around latents that were fitted in another way.

    Args:
        subject: the unknowns, with the prior's statistics.
        cases: points to draw from.
        latent: where the fit ended.
        config: how much the points are worth.
        seed: of the drawn points.
    """
    posterior = posterior_of(subject, cases, config, config.points_last, seed, config.growth)
    return latent_covariance(posterior, subject.join(latent), config.temperature)
