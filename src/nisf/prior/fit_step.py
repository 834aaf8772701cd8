"""The state of a running fit, for those who follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class FitStep:
    """The state of a fit after one of its steps.

    Attributes:
        done: steps done so far.
        most: maximum number of steps.
        subject: makes the current subject, without a posterior; nothing is computed until it is called.
        loss: current mean cross-entropy of the intensities, on the same points at every step.
    """

    done: int
    most: int
    subject: Callable[[], Any]
    loss: Callable[[], float]


OnStep = Callable[[FitStep], None]
"""Called with every step of a fit; an exception that it raises ends the fit."""
