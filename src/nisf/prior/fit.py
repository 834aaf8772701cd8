"""Fit a new subject: the steps that all kinds of field share."""

from __future__ import annotations

import math
import time
from typing import Any, TypeVar

from nisf.alignment import Shift, aligned, find_shifts
from nisf.config.schema import FitConfig
from nisf.data.arrangement import Arrangement
from nisf.data.case import Case
from nisf.data.region import Region, measured_inside
from nisf.errors import BadSettingError, CannotFitError
from nisf.prior.fit_step import OnStep
from nisf.prior.prior import FitCallback, Prior
from nisf.prior.region_search import Finding
from nisf.stopwatch import stage

SubjectType = TypeVar("SubjectType")


def fit(
    case: Case,
    prior: Prior[SubjectType],
    *,
    region: Region | None = None,
    find: Finding = "auto",
    config: FitConfig | None = None,
    seed: int = 0,
    callback: FitCallback | None = None,
    align: bool = False,
    see: OnStep | None = None,
) -> SubjectType:
    """Fit a prior to one case; the prior's kind decides how.

    Args:
        case: its intensities are used; its labels are ignored.
        prior: the trained prior.
        region: the region to use; if None, search for it.
        find: how to search for the region.
        config: settings that override the prior's.
        seed: seed of the random draw of points.
        callback: called with the number of steps done and the latents, by priors that fit a latent.
        align: correct breath-hold shifts first, from the planes that intersect the slices; see
            `nisf.alignment`.
        see: called with every step of the fit; an exception that it raises ends the fit.

    Raises:
        CannotFitError: nothing was measured inside the region, the number of channels differs, or the case
            lacks something that the prior needs.
        BadSettingError: the settings ask for something that the method or the anatomy does not support.
    """
    began = time.perf_counter()
    settings = config or prior.config.fit
    _check(case, prior, settings)
    with stage("finding the region"):
        # The case in the orientation of the training stacks. Queries use world coordinates, so that results
        # do not depend on it.
        way = Arrangement() if settings.as_stored else prior.way(case)
        seen = case.arranged(way)
        region, how = prior.search.find(seen, find) if region is None else (region.arranged(way), "given")
    count = _measured(seen, region)
    said: dict[str, Any] = {"region": how, "points": count}
    if not way.changes_nothing:
        said["turned"] = way.words()
    shifts: list[Shift] = []
    if align:
        with stage("aligning"):
            shifts = find_shifts(case, region)
        said["moved_mm"] = [round(math.hypot(*shift.mm), 2) for shift in shifts]
        seen = aligned(case, shifts).arranged(way)
    with stage("fitting"):
        if see is None:
            first: Any = prior.fit_inside(seen, region, config=settings, seed=seed, callback=callback)
        else:
            first = prior.fit_seen(seen, region, config=settings, seed=seed, see=see)
        subject: Any = prior.looked_again(seen, first) if how in ("finder", "motion") else first
    said["seconds"] = round(time.perf_counter() - began, 3)
    kept = {name: getattr(settings, name) for name in ("islands", "certain", "enclosed")}
    summary = {**subject.summary, **said}
    return subject.noted(stacks=case.stacks, shifts=tuple(shifts), summary=summary, **kept)


def _measured(case: Case, region: Region) -> int:
    """Number of points measured inside the region.

    Raises:
        CannotFitError: there are none.
    """
    count = measured_inside(case, region)
    if not count:
        raise CannotFitError(
            f"{case.name}: nothing was measured inside the region; give its centre", options=("centre",)
        )
    return count


def _check(case: Case, prior: Prior[Any], settings: FitConfig) -> None:
    """Reject impossible requests before any work is done.

    Raises:
        CannotFitError, BadSettingError: see `fit`.
    """
    channels = prior.config.field.channels
    if case.channels != channels:
        raise CannotFitError(
            f"{case.name}: {case.channels} intensity channels, but the prior was trained on {channels}"
        )
    if settings.enclosed and settings.islands == "keep":
        raise BadSettingError(
            "doubtful sections are removed together with islands only; ask for the removal of islands too",
            options=("enclosed", "islands"),
        )
    if settings.enclosed and prior.anatomy.wall is None:
        raise BadSettingError(
            f"the anatomy '{prior.anatomy.name}' declares no wall around a cavity; leave the setting out",
            options=("enclosed",),
        )
