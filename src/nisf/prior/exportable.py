"""A network in traceable form, which `nisf export` writes for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

ROWS = "n"
"""Name of the axis that runs over the queried points."""


def _answers() -> Mapping[str, Mapping[int, str]]:
    return {"intensity": {0: ROWS}, "probability": {0: ROWS}}


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network that other programs can run.

    Attributes:
        network: takes the inputs in the order of ``inputs``.
        inputs: one example of each input, by name.
        free: dynamic axes of the inputs: input name to axis index to axis name. ``n`` is the axis of queried
            points.
        about: JSON metadata that a program needs in order to use the network.
        outputs: output names, each with its dynamic axes; by default ``intensity``, in [0, 1], and
            ``probability`` of each class.
        others: inputs with other lengths of the dynamic axes, used to check the exported file; if None, the
            examples with twice as many points are used.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    about: Mapping[str, Any]
    outputs: Mapping[str, Mapping[int, str]] = field(default_factory=_answers)
    others: Mapping[str, Tensor] | None = None


def within(
    scaled: Float[Tensor, "n 3"], intensity: Float[Tensor, "n c"], probability: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n k"]]:
    """Answers inside the region; outside, background with intensity 0.

    Args:
        scaled: positions in units of the region's half size: [-1, 1] inside.
        intensity: at these positions, wherever they are.
        probability: likewise.
    """
    inside = (scaled.abs() <= 1).all(dim=1, keepdim=True).to(intensity.dtype)
    background = torch.cat([torch.ones_like(inside), torch.zeros_like(probability[:, 1:])], dim=1)
    return intensity * inside, probability * inside + background * (1 - inside)
