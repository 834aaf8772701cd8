"""The planes of a case, each with all its frames, and the lines where they intersect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nisf.data.case import Case, Slice
from nisf.data.geometry import Affine, cycle_distance
from nisf.data.region import Region

STEP_MM = 1.0
"""Spacing of the points on a line."""
FEWEST_POINTS = 16
"""Minimum number of points of a useful line."""
PARALLEL = 0.8
"""Planes count as parallel above this cosine between their normals: their line is ill-conditioned."""
PHASES = 8
"""Maximum number of frames to compare; more add no information."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The slices at one position of a stack: one breath-hold.

    Attributes:
        stack: index into ``Case.stacks``.
        position: index along the stack.
        affine: ``(i, j, 0)`` to world mm.
        times: times of the frames, fractions of the cycle (t,).
        images: their intensities, the first channel (t, x, y).
    """

    stack: int
    position: int
    affine: Affine
    times: Float[np.ndarray, "t"]
    images: Float[np.ndarray, "t x y"]

    @property
    def normal(self) -> Float[np.ndarray, "3"]:
        """Unit normal of the plane; a stack's third axis may be oblique to its slices."""
        return self.affine.normal()

    def pixels(self, world: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixel coordinates of points, projected onto the plane."""
        return self.affine.inverse(world)[..., :2]


@dataclass(frozen=True, eq=False)
class Crossing:
    """The line where two planes intersect.

    Attributes:
        planes: indices of the two planes.
        line: its points inside both images and the region, world mm (n, 3).
        frames: frames of each plane at matching times (2, f).
    """

    planes: tuple[int, int]
    line: Float[np.ndarray, "n 3"]
    frames: tuple[np.ndarray, np.ndarray]


def planes_of(case: Case) -> list[Plane]:
    """The planes of a case, in order of stack and position; at most `PHASES` frames of each are kept."""
    together: dict[tuple[int, int], list[Slice]] = defaultdict(list)
    for item in case.slices:
        together[item.stack, item.position].append(item)
    out = []
    for (stack, position), items in sorted(together.items()):
        items.sort(key=lambda item: item.time)
        chosen = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, PHASES).round().astype(int))]
        images = np.stack([np.asarray(item.image[..., 0], dtype=np.float32) for item in chosen])
        times = np.array([item.time for item in chosen])
        out.append(Plane(stack, position, chosen[0].affine, times, images))
    return out


def crossings(planes: Sequence[Plane], region: Region) -> list[Crossing]:
    """Intersections of planes with different directions inside a region."""
    out = []
    for a, one in enumerate(planes):
        for b in range(a + 1, len(planes)):
            other = planes[b]
            if one.stack == other.stack or abs(one.normal @ other.normal) > PARALLEL:
                continue
            line = _line(one, other, region)
            if len(line) >= FEWEST_POINTS:
                out.append(Crossing((a, b), line, _same_times(one.times, other.times)))
    return out


def _line(one: Plane, other: Plane, region: Region) -> np.ndarray:
    """Points that both planes and the region share, `STEP_MM` apart, in order along the line."""
    along = np.cross(one.normal, other.normal)
    along /= np.linalg.norm(along)
    # The point of the line nearest to the region's centre.
    centre = region.centre()
    equations = np.stack([one.normal, other.normal, along])
    origins = np.stack([one.affine.matrix[:3, 3], other.affine.matrix[:3, 3], centre])
    start = np.linalg.solve(equations, (equations * origins).sum(axis=1))
    reach = float(np.linalg.norm(region.half))
    steps = np.arange(-reach, reach + STEP_MM, STEP_MM)
    points = start + steps[:, None] * along
    inside = region.contains(points)
    for plane in (one, other):
        pixel, size = plane.pixels(points), np.array(plane.images.shape[1:])
        inside &= ((pixel >= 0) & (pixel <= size - 1)).all(axis=-1)
    return points[inside]


def _same_times(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of two planes at the most similar times; all frames of the plane with fewer."""
    if len(other) < len(one):
        second, first = _same_times(other, one)
        return first, second
    return np.arange(len(one)), cycle_distance(one[:, None], other[None]).argmin(axis=1)
