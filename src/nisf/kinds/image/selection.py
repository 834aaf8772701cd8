"""Choose how certain sections of each structure must be, once per prior, on validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from nisf.data.case import UNKNOWN
from nisf.evaluation.metrics import dice
from nisf.subject.sections import certainty

CANDIDATES = (0.0, *np.arange(0.50, 0.99, 0.02).round(2).tolist())
"""Candidates of `least_certainty`."""
CLEAR = 0.001
"""Minimum gain in Dice for which a certainty is required at all."""


@dataclass(frozen=True, eq=False)
class Answered:
    """The field's answers in one volume, with the true labels.

    Attributes:
        probability: probability of each class (n, k).
        label: class index or `UNKNOWN` (n,).
        slice: index of the slice that each point lies on (n,).
    """

    probability: Float[np.ndarray, "n k"]
    label: Integer[np.ndarray, "n"]
    slice: Int[np.ndarray, "n"]


def dice_of_class(found: Integer[np.ndarray, "n"], volume: Answered, k: int) -> float:
    """Dice of class k where the label is known; NaN if the class occurs on neither side."""
    known = volume.label != UNKNOWN
    return dice(found[known] == k, volume.label[known] == k)


def classes_of(volume: Answered, certain: Sequence[float]) -> Int[np.ndarray, "n"]:
    """Classes of the points after doubtful sections are removed.

    Args:
        volume: the answers.
        certain: see `nisf.subject.sections.doubtful`.
    """
    first = volume.probability.argmax(1)
    barred = np.zeros(volume.probability.shape, dtype=bool)
    for k, least in enumerate(certain, start=1):
        for z in np.unique(volume.slice) if least > 0 else ():
            section = (volume.slice == z) & (first == k)
            if section.any() and certainty(volume.probability[section, k]) < least:
                barred[volume.slice == z, k] = True
    return np.where(barred, -1.0, volume.probability).argmax(1)


def least_certainty(volumes: Sequence[Answered], classes: int) -> tuple[float, ...]:
    """For each structure, the minimum certainty with the best mean Dice on labelled volumes.

    A candidate is scored by the mean over itself and its neighbours, which avoids lucky picks. It is used
    only if it is clearly better than keeping all sections.

    Args:
        volumes: the answers on slices that were given, and on slices that were hidden.
        classes: number of classes, background included.
    """
    out = []
    for k in range(1, classes):
        scores = np.array(
            [
                [dice_of_class(classes_of(one, (0.0,) * (k - 1) + (least,)), one, k) for least in CANDIDATES]
                for one in volumes
            ]
        ).reshape(len(volumes), len(CANDIDATES))
        shown = scores[~np.isnan(scores[:, 0])]
        # If the structure is absent and all its false sections are removed, the result is perfect.
        mean = np.nan_to_num(shown, nan=1.0).mean(0) if len(shown) else np.zeros(len(CANDIDATES))
        smooth = (mean + np.r_[mean[1:], mean[-1]] + np.r_[mean[0], mean[:-1]]) / 3
        best = int(smooth.argmax())
        out.append(CANDIDATES[best] if smooth[best] > mean[0] + CLEAR else 0.0)
    return tuple(out)
