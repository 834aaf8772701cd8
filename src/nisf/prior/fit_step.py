"""A fit as it goes: what can be looked at between two of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class FitStep:
    """Where a fit is.

    Attributes:
        done: steps so far.
        most: steps that there are at most.
        subject: makes the subject as it is now, without a posterior; only then is anything computed.
        loss: mean cross-entropy of the intensities now, on the same points at every step.
    """

    done: int
    most: int
    subject: Callable[[], Any]
    loss: Callable[[], float]


OnStep = Callable[[FitStep], None]
"""Gets every step of a fit; what it raises ends the fit."""
