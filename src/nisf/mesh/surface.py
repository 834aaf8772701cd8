"""A closed triangle mesh in world mm, and its properties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from nisf.types import Vector3


@dataclass(frozen=True, eq=False, repr=False)
class Surface:
    """Triangles that enclose a structure.

    Attributes:
        name: name of the structure or union.
        vertices: world mm, RAS+ (n, 3).
        faces: indices of vertices (m, 3), counter-clockwise seen from outside.
        time: fraction of the cycle.
    """

    name: str
    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    time: float = 0.0

    def __repr__(self) -> str:
        return f"<Surface {self.name}: {len(self.vertices)} vertices, {len(self.faces)} triangles>"

    @cached_property
    def corners(self) -> Float[np.ndarray, "m 3 3"]:
        """World mm of each triangle's corners."""
        return self.vertices[self.faces]

    @cached_property
    def across(self) -> Float[np.ndarray, "m 3"]:
        """Outward normal of each triangle with a length of twice its area, mm^2."""
        a, b, c = np.moveaxis(self.corners, 1, 0)
        return np.cross(b - a, c - a)

    @property
    def volume_ml(self) -> float:
        """Enclosed volume, mL, by the divergence theorem; positive if the normals point outwards."""
        # Relative to a nearby point, because world coordinates can be large.
        return float(((self.corners.mean(1) - self.vertices.mean(0)) * self.across).sum() / 6000.0)

    @property
    def area_cm2(self) -> float:
        """Area, cm^2."""
        return float(np.linalg.norm(self.across, axis=1).sum() / 200.0)

    @cached_property
    def normals(self) -> Float[np.ndarray, "n 3"]:
        """Outward unit normal at each vertex: area-weighted mean over its triangles."""
        total = np.stack(
            [
                np.bincount(self.faces.ravel(), np.repeat(self.across[:, axis], 3), len(self.vertices))
                for axis in range(3)
            ],
            axis=1,
        )
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return total / np.where(length == 0, 1.0, length)

    @cached_property
    def edges(self) -> Int[np.ndarray, "e 2"]:
        """Vertices of each edge, the smaller index first; each edge once."""
        return np.unique(np.sort(_directed(self.faces), axis=1), axis=0)

    @property
    def watertight(self) -> bool:
        """Whether each edge joins exactly two triangles, which run along it in opposite directions."""
        directed = _directed(self.faces)
        return (
            len(directed) > 0
            and len(np.unique(directed, axis=0)) == len(directed)
            and bool((np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)[1] == 2).all())
        )

    def extent(self) -> Vector3:
        """Lengths of its bounding box along the world's axes, mm."""
        return np.ptp(self.vertices, axis=0)


def _directed(faces: np.ndarray) -> np.ndarray:
    """Edges of all triangles, in the direction in which each triangle runs (3 m, 2)."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
