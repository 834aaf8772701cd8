"""Arrangements: permutations and reversals that map a file's array axes to those of a stack.

Nothing is interpolated: each of the 48 arrangements moves voxels, and undoing it moves them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from nisf.data.geometry import Affine, Grid

MIRRORED = "mirrored"
"""Name of every in-plane arrangement that is not a rotation."""


@dataclass(frozen=True)
class Arrangement:
    """A permutation of the three axes, followed by reversals.

    Attributes:
        axes: the file's axis that becomes the first, second and third.
        flips: whether the first, second and third are then reversed.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if sorted(self.axes) != [0, 1, 2] or len(self.flips) != 3:
            raise ValueError(f"axes {self.axes} and flips {self.flips} are no arrangement of three axes")

    @property
    def changes_nothing(self) -> bool:
        return self == Arrangement()

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The file's array (a, b, c, ...), rearranged; a view without copying."""
        moved = array.transpose(*self.axes, *range(3, array.ndim))
        return moved[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]

    def undo(self, array: np.ndarray) -> np.ndarray:
        """An array in the stack's arrangement (x, y, z, ...), rearranged back to the file's; a view."""
        turned = array[tuple(slice(None, None, -1 if flip else None) for flip in self.flips)]
        back = [self.axes.index(axis) for axis in range(3)]
        return turned.transpose(*back, *range(3, array.ndim))

    def of_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The file's shape, rearranged."""
        x, y, z = (shape[axis] for axis in self.axes)
        return x, y, z

    def of_affine(self, affine: Affine, shape: tuple[int, int, int]) -> Affine:
        """The file's affine for the rearranged array: every voxel stays where it is in the world.

        Args:
            affine: voxel to world, mm.
            shape: shape of the file's array.
        """
        matrix = np.eye(4)
        matrix[:3, :3] = self.of_axes().T
        for axis, flip in zip(self.axes, self.flips, strict=True):
            matrix[axis, 3] = shape[axis] - 1 if flip else 0.0
        return affine @ Affine(matrix)

    def of_axes(self) -> np.ndarray:
        """Matrix whose rows are the directions of the new axes along those of the file (3, 3)."""
        matrix = np.zeros((3, 3))
        for new, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[new, axis] = -1.0 if flip else 1.0
        return matrix

    def words(self) -> str:
        """Description of an in-plane arrangement: ``mirrored``, ``turned by 180 degrees``; empty if none."""
        if self.changes_nothing:
            return ""
        swapped, (x, y, _) = self.axes != (0, 1, 2), self.flips
        if swapped == (x == y):
            return MIRRORED
        return "turned by 90 degrees" if swapped else "turned by 180 degrees"

    def of_grid(self, grid: Grid) -> Grid:
        """The file's grid, rearranged."""
        return Grid(self.of_shape(grid.shape), self.of_affine(grid.affine, grid.shape), grid.times)

    def then(self, other: Arrangement) -> Arrangement:
        """The composition of this arrangement and then another."""
        a, b, c = (self.axes[axis] for axis in other.axes)
        x, y, z = (self.flips[axis] != flip for axis, flip in zip(other.axes, other.flips, strict=True))
        return Arrangement((a, b, c), (x, y, z))

    def undo_grid(self, grid: Grid) -> Grid:
        """A grid in the stack's arrangement, rearranged back to the file's."""
        x, y, z = (self.axes.index(axis) for axis in range(3))
        back = Arrangement((x, y, z), (self.flips[x], self.flips[y], self.flips[z]))
        return back.of_grid(grid)


def in_plane() -> list[Arrangement]:
    """The eight arrangements that rotate or mirror slices and keep their order; the first is the identity."""
    axes: tuple[tuple[int, int, int], ...] = ((0, 1, 2), (1, 0, 2))
    return [Arrangement(order, (x, y, False)) for order, x, y in product(axes, (False, True), (False, True))]


def arrangements() -> Iterator[Arrangement]:
    """All 48 arrangements."""
    for (a, b, c), (x, y, z) in product(permutations(range(3)), product((False, True), repeat=3)):
        yield Arrangement((a, b, c), (x, y, z))


def same_place(first: Grid, second: Grid) -> bool:
    """Whether two grids have the same shape, and corners within a tenth of a voxel of each other."""
    if first.shape != second.shape:
        return False
    apart = np.linalg.norm(first.corners() - second.corners(), axis=1)
    return bool(apart.max() <= 0.1 * first.spacing.min())


def arrangement_between(grid: Grid, wanted: Grid) -> Arrangement | None:
    """The arrangement that maps a grid to another; None if none does within a tenth of a voxel."""
    # The direction of each axis of the wanted grid, in terms of the axes of the grid.
    cosine = grid.affine.axes.T @ wanted.affine.axes
    a, b, c = (int(axis) for axis in np.abs(cosine).argmax(axis=0))
    if sorted((a, b, c)) != [0, 1, 2]:
        return None
    flips = bool(cosine[a, 0] < 0), bool(cosine[b, 1] < 0), bool(cosine[c, 2] < 0)
    found = Arrangement((a, b, c), flips)
    return found if same_place(found.of_grid(grid), wanted) else None


def towards_world(affine: Affine, codes: str) -> Arrangement:
    """The arrangement whose axes best match anatomical codes, e.g. ``RAS``.

    Args:
        affine: voxel to world, mm, RAS+.
        codes: for each axis, the side towards which its index grows: R or L, A or P, S or I.
    """
    wanted = np.zeros((3, 3))
    for new, code in enumerate(codes):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        wanted[row, new] = sign
    cosine = affine.axes.T @ wanted
    # The best permutation overall: axis by axis, an oblique affine could use one axis twice.
    orders = permutations(range(3))
    a, b, c = max(orders, key=lambda order: sum(abs(cosine[axis, new]) for new, axis in enumerate(order)))
    return Arrangement((a, b, c), (bool(cosine[a, 0] < 0), bool(cosine[b, 1] < 0), bool(cosine[c, 2] < 0)))
