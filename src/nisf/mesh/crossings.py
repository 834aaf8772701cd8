"""Find self-intersections of a mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from nisf.mesh.surface import Surface

TRIANGLES = 5_000
"""Number of triangles tested together."""


def crossing_triangles(surface: Surface) -> Int[np.ndarray, "c"]:
    """Indices of the triangles that intersect an edge of another triangle, or whose edge does.

    Two triangles that are not coplanar intersect if and only if an edge of one meets the other. Edges that
    end at a corner of a triangle belong to its neighbours and do not count.
    """
    edges = surface.edges
    ends, corners = surface.vertices[edges], surface.corners
    centre, middle = corners.mean(1), ends.mean(1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(1)
    half = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / 2
    tree = KDTree(middle)
    found = np.zeros(len(corners), dtype=bool)
    pierced = np.zeros(len(edges), dtype=bool)
    for first in range(0, len(corners), TRIANGLES):
        some = slice(first, first + TRIANGLES)
        reach = radius[some].max() + half.max()
        near = KDTree(centre[some]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        triangle, edge = first + near["i"], near["j"]
        close = near["v"] <= radius[triangle] + half[edge]
        triangle, edge = triangle[close], edge[close]
        apart = (surface.faces[triangle][:, :, None] != edges[edge][:, None, :]).all((1, 2))
        triangle, edge = triangle[apart], edge[apart]
        hit = _meets(ends[edge], corners[triangle])
        found[triangle[hit]] = True
        pierced[edge[hit]] = True
    if pierced.any():
        code = np.sort(surface.faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2) @ [len(surface.vertices), 1]
        found |= np.isin(code, edges[pierced] @ [len(surface.vertices), 1]).any(1)
    return np.flatnonzero(found)


def _meets(ends: Float[np.ndarray, "n 2 3"], corners: Float[np.ndarray, "n 3 3"]) -> Bool[np.ndarray, "n"]:
    """Whether each segment meets its triangle (Möller and Trumbore 1997)."""
    origin, way = ends[:, 0], ends[:, 1] - ends[:, 0]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(way, second)
    scale = (first * across).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = origin - corners[:, 0]
        u = (offset * across).sum(1) / scale
        turned = np.cross(offset, first)
        v = (way * turned).sum(1) / scale
        t = (second * turned).sum(1) / scale
        return (scale != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)
