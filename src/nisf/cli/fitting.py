"""Options of ``nisf segment`` for the fit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nisf.config.fit_options import FitOptions


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Options of the fit; which of them apply depends on the prior's kind of field."""

    method: Literal["adam", "second-order"] | None = None
    """Optimiser of the fit; by default that of the prior. second-order stops at convergence."""
    steps: int | None = None
    """Number of fitting steps; by default the number that worked best on the prior's validation cases. With
    second-order: the maximum number of iterations."""
    shifts: bool = False
    """Also fit an in-plane shift for each slice (second-order only)."""
    gains: bool = False
    """Also fit an intensity gain and offset for each slice (second-order only)."""
    pose: bool = False
    """Also fit a translation and rotation of the whole subject (second-order only)."""
    align: bool = False
    """Correct breath-hold shifts of slices by the long-axis images that cut them, and say how far they moved.
    """
    islands: Literal["keep", "remove"] | None = None
    """Keep or remove components apart from a structure's largest one; by default as the prior says."""
    enclosed: float | None = None
    """Exclude the LV from basal slices where the myocardium surrounds less than this fraction of the cavity.
    0.5 is the SCMR's rule; by default the base follows the training data."""
    as_stored: bool = False
    """Do not turn images without orientation in their headers; by default, models that can detect how such an
    image is stored turn it to the orientation of their training images."""
    seed: int | None = None
    """Random seed of the points sampled during the fit."""

    def options(self) -> FitOptions:
        """The options as an object of the library.

        Raises:
            BadSettingError: a value is invalid; the message names the option.
        """
        from nisf.config.fit_options import FitOptions
        from nisf.errors import BadSettingError

        if self.steps is not None and self.steps < 1:
            raise BadSettingError(f"--steps {self.steps}: give a number of at least 1")
        return FitOptions(**{option.name: getattr(self, option.name) for option in fields(FitOptions)})
