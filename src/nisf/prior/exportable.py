"""A network in a form that can be traced: what `nisf export` writes for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network whose outputs are ``intensity``, in [0, 1], and ``probability`` of each class.

    Attributes:
        network: takes the inputs in their order.
        inputs: an example of each, by name.
        free: names of the axes of inputs that may have any length, by input and index of the axis; ``n`` is
            that of the places asked for.
        about: what a program must know to use it, as JSON takes it.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    about: Mapping[str, Any]
