"""Sections: what is seen of a structure in one slice, and whether it is sure enough to be drawn.

Near its end a structure either reaches a slice or does not, and a network that learns by overlap draws a
whole section there on little evidence. How sure it is where it is surest tells such sections from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from nisf.data.case import UNKNOWN
from nisf.evaluation.metrics import dice

SUREST = 0.9
"""Quantile of a section's probabilities that says how sure it is."""
CANDIDATES = (0.0, *np.arange(0.50, 0.99, 0.02).round(2).tolist())
"""What `least_certainty` chooses from."""
CLEAR = 0.001
"""Gain in Dice from which asking for certainty is better than not."""


@dataclass(frozen=True, eq=False)
class Answered:
    """The field's answers in one volume, with the labels there.

    Attributes:
        probability: of each class (n, k).
        label: class index or `UNKNOWN` (n,).
        slice: which slice each place lies on (n,).
    """

    probability: Float[np.ndarray, "n k"]
    label: Integer[np.ndarray, "n"]
    slice: Int[np.ndarray, "n"]


def certainty(probability: Float[np.ndarray, "m"]) -> float:
    """How sure a section is, from its class's probability at its m places."""
    return float(np.quantile(probability, SUREST))


def doubtful(
    label: Integer[np.ndarray, "x y z"],
    certain: Sequence[float],
    ask: Callable[[Int[np.ndarray, "m"]], Float[np.ndarray, "m k"]],
) -> Bool[np.ndarray, "x y z k"]:
    """Where structures have sections that are less sure than they should be; with room around each.

    Args:
        label: class of each voxel, as the field answers.
        certain: least certainty of a section of each structure, in the order of the classes, background
            excluded; 0 draws all.
        ask: class probabilities of voxels, by their flat indices.
    """
    out = np.zeros((*label.shape, len(certain) + 1), dtype=bool)
    for k, least in enumerate(certain, start=1):
        for z in range(label.shape[2]) if least > 0 else ():
            pixel = np.argwhere(label[:, :, z] == k)
            if not len(pixel):
                continue
            flat = np.ravel_multi_index((*pixel.T, np.full(len(pixel), z)), label.shape)
            if certainty(ask(flat)[:, k]) >= least:
                continue
            first, last = pixel.min(0), pixel.max(0)
            # Between slices the section may be larger than in the slice.
            room = 2 + (last - first) // 2
            x, y = (slice(a, b) for a, b in zip((first - room).clip(0), last + room + 1, strict=True))
            out[x, y, z, k] = True
    return out


def dice_of_class(found: Integer[np.ndarray, "n"], of: Answered, k: int) -> float:
    """Dice of class k where the label is known; NaN if neither side has it."""
    known = of.label != UNKNOWN
    return dice(found[known] == k, of.label[known] == k)


def classes_of(of: Answered, certain: Sequence[float]) -> Int[np.ndarray, "n"]:
    """Classes of the places if doubtful sections are not drawn.

    Args:
        of: the answers.
        certain: see `doubtful`.
    """
    first = of.probability.argmax(1)
    barred = np.zeros(of.probability.shape, dtype=bool)
    for k, least in enumerate(certain, start=1):
        for z in np.unique(of.slice) if least > 0 else ():
            section = (of.slice == z) & (first == k)
            if section.any() and certainty(of.probability[section, k]) < least:
                barred[of.slice == z, k] = True
    return np.where(barred, -1.0, of.probability).argmax(1)


def least_certainty(volumes: Sequence[Answered], classes: int) -> tuple[float, ...]:
    """For each structure the certainty to ask for that is best on labelled volumes, by its mean Dice.

    A candidate counts as much as the mean of itself and its neighbours, so that no lucky one is taken, and is
    taken only if that is clearly better than drawing everything.

    Args:
        volumes: slices that were given, and slices that were hidden.
        classes: number of classes, background included.
    """
    out = []
    for k in range(1, classes):
        scores = np.array(
            [
                [dice_of_class(classes_of(of, (0.0,) * (k - 1) + (least,)), of, k) for least in CANDIDATES]
                for of in volumes
            ]
        ).reshape(len(volumes), len(CANDIDATES))
        shown = scores[~np.isnan(scores[:, 0])]
        # Where nothing is left of what should not have been there, all is well.
        mean = np.nan_to_num(shown, nan=1.0).mean(0) if len(shown) else np.zeros(len(CANDIDATES))
        smooth = (mean + np.r_[mean[1:], mean[-1]] + np.r_[mean[0], mean[:-1]]) / 3
        best = int(smooth.argmax())
        out.append(CANDIDATES[best] if smooth[best] > mean[0] + CLEAR else 0.0)
    return tuple(out)
