"""A network in a form that can be traced: what `nisf export` writes for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

ROWS = "n"
"""Name of the axis of the places that are asked for."""


def _answers() -> Mapping[str, Mapping[int, str]]:
    return {"intensity": {0: ROWS}, "probability": {0: ROWS}}


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network that other programs run.

    Attributes:
        network: takes the inputs in their order.
        inputs: an example of each, by name.
        free: names of the axes of inputs that may have any length, by input and index of the axis; ``n`` is
            that of the places asked for.
        about: what a program must know to use it, as JSON takes it.
        outputs: names of the outputs, with their free axes; by default ``intensity``, in [0, 1], and
            ``probability`` of each class.
        others: inputs with other lengths of the free axes, to compare answers on; if None, the examples with
            twice as many places.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    about: Mapping[str, Any]
    outputs: Mapping[str, Mapping[int, str]] = field(default_factory=_answers)
    others: Mapping[str, Tensor] | None = None
