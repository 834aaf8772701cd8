"""Fit a new subject: what is the same for every kind of field."""

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
    """Fit one case, or see it: whatever its prior's kind of field needs.

    Args:
        case: its intensities are used; its labels never.
        prior: the trained prior.
        region: overrides the search for the region.
        find: how to search for it.
        config: overrides the prior's settings.
        seed: of the drawn points.
        callback: called with the steps done and the latents, by priors that fit one.
        align: correct breath-hold shifts first, by the planes that cut slices; see `nisf.alignment`.
        see: gets the steps of the fit instead, to be looked at; what it raises ends the fit.

    Raises:
        CannotFitError: nothing was measured inside the region, channels do not fit, or the case lacks what
            the prior needs.
        BadSettingError: the settings ask for what the method cannot fit, or the anatomy does not have.
    """
    began = time.perf_counter()
    settings = config or prior.config.fit
    _check(case, prior, settings)
    with stage("finding the region"):
        # The stack as training stacks lie, whatever its file: answers are asked for by places in the world.
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
    """Number of points that were measured inside the region.

    Raises:
        CannotFitError: there is none.
    """
    count = measured_inside(case, region)
    if not count:
        raise CannotFitError(
            f"{case.name}: nothing was measured inside the region; give its centre", options=("centre",)
        )
    return count


def _check(case: Case, prior: Prior[Any], settings: FitConfig) -> None:
    """Refuse what cannot come out right, before any work.

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
            "sections of structures are only left out where islands are removed; ask for that too",
            options=("enclosed", "islands"),
        )
    if settings.enclosed and prior.anatomy.wall is None:
        raise BadSettingError(
            f"the anatomy '{prior.anatomy.name}' declares no wall around a cavity; leave the setting out",
            options=("enclosed",),
        )
