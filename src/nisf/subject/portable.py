"""A subject in a form that programs in other languages can query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

Tables = Sequence[Float[np.ndarray, "_ _ f"]]
"""Features of each slice at one phase, cut out around the box (h, w, f)."""


@dataclass(frozen=True, eq=False)
class Touched:
    """The pixels that some places take their features from: four of each of the k nearest slices.

    Attributes:
        pixel: their index among the pixels of all slices at a phase, one after the other, row by row.
        weight: how much each counts in its slice's features.
    """

    pixel: Int[np.ndarray, "p k 4"]
    weight: Float[np.ndarray, "p k 4"]


@dataclass(frozen=True, eq=False)
class Portable:
    """Numbers and arrays for a decoder of the kind.

    Attributes:
        settings: as JSON; their meaning depends on the kind.
        weights: arrays of the network, float32.
        features: features of each phase and slice.
        block: side of the square blocks of pixels that features come in; it divides h and w.
        times: at which answers can be compared: at a phase, given as ``(t,)``, and half-way between two
            phases that are decoded together, given as ``(t, t + 1)``.
        effects: from one of ``times``, a number of places and a seed, the derivatives of all answers by the
            features of the places' nearest slices (p, m, k, f).
        errors: from the same and the features of one phase or two, a little changed, the largest difference
            of an answer at each place.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Shaped[np.ndarray, "..."]]
    features: tuple[Tables, ...]
    block: int
    times: tuple[tuple[int, ...], ...]
    effects: Callable[[tuple[int, ...], int, int], tuple[Float[np.ndarray, "p m k f"], Touched]]
    errors: Callable[[tuple[int, ...], int, int, Sequence[Tables]], tuple[Float[np.ndarray, "p"], Touched]]
