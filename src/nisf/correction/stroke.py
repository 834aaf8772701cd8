"""A stroke: what a person marks along a line, at one time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nisf.data.geometry import Grid, cycle_distance
from nisf.errors import BadSettingError
from nisf.types import PointsMm

MOST_POINTS = 2_000
"""Maximum number of points of one stroke."""
FARTHEST_MM = 1e5
LEAST_RADIUS_MM, MOST_RADIUS_MM = 0.25, 30.0
LASTS = 0.015
"""Maximum distance in time at which a stroke holds as drawn, a fraction of the cycle: half a cine frame."""


@dataclass(frozen=True)
class Stroke:
    """A line in space at one time, and a class that is present or absent there.

    Attributes:
        points: vertices of the line, world mm; a single one is a dot.
        time: fraction of the cycle.
        label: name of a class, background included.
        present: whether the class is present; False means that it is any other class.
        radius_mm: half the width of the stroke.

    Raises:
        BadSettingError: a value is out of bounds.
    """

    points: tuple[tuple[float, float, float], ...]
    time: float
    label: str
    present: bool = True
    radius_mm: float = 1.5

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= MOST_POINTS:
            raise BadSettingError(f"a stroke has 1 to {MOST_POINTS} points, not {len(self.points)}")
        for point in self.points:
            if len(point) != 3 or not all(math.isfinite(x) and abs(x) <= FARTHEST_MM for x in point):
                raise BadSettingError(
                    f"a point is three numbers of mm up to {FARTHEST_MM:g}, not {str(point)[:60]}"
                )
        if not math.isfinite(self.time) or not 0 <= self.time <= 1:
            raise BadSettingError(f"time {self.time}: give a fraction of the cycle, from 0 to 1")
        if not LEAST_RADIUS_MM <= self.radius_mm <= MOST_RADIUS_MM:
            raise BadSettingError(
                f"radius_mm {self.radius_mm}: give {LEAST_RADIUS_MM:g} to {MOST_RADIUS_MM:g} mm"
            )

    @property
    def line(self) -> PointsMm:
        """Its vertices (n, 3), world mm."""
        return np.array(self.points, dtype=np.float64)

    @property
    def length_mm(self) -> float:
        """Length of the line; 0 for a dot."""
        return float(np.linalg.norm(np.diff(self.line, axis=0), axis=1).sum())

    def along(self, step_mm: float, most: int) -> PointsMm:
        """Evenly spaced points on the line, including its ends (m, 3).

        Args:
            step_mm: spacing; larger if there would be more than ``most`` points.
            most: maximum number, at least 2.
        """
        line = self.line
        corner = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
        count = min(most, 1 + math.ceil(corner[-1] / step_mm))
        way = np.linspace(0.0, corner[-1], count)
        return np.stack([np.interp(way, corner, line[:, axis]) for axis in range(3)], axis=1)

    def lasts(self, time: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Whether the stroke holds at given times."""
        return cycle_distance(time, self.time) <= LASTS

    def lasts_at(self, time: float) -> bool:
        """Whether it holds at a time."""
        return bool(self.lasts(np.array([time], dtype=np.float64))[0])

    def covers(self, position: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Which points lie within the radius of the line; positions in world mm."""
        line, covered = self.line, np.zeros(len(position), dtype=bool)
        low, high = line.min(0) - self.radius_mm, line.max(0) + self.radius_mm
        near = np.flatnonzero(((position >= low) & (position <= high)).all(1))
        place, best = position[near], np.full(len(near), np.inf)
        ends = line[1:] if len(line) > 1 else line
        for start, end in zip(line, ends, strict=False):
            way = end - start
            share = ((place - start) @ way / max(float(way @ way), 1e-12)).clip(0.0, 1.0)
            best = np.minimum(best, np.linalg.norm(place - start - share[:, None] * way, axis=1))
        covered[near] = best <= self.radius_mm * (1 + 1e-9)
        return covered

    def voxels(self, grid: Grid) -> Int[np.ndarray, "m"]:
        """Flat indices of the voxels of a grid whose centres it covers, ascending."""
        corner = grid.affine.inverse(self.line)
        # Extent of the radius along each voxel axis, in any direction.
        reach = self.radius_mm * np.linalg.norm(grid.affine.inverse.matrix[:3, :3], axis=1)
        shape = np.array(grid.shape)
        first = np.floor(corner.min(0) - reach).clip(0, shape).astype(int)
        last = (np.ceil(corner.max(0) + reach) + 1).clip(0, shape).astype(int)
        axes = np.meshgrid(*(np.arange(a, b) for a, b in zip(first, last, strict=True)), indexing="ij")
        index = np.stack(axes, axis=-1).reshape(-1, 3)
        index = index[self.covers(grid.affine(index))]
        return np.ravel_multi_index(tuple(index.T), grid.shape)


def check_labels(strokes: tuple[Stroke, ...], labels: tuple[str, ...]) -> None:
    """Reject strokes of unknown classes.

    Raises:
        BadSettingError: there is one; the message names it and the classes.
    """
    for number, stroke in enumerate(strokes, start=1):
        if stroke.label not in labels:
            raise BadSettingError(
                f"stroke {number}: no class is called '{stroke.label[:40]}'; there are {', '.join(labels)}"
            )
