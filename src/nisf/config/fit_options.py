"""Options of a fit that override the prior's settings."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated

from nisf.config.bounds import Bounds, Seed, check_bounds
from nisf.config.schema import FitConfig, Islands, Method
from nisf.errors import BadSettingError


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; None and False keep the prior's settings.

    Each kind of prior declares which of them it supports (`nisf.prior.prior.Prior.fit_options`).

    Attributes:
        steps: fitting steps, or iterations of the second-order method.
        seed: random seed of the sampled points.
        method: optimiser, ``adam`` or ``second-order``.
        shifts: whether to also fit an in-plane shift per slice.
        gains: whether to also fit an intensity gain and offset per slice.
        pose: whether to also fit a translation and rotation of the whole subject.
        islands: whether to ``keep`` or ``remove`` components apart from a structure's largest one.
        enclosed: minimum fraction of a cavity's rim that its wall surrounds in basal slices; the SCMR's rule
            is 0.5.
        as_stored: whether to use files without orientation as stored, not turned to match training images.
    """

    steps: Annotated[int, Bounds(1, 1e9)] | None = None
    seed: Seed | None = None
    method: Method | None = None
    shifts: bool = False
    gains: bool = False
    pose: bool = False
    islands: Islands | None = None
    enclosed: Annotated[float, Bounds(0, 1)] | None = None
    as_stored: bool = False

    def __post_init__(self) -> None:
        try:
            check_bounds(self)
        except BadSettingError as error:
            raise BadSettingError(str(error), options=(str(error).partition("=")[0],)) from None

    def given(self) -> list[str]:
        """Names of the options that are set."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return [name for name, value in values.items() if value is not None and value is not False]

    def applied_to(self, config: FitConfig) -> FitConfig:
        """The prior's fit settings with these options applied."""
        # Breath-holds differ by some millimetres, and a coil's shading by a few tenths of a logit.
        wishes = {
            "method": self.method,
            "shift_mm": 4.0 if self.shifts else None,
            "gain": 0.2 if self.gains else None,
            "pose_mm": 6.0 if self.pose else None,
            "pose_degrees": 8.0 if self.pose else None,
            "islands": self.islands,
            "enclosed": self.enclosed,
            "as_stored": self.as_stored or None,
        }
        config = replace(config, **{name: value for name, value in wishes.items() if value is not None})
        if self.steps is None:
            return config
        counted = "iterations" if config.method == "second-order" else "steps"
        return replace(config, **{counted: self.steps})
