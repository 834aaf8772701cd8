"""Fit a new subject: find the latent that explains its intensities, weights frozen (paper, section 2.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.case import Case
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import Region, over_all_slices, reference_pose, region_from_motion, whole_region
from nisf.errors import NisfError
from nisf.kinds.latent.second_order import fit_second_order, laplace
from nisf.kinds.latent.unknowns import breath_holds_of, moved_region, subject_of
from nisf.networks.canvas import canvases
from nisf.networks.finder import region_from_finder
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import Field
from nisf.networks.losses import intensity_bce
from nisf.prior.prior import Prior
from nisf.subject.subject import Fitted

TRIAL_STEPS, TRIAL_POINTS = 60, 256
"""How briefly each orientation is tried."""

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


def orientations(case: Case, prior: Prior) -> list[dict[str, Any]]:
    """How the case's files may show the anatomy, as stored first: arguments of `Region.turned`."""
    several = len({s.position for s in case.slices}) > 1
    return [
        {"quarters": quarters, "mirror": mirror, "reverse": reverse}
        for reverse in ((False, True) if prior.anatomy.reorder and several else (False,))
        for mirror in ((False, True) if prior.anatomy.turn else (False,))
        for quarters in (range(4) if prior.anatomy.turn else (0,))
    ]


def best_orientation(
    points: CasePoints, prior: Prior, field: Field, views: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """The view whose short fit explains the intensities best."""
    turned = [points.seen_from(points.region.turned(**view)) for view in views]
    trial = replace(prior.config.fit, steps=TRIAL_STEPS, points=TRIAL_POINTS)
    start = prior.latent_mean[None].repeat(len(views), 1)
    _, losses = fit_latents(field, turned, start, trial, seed=seed)
    return views[int(losses.argmin())]


def points_inside(case: Case, prior: Prior, region: Region) -> CasePoints:
    """What was measured inside the region.

    Raises:
        NisfError: nothing was.
    """
    points = CasePoints(case, region, prior.config.field.dimensions)
    if not len(points):
        raise NisfError(
            f"{case.name}: nothing was measured inside the region; give its centre with --centre X,Y,Z"
        )
    return points


def oriented(
    points: CasePoints, case: Case, prior: Prior, seed: int = 0
) -> tuple[CasePoints, dict[str, Any]]:
    """The points seen the way round that the prior explains best, and which way that is."""
    assert isinstance(prior.field, Field)
    views = orientations(case, prior)
    view = views[0]
    if len(views) > 1:
        view = best_orientation(points, prior, prior.field, views, seed)
        points = points.seen_from(points.region.turned(**view))
    return points, view


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
        watch: see `fit_latents`; called with iterations by the second-order method.

    Raises:
        NisfError: nothing was measured inside the region, channels or dimensions do not fit, or Adam is
            asked for shifts, gains or pose.
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
    points = points_inside(case, prior, region)
    if isinstance(prior.field, ImageField):
        seen = _see(case, prior, region, {"region": how, "points": len(points)}, began)
        return replace(seen, islands=settings.islands, certain=settings.certain)
    points, view = oriented(points, case, prior, seed)
    region = points.region
    subject = subject_of(prior.field, prior.latent_mean, prior.latent_covariance, settings, [points])
    if settings.method == "second-order":
        found = fit_second_order(subject, [points], settings, seed=seed, watch=watch)
        latent, covariance, loss = found.latent, found.covariance, found.loss
        steps, held = int(found.iterations[0]), breath_holds_of(subject, found.unknowns, [points])[0]
        region = moved_region(subject, found.unknowns, region)
    else:
        if sum(subject.sizes[1:]):
            raise NisfError(
                f"{case.name}: shifts, gains and pose are fitted by the second-order method only; "
                "give --method second-order"
            )
        start = prior.latent_mean[None]
        latent, loss = fit_latents(prior.field, [points], start, settings, seed=seed, watch=watch)
        steps, held = settings.steps, ()
        covariance = laplace(subject, [points], latent, settings, seed=seed)
    summary = {
        "method": settings.method,
        "steps": steps,
        "intensity_bce": float(loss[0]) if steps else None,
        "seconds": round(time.perf_counter() - began, 3),
        "region": how,
        "orientation": view,
        "points": len(points),
    }
    if settings.method == "second-order":
        summary["converged"] = bool(found.converged[0])
    return Fitted(
        case.name,
        prior,
        latent[0].cpu(),
        region,
        case.stacks,
        summary,
        covariance[0].cpu(),
        held,
        islands=settings.islands,
        certain=settings.certain,
    )


def _see(case: Case, prior: Prior, region: Region, summary: dict[str, Any], began: float) -> Fitted:
    """A case for a prior that sees the slices: there is nothing to fit.

    Raises:
        NisfError: there are loose points but no slice.
    """
    if not case.slices:
        raise NisfError(
            f"{case.name}: has no slice, and this prior sees whole slices; use one that fits points"
        )
    region = over_all_slices(case, region)
    seen = canvases(case, case.slices, region, prior.config.image)
    summary = {"steps": 0, "seconds": round(time.perf_counter() - began, 3), **summary}
    return Fitted(case.name, prior, torch.zeros(0), region, case.stacks, summary, canvases=seen)
