"""Calibration of probabilities: reliability diagrams and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from nisf.data.case import UNKNOWN


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: points in bins of equal width of the confidence in their class.

    Attributes:
        confidence: mean probability of the most probable class in each bin (b,); NaN in empty ones.
        accuracy: fraction of the bin's points whose true class is that class (b,); likewise.
        count: number of points in each bin (b,).
    """

    confidence: Float[np.ndarray, "b"]
    accuracy: Float[np.ndarray, "b"]
    count: Integer[np.ndarray, "b"]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of confidence from accuracy, by points; NaN if empty.

        Source: Guo et al., ICML 2017, equation 3.
        """
        if not self.count.sum():
            return float("nan")
        return float(np.nansum(self.count * np.abs(self.confidence - self.accuracy)) / self.count.sum())


def reliability(
    probability: Float[np.ndarray, "n k"], label: Integer[np.ndarray, "n"], *, bins: int = 10
) -> Reliability:
    """Accuracy of the most probable class as a function of its probability.

    Args:
        probability: probability of each class, rows that sum to 1.
        label: the true class; points of unknown label are left out.
        bins: number of bins, of equal width over [0, 1].
    """
    known = label != UNKNOWN
    chosen, truth = probability[known], label[known]
    said = chosen.max(1).astype(np.float64)
    right = chosen.argmax(1) == truth
    place = np.clip(np.ceil(said * bins).astype(int) - 1, 0, bins - 1)
    count, confidence, hits = (
        np.bincount(place, weights=w, minlength=bins) for w in (np.ones(len(said)), said, right)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(confidence / count, hits / count, count.astype(np.int64))
