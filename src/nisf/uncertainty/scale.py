"""How the spread of a measure becomes the width of its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """How a measure's spread becomes half of its interval's width.

    Attributes:
        factor: on the spread.
        floor: added to the spread, root of the sum of squares; in the measure's unit.
    """

    factor: float
    floor: float

    def half_width(self, spread: float) -> float:
        """Half of the interval's width, in the measure's unit."""
        return self.factor * float(np.hypot(spread, self.floor))
