"""The demands of strokes as points for a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.correction.stroke import Stroke

STEP_MM, MOST_PLACES = 1.0, 48
"""Spacing of the points along a stroke, and their maximum number."""
ASIDE = 0.7
"""Distance of additional points beside the line, as a fraction of the radius."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Points in and on the strokes, and the classes that the strokes mark.

    Attributes:
        position: world mm (n, 3).
        time: fraction of the cycle (n,).
        label: index of the class (n,).
        present: whether it is present (n,).
        share: weight of each point; those of one stroke sum to 1 (n,).
    """

    position: Float[np.ndarray, "n 3"]
    time: Float[np.ndarray, "n"]
    label: Int[np.ndarray, "n"]
    present: Bool[np.ndarray, "n"]
    share: Float[np.ndarray, "n"]

    def at(self, chosen: Bool[np.ndarray, "n"]) -> Targets:
        """A subset of the points."""
        return Targets(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def targets_of(strokes: Sequence[Stroke], labels: Sequence[str]) -> Targets:
    """The points of some strokes; where strokes cross, only the later one counts.

    Args:
        strokes: at least one.
        labels: names of the classes.
    """
    found = []
    for number, stroke in enumerate(strokes):
        position = around(stroke.along(STEP_MM, MOST_PLACES), ASIDE * stroke.radius_mm)
        open_ = np.ones(len(position), dtype=bool)
        for later in strokes[number + 1 :]:
            if later.lasts_at(stroke.time):
                open_ &= ~later.covers(position)
        position = position[open_]
        n = len(position)
        found.append(
            Targets(
                position,
                np.full(n, stroke.time),
                np.full(n, labels.index(stroke.label)),
                np.full(n, stroke.present),
                np.full(n, 1.0 / max(1, n)),
            )
        )
    return Targets(
        *(np.concatenate([getattr(t, name) for t in found]) for name in Targets.__dataclass_fields__)
    )


def around(line: Float[np.ndarray, "m 3"], distance: float) -> Float[np.ndarray, "n 3"]:
    """Points on a line, and points beside each of them on both sides along every axis."""
    aside = distance * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    return (line[:, None] + aside).reshape(-1, 3)


def misfit(
    logits: Float[Tensor, "n k"],
    label: Int[Tensor, "n"],
    present: Bool[Tensor, "n"],
    share: Float[Tensor, "n"],
) -> Float[Tensor, ""]:
    """Negative log-likelihood of the strokes, each counting as one observation.

    Args:
        logits: logits of the classes.
        label: class of each point; see `Targets`.
        present: whether the class is present at each point.
        share: share of each point in its stroke.
    """
    own = functional.log_softmax(logits, dim=1).gather(1, label[:, None])[:, 0]
    # log(1 - p) = log of the sum over the other classes, without cancellation.
    others = logits.scatter(1, label[:, None], -torch.inf).logsumexp(1) - logits.logsumexp(1)
    return -(torch.where(present, own, others) * share).sum()
