"""A network in traceable form, which `nisf export` writes for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
