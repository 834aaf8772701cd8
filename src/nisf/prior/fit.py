"""Fit a new subject: what is the same for every kind of field."""

from __future__ import annotations

import math
import time
from typing import Any, TypeVar

from nisf.alignment import Shift, aligned, find_shifts
from nisf.config.schema import FitConfig
from nisf.data.case import Case
from nisf.data.region import Region, measured_inside
from nisf.errors import BadSettingError, CannotFitError
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
        align: put slices in line first that breathing has shifted, by the planes that cut them; without such
            planes nothing moves. See `nisf.alignment`.

    Raises:
        CannotFitError: nothing was measured inside the region, channels do not fit, or the case lacks what
            the prior needs.
        BadSettingError: the settings ask for what the method cannot fit, or the anatomy does not have.
    """
    began = time.perf_counter()
    settings = config or prior.config.fit
    _check(case, prior, settings)
    how = "given"
    if region is None:
        with stage("finding the region"):
            region, how = prior.search.find(case, find)
    count = measured_inside(case, region)
    if not count:
        raise CannotFitError(
            f"{case.name}: nothing was measured inside the region; give its centre", options=("centre",)
        )
    shifts: list[Shift] = []
    moved: dict[str, list[float]] = {}
    if align:
        with stage("aligning"):
            shifts = find_shifts(case, region)
            case = aligned(case, shifts)
        moved["moved_mm"] = [round(math.hypot(*shift.mm), 2) for shift in shifts]
    with stage("fitting"):
        first: Any = prior.fit_inside(case, region, config=settings, seed=seed, callback=callback)
        subject: Any = prior.looked_again(case, first) if how in ("finder", "motion") else first
    seconds = round(time.perf_counter() - began, 3)
    return subject.noted(
        islands=settings.islands,
        certain=settings.certain,
        enclosed=settings.enclosed,
        shifts=tuple(shifts),
        summary={**subject.summary, "region": how, "points": count, "seconds": seconds, **moved},
    )


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
