"""Fit a new subject: find the latent that explains its intensities, weights frozen (paper, section 2.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.case import Case
from nisf.config import FitConfig
from nisf.errors import NisfError
from nisf.field import Field
from nisf.finder import region_from_finder
from nisf.fitted import Fitted
from nisf.losses import intensity_bce
from nisf.points import CasePoints, batch_of
from nisf.prior import Prior
from nisf.region import Region, reference_pose, region_from_motion, whole_region

Finding = Literal["auto", "finder", "motion", "centre", "whole"]
Watch = Callable[[int, Tensor], None]
"""Called with the number of steps done and the latents (s, l)."""


def find_region(case: Case, prior: Prior, how: Finding = "auto") -> tuple[Region, str]:
    """The region of a case without labels, and how it was found.

    ``auto`` asks the prior's finder, then looks for motion, then takes the image's centre.

    Raises:
        NisfError: the way asked for does not work for this case.
    """
    if how == "whole" or prior.half is None:
        return whole_region(case), "whole"
    region: Region | None = None
    if how in ("auto", "finder") and prior.finder is not None:
        region = region_from_finder(case, prior.finder, prior.half)
        if region is not None:
            return region, "finder"
    if how in ("auto", "motion"):
        region = region_from_motion(case, prior.half)
        if region is not None:
            return region, "motion"
    if how in ("finder", "motion"):
        raise NisfError(
            f"{case.name}: the region cannot be found by {how}; try --region auto, or give its centre"
        )
    whole = whole_region(case)
    return Region(reference_pose(case, whole.centre()), prior.half), "centre"


def fit_latents(
    field: Field,
    cases: Sequence[CasePoints],
    start: Float[Tensor, "s l"],
    config: FitConfig,
    *,
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[Float[Tensor, "s l"], Float[Tensor, "s"]]:
    """Latents of several subjects at once by Adam, as in the paper; returns them and their losses.

    Each subject has its own objective, optimiser state and points: fitting it alone or in company
    gives the same latent. The returned loss is the mean of the last tenth of the steps.

    Args:
        field: the network; its weights get no gradient.
        cases: points to draw from.
        start: initial latents.
        config: steps, rate, points, penalty.
        seed: seed of the drawn points.
        watch: called before the first step and after each one.
    """
    latent = start.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([latent], lr=config.learning_rate)
    frozen = [p for p in field.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    recent: list[Tensor] = []
    try:
        if watch:
            watch(0, latent.detach())
        for step in range(config.steps):
            drawn = []
            for case in cases:
                # A generator each, so that no subject's points depend on who came before it.
                rng = np.random.default_rng([seed, step])
                drawn.append((case, case.draw(rng, config.points) if config.points else case.frame(rng)))
            batch = batch_of(drawn)
            logits = field.intensity(batch.coordinates.to(latent.device), latent)
            loss = intensity_bce(logits, batch.intensity.to(latent.device), batch.weight.to(latent.device))
            # A sum, so that no subject's gradient depends on how many others there are.
            objective = loss.sum() + config.latent_l2 * latent.square().mean(1).sum()
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()
            if step >= min(0.9 * config.steps, config.steps - 1):
                recent.append(loss.detach())
            if watch:
                watch(step + 1, latent.detach())
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    final = torch.stack(recent).mean(0) if recent else torch.full((len(cases),), torch.nan)
    return latent.detach(), final


def fit(
    case: Case,
    prior: Prior,
    *,
    region: Region | None = None,
    find: Finding = "auto",
    config: FitConfig | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Fitted:
    """Fit one case.

    Args:
        case: its intensities are used; its labels never.
        prior: the trained prior.
        region: overrides the search for the region.
        find: how to search for it.
        config: overrides the prior's settings.
        seed: seed of the drawn points.
        watch: see `fit_latents`.

    Raises:
        NisfError: nothing was measured inside the region, or channels or dimensions do not fit.
    """
    began = time.perf_counter()
    settings = config or prior.config.fit
    channels = prior.config.field.channels
    if case.channels != channels:
        raise NisfError(
            f"{case.name}: {case.channels} intensity channels, but the prior was trained on {channels}"
        )
    how = "given"
    if region is None:
        region, how = find_region(case, prior, find)
    dimensions = prior.config.field.dimensions
    regions = [region]
    if prior.anatomy.reorder and len({s.position for s in case.slices}) > 1:
        regions.append(region.mirrored())
    candidates = [CasePoints(case, r, dimensions) for r in regions]
    if not len(candidates[0]):
        raise NisfError(
            f"{case.name}: nothing was measured inside the region; give its centre with --centre X,Y,Z"
        )
    start = prior.latent_mean[None].repeat(len(candidates), 1)
    if len(candidates) > 1:
        # Which end of the stack comes first: a short fit of both, the better one goes on.
        trial = replace(settings, steps=min(settings.steps, 100), points=min(settings.points or 512, 512))
        _, losses = fit_latents(prior.field, candidates, start, trial, seed=seed)
        best = int(losses.argmin())
        regions, candidates = [regions[best]], [candidates[best]]
    latent, loss = fit_latents(prior.field, candidates, start[:1], settings, seed=seed, watch=watch)
    summary = {
        "steps": settings.steps,
        "intensity_bce": float(loss[0]) if settings.steps else None,
        "seconds": round(time.perf_counter() - began, 3),
        "region": how,
        "reversed": regions[0] is not region,
        "points": len(candidates[0]),
    }
    return Fitted(case.name, prior, latent[0], regions[0], case.stacks, summary)
