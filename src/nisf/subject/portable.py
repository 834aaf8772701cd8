"""A subject in a form that programs of other languages can answer from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        block: side of the square blocks of pixels that features come in; it divides h and w.
        metric: mean over places of J'J, where J is what the features of one slice change of the answers.
        error: from a phase's index and its features, a little changed, the largest difference of an answer at
            places that are fixed.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Shaped[np.ndarray, "..."]]
    features: tuple[tuple[Float[np.ndarray, "_ _ f"], ...], ...]
    block: int
    metric: Float[np.ndarray, "f f"]
    error: Callable[[int, Sequence[Float[np.ndarray, "_ _ f"]]], float]
