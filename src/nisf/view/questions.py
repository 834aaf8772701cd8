"""The page's requests, checked field by field because they come from outside."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.data.geometry import Affine, Grid
from nisf.errors import BadSettingError
from nisf.types import Vector3

MOST_PIXELS = 2048
"""Maximum number of pixels along each side of a plane."""
FARTHEST_MM = 1e5


def number(data: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A finite number from a request, within limits.

    Raises:
        BadSettingError: it is missing, not a number, or out of range.
    """
    value = data.get(name)
    # JSON has integers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise BadSettingError(f"{name}: give a number, not {str(value)[:40]!r}")
    if not low <= value <= high:
        raise BadSettingError(f"{name} {value:g}: give a number from {low:g} to {high:g}")
    return float(value)


def whole(data: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """An integer from a request, within limits; see `number`."""
    value = number(data, name, low, high)
    if value != int(value):
        raise BadSettingError(f"{name} {value:g}: give a whole number")
    return int(value)


def vector(data: Mapping[str, Any], name: str, most: float) -> Vector3:
    """Three numbers with absolute values of at most ``most``."""
    values = data.get(name)
    if not isinstance(values, list) or len(values) != 3:
        raise BadSettingError(f"{name}: give three numbers, not {str(values)[:40]!r}")
    return np.array([number({name: value}, name, -most, most) for value in values])


@dataclass(frozen=True, eq=False)
class PlaneQuestion:
    """A request for a plane at a time.

    Attributes:
        view: a newer request of the same view replaces an older one.
        centre: world mm of the centre of the image.
        right: world direction of increasing columns.
        down: world direction of increasing rows; perpendicular to ``right``.
        spacing: pixel size, mm.
        width: number of columns.
        height: number of rows.
        time: fraction of the cycle.
    """

    view: str
    centre: Vector3
    right: Vector3
    down: Vector3
    spacing: float
    width: int
    height: int
    time: float

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> PlaneQuestion:
        """Read a request of the page.

        Raises:
            BadSettingError: an entry is missing or invalid.
        """
        view = data.get("view")
        if not isinstance(view, str) or not view.isalnum() or len(view) > 16:
            raise BadSettingError("view: give a short name of letters and digits")
        right, down = vector(data, "right", 2.0), vector(data, "down", 2.0)
        lengths = np.array([np.linalg.norm(right), np.linalg.norm(down)])
        if np.abs(lengths - 1).max() > 1e-3 or abs(float(right @ down)) > 1e-3:
            raise BadSettingError("right, down: give two unit vectors at right angles")
        return cls(
            view,
            vector(data, "centre", FARTHEST_MM),
            right,
            down,
            number(data, "spacing", 1e-6, 1e3),
            whole(data, "width", 1, MOST_PIXELS),
            whole(data, "height", 1, MOST_PIXELS),
            number(data, "time", 0.0, 1.0),
        )

    def positions(self, pixel: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        """World mm of pixels (column, row), which may be fractional."""
        return self.grid().affine(np.c_[pixel, np.zeros(len(pixel))])

    def grid(self) -> Grid:
        """The plane as `nisf.subject.subject.Subject.render` takes it: columns, then rows."""
        axes = np.stack([self.right, self.down, np.cross(self.right, self.down)], axis=1)
        middle = (np.array([self.width, self.height, 1]) - 1) / 2 * self.spacing
        affine = Affine.from_axes(axes, [self.spacing] * 3, self.centre - axes @ middle)
        return Grid((self.width, self.height, 1), affine, np.array([self.time]))
