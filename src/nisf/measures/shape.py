"""Surface area and largest extent of a structure, from its nodes on a lattice."""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from nisf.data.geometry import Affine
from nisf.types import PointsMm

WEIGHTS = {1: 0.04577789120476 * 2, 2: 0.03698062787608 * 2, 3: 0.03519563978232 * 2}
"""Part of the sphere that is nearest to a direction along an axis, a face's or the cube's diagonal of the
lattice; Legland et al., Image Anal Stereol 26(2), 2007, table 2."""
DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""One of each of the 13 pairs of opposite directions to neighbouring nodes."""


def surface_mm2(mask: Bool[np.ndarray, "x y z"], spacing_mm: float) -> float:
    """Area of the surface of a set of nodes, mm2; within about 2 % for smooth bodies of ten nodes' width.

    Lines in 13 directions are counted where they enter or leave the set.

    Source: Crofton's formula as in Legland et al., Image Anal Stereol 26(2), 2007, equation 17.

    Args:
        mask: which nodes of a cubic lattice belong to it.
        spacing_mm: between nodes.
    """
    padded = np.pad(mask, 1)
    total = 0.0
    for direction in DIRECTIONS:
        first, second = _neighbours(padded, direction)
        steps = np.abs(direction).sum()
        # Each line stands for this area across it.
        across = spacing_mm**2 / np.sqrt(steps)
        total += WEIGHTS[int(steps)] * np.count_nonzero(first != second) * across
    return 2 * float(total)


def extent_mm(mask: Bool[np.ndarray, "x y z"], affine: Affine) -> float:
    """Largest distance between two places of a set of nodes (its maximum Feret diameter), mm; 0 if empty.

    Args:
        mask: which nodes belong to it.
        affine: node to world, mm.
    """
    border = _border(np.pad(mask, 1)) - 1.0
    if not len(border):
        return 0.0
    places: PointsMm = affine(border)
    # A few may lie in a plane; then all of them are looked at.
    with suppress(QhullError):
        places = places[ConvexHull(places).vertices]
    return float(pdist(places).max())


def _neighbours(mask: np.ndarray, direction: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every node that has a neighbour in a direction, and that neighbour."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(direction, mask.shape, strict=True))
    there = tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(direction, mask.shape, strict=True))
    return mask[here], mask[there]


def _border(mask: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "m 3"]:
    """Half way between each node of a set and its neighbours along the axes outside it, in nodes."""
    found = []
    for axis in range(3):
        direction = tuple(int(a == axis) for a in range(3))
        first, second = _neighbours(mask, direction)
        found.append(np.argwhere(first != second) + np.array(direction) / 2)
    return np.concatenate(found)
