"""The options of ``nisf segment`` that say how a subject is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nisf.config.fit_options import FitOptions


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How to fit; which of the options mean something depends on the prior's kind of field."""

    method: Literal["adam", "second-order"] | None = None
    """How to fit, instead of the prior's way; second-order ends by convergence."""
    steps: int | None = None
    """Fitting steps, instead of the count that was best on the prior's validation cases; iterations at most
    for second-order."""
    shifts: bool = False
    """Fit each slice's in-plane shift too (second-order)."""
    gains: bool = False
    """Fit each slice's gain and offset of intensity too (second-order)."""
    pose: bool = False
    """Fit a shift and rotation of the whole subject too (second-order)."""
    align: bool = False
    """Correct breath-hold shifts of slices by the long-axis images that cut them, and say how far they moved.
    """
    islands: Literal["keep", "remove"] | None = None
    """Parts of a structure that are apart from its largest part, instead of the prior's way."""
    enclosed: float | None = None
    """Leave the LV out of basal slices where the myocardium covers less than this part of the cavity's rim:
    0.5 is the SCMR's rule; by default the base is drawn as in the training data."""
    as_stored: bool = False
    """Look at images without orientation in their headers as they are stored; by default a model that can
    tell in which way they are stored turns them to that of its training images."""
    seed: int | None = None
    """Seed of the points that a fit draws."""

    def fit_options(self) -> FitOptions:
        """The options as the library takes them.

        Raises:
            BadSettingError: one has a value that it cannot have; the sentence names it.
        """
        from nisf.config.fit_options import FitOptions
        from nisf.errors import BadSettingError

        if self.steps is not None and self.steps < 1:
            raise BadSettingError(f"--steps {self.steps}: give a number of at least 1")
        return FitOptions(**{option.name: getattr(self, option.name) for option in fields(FitOptions)})
