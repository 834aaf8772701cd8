"""Bounds of settings: declared in their types, checked when a dataclass is created, shown in the help."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

from nisf.errors import BadSettingError


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number, or of each number in a list. Numbers must always be finite.

    Attributes:
        least: smallest value.
        most: largest value.
        beyond: whether ``least`` itself is excluded.
    """

    least: float = 0
    most: float = math.inf
    beyond: bool = False

    def told(self) -> str:
        """In words: ``1 to 8``, ``at least 0``, ``above 0``."""
        low = f"{self.least:g}"
        if self.most >= 2**53:
            return f"above {low}" if self.beyond else f"at least {low}"
        return f"above {low}, at most {self.most:g}" if self.beyond else f"{low} to {self.most:g}"

    def allow(self, value: float) -> bool:
        """Whether a value is finite and within the bounds."""
        if not math.isfinite(value):
            return False
        return (value > self.least if self.beyond else value >= self.least) and value <= self.most


Fraction = Annotated[float, Bounds(0, 1)]
Seed = Annotated[int, Bounds(0, 2**63 - 1)]


@cache
def bounds_of(kind: type) -> Mapping[str, Bounds]:
    """The bounds of a dataclass by field name, for fields that have any."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        parts = typing.get_args(hint) if typing.get_origin(hint) is not Annotated else (hint,)
        for part in (hint, *parts):
            for more in getattr(part, "__metadata__", ()):
                if isinstance(more, Bounds):
                    found[name] = more
    return found


def check_bounds(values: Any) -> None:
    """Check the fields of a dataclass against their bounds. Call it in ``__post_init__``.

    Numbers without bounds must be finite. Values of other types are not checked.

    Raises:
        BadSettingError: a value is out of bounds; the message names the field, the value and the bounds.
    """
    known = bounds_of(type(values))
    for one in fields(values):
        value = getattr(values, one.name)
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            bounds = known.get(one.name)
            if bounds is not None and not bounds.allow(number):
                raise BadSettingError(f"{one.name}={number}: give {bounds.told()}")
            if bounds is None and not math.isfinite(number):
                raise BadSettingError(f"{one.name}={number}: give a finite number")


def check_canvas(name: str, pixels: int, levels: int) -> None:
    """Check that an encoder can halve a canvas as often as it has levels, down to two pixels at least.

    Raises:
        BadSettingError: it cannot.
    """
    halved = 2**levels
    if pixels % halved or pixels == halved:
        raise BadSettingError(
            f"{name}={pixels}: give a multiple of {halved}, at least {2 * halved}, because the encoder "
            f"halves the canvas {levels} times (image.levels)"
        )
