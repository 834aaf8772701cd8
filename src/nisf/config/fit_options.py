"""What a user may ask of a fit, beside the settings that its prior brings."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated

from nisf.config.bounds import Bounds, Seed, check_bounds
from nisf.config.schema import FitConfig, Islands, Method
from nisf.errors import BadSettingError


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; None and False leave the prior's way.

    Each kind of prior says which of them mean something to it (`nisf.prior.prior.Prior.fit_options`).

    Attributes:
        steps: fitting steps, or iterations of the second-order method.
        seed: seed of the drawn points.
        method: how to fit.
        shifts: whether to fit each slice's in-plane shift too.
        gains: whether to fit each slice's gain and offset too.
        pose: whether to fit a shift and rotation of the whole subject too.
        islands: whether parts apart from a structure's largest part are kept.
        enclosed: least part of a cavity's rim that its wall covers in basal slices; 0.5 is the SCMR's rule.
        as_stored: whether files without orientation are not turned to the way of the training images.
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
        """Names of the options that ask for something."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return [name for name, value in values.items() if value is not None and value is not False]

    def applied_to(self, config: FitConfig) -> FitConfig:
        """The settings of the fit, starting from the prior's."""
        # Breath-holds differ by some millimetres, and a coil's shading by some tenths of a logit.
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
