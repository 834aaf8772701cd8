"""Track one mesh through the cycle: a template whose vertices follow the level sets of the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse

from nisf.data.geometry import Affine
from nisf.mesh.crossings import crossing_triangles
from nisf.mesh.extraction import TOLERANCE_MM, Level
from nisf.mesh.surface import Surface

REACH_MM = 12.0
"""Distance along its normal up to which a vertex searches; the stack's ends move by a slice."""
LOOK_MM = 0.5
ROUNDS = 4
"""Number of iterations, because normals turn as the surface moves."""
STRAY_MM = 4.0
"""Displacements that differ more from their neighbours are rejected."""
SMOOTHING = 12
"""Number of averages over neighbours applied to the displacements in each iteration."""
RELAXATION = 0.3
"""Fraction of the way to the centre of its neighbours that a vertex moves tangentially in each iteration."""
REPAIRS = 8


def followed(
    surface: Surface, time: float, values: Float[np.ndarray, "x y z"], affine: Affine, level: Level
) -> Surface:
    """The same triangles on the level set at another, nearby time.

    Each vertex searches along its normal for where the gridded function falls below 0. Displacements are
    smoothed over the mesh, so that vertices that find nothing move with their neighbours. Finally each vertex
    is moved onto the level set itself. If triangles intersect then, they are smoothed until none do.

    Args:
        surface: at a nearby time.
        time: the new time, fraction of the cycle.
        values: the function on a grid at that time (see `nisf.mesh.extraction.level_set`).
        affine: grid index to world mm.
        level: the function at that time in world mm.
    """
    neighbours = adjacency(surface)

    def on_grid(position: np.ndarray) -> np.ndarray:
        index = np.moveaxis(affine.inverse(position), -1, 0)
        return ndimage.map_coordinates(values, index, order=1, mode="nearest")

    moved = replace(surface, time=time)
    offsets = np.arange(-REACH_MM, REACH_MM + LOOK_MM / 2, LOOK_MM)
    for _ in range(ROUNDS):
        distance, found = nearest_fall(moved, on_grid, offsets)
        along = smoothed(distance, found, neighbours)
        towards = neighbours @ moved.vertices - moved.vertices
        within = towards - (towards * moved.normals).sum(1, keepdims=True) * moved.normals
        step = along[:, None] * moved.normals + RELAXATION * within
        moved = replace(moved, vertices=moved.vertices + step)
    return repaired(onto(moved, level, (2 * LOOK_MM, float(affine.spacing.max()))), neighbours)


def adjacency(surface: Surface) -> sparse.csr_array:
    """Row-stochastic matrix that takes values at vertices to the mean over their neighbours (n, n)."""
    i, j = surface.edges.T
    n = len(surface.vertices)
    both = sparse.coo_array((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    return sparse.diags_array(1.0 / np.maximum(both.sum(1), 1.0)) @ both


def nearest_fall(
    surface: Surface, values: Callable[[np.ndarray], np.ndarray], offsets: Float[np.ndarray, "s"]
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Distance along its normal from each vertex to where a function falls below 0, and whether it does."""
    places = surface.vertices[:, None] + offsets[:, None] * surface.normals[:, None]
    seen = values(places)
    falls = (seen[:, :-1] > 0) & (seen[:, 1:] <= 0)
    # The surface lies ahead when seen from inside, behind when seen from outside; others are other sheets.
    ahead = offsets[1:] > 0
    inside = seen[:, len(offsets) // 2] > 0
    falls &= np.where(inside[:, None], ahead, ~ahead)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = seen[:, :-1] / (seen[:, :-1] - seen[:, 1:])
    where = np.where(falls, offsets[:-1] + part * np.diff(offsets), np.inf)
    nearest = np.abs(where).argmin(1)
    distance = where[np.arange(len(where)), nearest]
    found = np.isfinite(distance)
    return np.where(found, distance, 0.0), found


def smoothed(
    distance: Float[np.ndarray, "n"], found: Bool[np.ndarray, "n"], neighbours: sparse.csr_array
) -> Float[np.ndarray, "n"]:
    """Displacements averaged over neighbours; vertices without one get their neighbours'."""
    for last in (False, True):
        weight, total = found.astype(float), np.where(found, distance, 0.0)
        for _ in range(SMOOTHING):
            weight = (weight + neighbours @ weight) / 2
            total = (total + neighbours @ total) / 2
        mean = total / np.maximum(weight, 1e-9)
        if not last:
            found = found & (np.abs(distance - mean) < STRAY_MM)
    return mean


def onto(surface: Surface, level: Level, reaches: Sequence[float]) -> Surface:
    """Move vertices along their normals onto the level set, if it is within one of the distances, mm."""
    from scipy.optimize.elementwise import find_root

    vertices, normals, moved = surface.vertices, surface.normals, surface.vertices.copy()
    left = np.arange(len(vertices))
    for reach in reaches:
        inner, outer = (level(vertices[left] + sign * reach * normals[left]) for sign in (-1, 1))
        met = (inner > 0) & (outer < 0)
        rows, left = left[met], left[~met]

        def at(offset: np.ndarray, row: np.ndarray) -> np.ndarray:
            row = row.astype(np.int64)
            return level(vertices[row] + offset[:, None] * normals[row])

        ends = (np.full(len(rows), -reach), np.full(len(rows), reach))
        if len(rows):
            root = find_root(
                at, ends, args=(rows.astype(float),), tolerances={"xatol": TOLERANCE_MM}, maxiter=40
            )
            moved[rows] += root.x[:, None] * normals[rows]
    return replace(surface, vertices=moved)


def repaired(surface: Surface, neighbours: sparse.csr_array) -> Surface:
    """Smooth around intersecting triangles, in growing neighbourhoods; at most `REPAIRS` rounds."""
    for ring in range(REPAIRS):
        crossing = crossing_triangles(surface)
        if not len(crossing):
            break
        near = np.zeros(len(surface.vertices))
        near[surface.faces[crossing]] = 1.0
        for _ in range(ring):
            near = near + neighbours @ near
        smooth = surface.vertices
        for _ in range(2 + ring):
            smooth = np.where((near > 0)[:, None], (smooth + neighbours @ smooth) / 2, smooth)
        surface = replace(surface, vertices=smooth)
    return surface
