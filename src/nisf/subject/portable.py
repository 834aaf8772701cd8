"""A subject in a form that programs of other languages can answer from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped


@dataclass(frozen=True, eq=False)
class Portable:
    """Numbers and arrays that a decoder of the kind needs.

    Attributes:
        settings: as JSON takes them; what they mean is the kind's business.
        weights: arrays of the network, float32.
        features: of each phase and slice, cut out around the box (h, w, f).
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Shaped[np.ndarray, "..."]]
    features: tuple[tuple[Float[np.ndarray, "h w f"], ...], ...]
