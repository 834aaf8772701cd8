"""Convert the spread of a measure to the width of its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """Converts a measure's spread to the half width of its interval.

    Attributes:
        factor: factor on the spread.
        floor: added to the spread in quadrature, in the measure's unit.
    """

    factor: float
    floor: float

    def half_width(self, spread: float) -> float:
        """Half width of the interval, in the measure's unit."""
        return self.factor * float(np.hypot(spread, self.floor))
