"""A subject in a form that programs in other languages can query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped


@dataclass(frozen=True, eq=False)
class Portable:
    """Numbers and arrays for a decoder of the kind.

    Attributes:
        settings: as JSON; their meaning depends on the kind.
        weights: arrays of the network, float32.
        features: of each phase and slice, cropped to the box (h, w, f).
        block: side of the square blocks of pixels in which features come; divides h and w.
        metric: mean over points of J'J, where J is the derivative of the answers by one slice's features.
        error: given a phase's index and its modified features, returns the largest difference of an answer
            at fixed points.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Shaped[np.ndarray, "..."]]
    features: tuple[tuple[Float[np.ndarray, "_ _ f"], ...], ...]
    block: int
    metric: Float[np.ndarray, "f f"]
    error: Callable[[int, Sequence[Float[np.ndarray, "_ _ f"]]], float]
