"""Surface area and maximum extent of a structure, from its nodes on a lattice."""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import numpy as np
from jaxtyping import Bool
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from nisf.data.geometry import Affine
from nisf.types import PointsMm

WEIGHTS = {1: 0.04577789120476 * 2, 2: 0.03698062787608 * 2, 3: 0.03519563978232 * 2}
"""Fraction of the sphere nearest to a direction along an axis, a face diagonal or a space diagonal of the
lattice; Legland et al., Image Anal Stereol 26(2), 2007, table 2."""
DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""One of each of the 13 pairs of opposite directions to neighbouring nodes."""


def surface_mm2(mask: Bool[np.ndarray, "x y z"], spacing_mm: float) -> float:
    """Surface area of a set of nodes, mm2; within about 2 % for smooth bodies that are ten nodes wide.

    Counts where lines in 13 directions enter or leave the set.

    Source: Crofton's formula as in Legland et al., Image Anal Stereol 26(2), 2007, equation 17.

    Args:
        mask: the nodes of a cubic lattice that belong to the set.
        spacing_mm: spacing of the nodes.
    """
    padded = np.pad(mask, 1)
    total = 0.0
    for direction in DIRECTIONS:
        first, second = _neighbours(padded, direction)
        steps = np.abs(direction).sum()
        # Cross-sectional area represented by each line.
        across = spacing_mm**2 / np.sqrt(steps)
        total += WEIGHTS[int(steps)] * np.count_nonzero(first != second) * across
    return 2 * float(total)


def extent_mm(mask: Bool[np.ndarray, "x y z"], affine: Affine) -> float:
    """Largest distance between two points of a set of nodes (maximum Feret diameter), mm; 0 if empty.

    Args:
        mask: the nodes that belong to the set.
        affine: node to world, mm.
    """
    nodes = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    if not len(nodes):
        return 0.0
    places: PointsMm = affine(nodes)
    # Few nodes may be coplanar, which has no convex hull; then all of them are compared.
    with suppress(QhullError):
        places = places[ConvexHull(places).vertices]
    return float(pdist(places).max(initial=0.0))


def _neighbours(mask: np.ndarray, direction: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All nodes that have a neighbour in a direction, and those neighbours."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(direction, mask.shape, strict=True))
    there = tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(direction, mask.shape, strict=True))
    return mask[here], mask[there]
