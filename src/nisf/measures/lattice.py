"""A subject's structures on a lattice that is fine at their borders and coarse elsewhere.

The lattice is rotated against the axes of the slices. Otherwise a border parallel to them, such as the base
of the heart, would lie between two layers of nodes as a whole, and the volume would be wrong by up to half a
layer. The rotated lattice crosses it at many depths, and the errors cancel.

The lattice ends half a slice spacing beyond the first and the last measured slice and half a pixel beyond the
border of the images. Beyond that the field extrapolates, and manual readings of the slices do not count that
space either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nisf.data.case import Stack
from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.stopwatch import stage
from nisf.subject.answerer import Answerer
from nisf.types import PointsMm

SPACING_MM = 2.0
"""Maximum spacing of the nodes. A chamber of 30 mL contains 3750 of them; its volume is within 0.3 %."""
NODES = 70
"""Minimum number of nodes along a side of the region, for small structures in small regions."""
STRIDES = (4, 2, 1)
"""Strides of the queried nodes, level by level; only cells that contain a border are refined."""
TURN = Rotation.from_euler("xyz", (11.0, 17.0, 23.0), degrees=True).as_matrix()
"""Rotation of the lattice against the slices: no axis or diagonal of one is parallel to one of the other."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Equally spaced nodes along three axes, over a subject's region and measured slab.

    Attributes:
        shape: nodes along each axis; one more than a multiple of the largest stride.
        affine: node to world, mm.
        region: the region in which the field gives answers.
        stack: the measured stack, whose slab bounds the lattice; None if there is none.
    """

    shape: tuple[int, int, int]
    affine: Affine
    region: Region
    stack: Stack | None

    @classmethod
    def over(cls, region: Region, stack: Stack | None, spacing_mm: float | None = None) -> Lattice:
        """The lattice over a region.

        Args:
            region: the region in which the field gives answers.
            stack: the measured stack.
            spacing_mm: spacing of the nodes; by default `SPACING_MM`, or less in small regions, see `NODES`.
        """
        if spacing_mm is None:
            spacing_mm = min(SPACING_MM, float(np.prod(2 * region.half) ** (1 / 3)) / NODES)
        axes = region.pose.inverse.matrix[:3, :3] @ TURN
        signs = np.stack(np.meshgrid(*[(-1, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        reach = np.abs((signs * region.half) @ TURN).max(0)
        stride = STRIDES[0]
        cells = stride * np.ceil(2 * reach / (stride * spacing_mm)).astype(int)
        first = region.centre() - axes @ (cells / 2 * spacing_mm)
        affine = Affine.from_axes(axes, [spacing_mm] * 3, first)
        return cls((int(cells[0]) + 1, int(cells[1]) + 1, int(cells[2]) + 1), affine, region, stack)

    @property
    def spacing_mm(self) -> float:
        """Distance of neighbouring nodes."""
        return float(self.affine.spacing[0])

    @property
    def node_ml(self) -> float:
        """Volume represented by a node, mL."""
        return self.spacing_mm**3 / 1000

    def places(self, index: Int[np.ndarray, "m"]) -> PointsMm:
        """World mm of nodes, given their flat indices."""
        return self.affine(np.stack(np.unravel_index(index, self.shape), axis=-1))

    @property
    def thin(self) -> bool:
        """Whether the measured slab is thinner than a cell of the coarsest level, which may miss it."""
        if self.stack is None:
            return False
        sides = np.diff(self.stack.bounds)[:, 0] * self.stack.grid.spacing
        return bool(sides.min() < STRIDES[0] * self.spacing_mm)

    @cached_property
    def inside(self) -> Bool[np.ndarray, "x y z"]:
        """Whether each node lies in the region, in the measured slab and within its images."""
        to_model = self.region.pose @ self.affine
        found = np.ones(self.shape, dtype=bool)
        for axis, half in enumerate(self.region.half):
            found &= np.abs(self._along(to_model, axis)) <= half
        if self.stack is not None:
            to_voxel = self.stack.grid.affine.inverse @ self.affine
            for axis, (first, last) in enumerate(self.stack.bounds):
                along = self._along(to_voxel, axis)
                found &= (along >= first) & (along <= last)
        return found

    def _along(self, affine: Affine, axis: int) -> Float[np.ndarray, "x y z"]:
        """One coordinate of every node under an affine map, by broadcasting, without storing all points."""
        row = affine.matrix[axis]
        i, j, k = (np.arange(n) * factor for n, factor in zip(self.shape, row[:3], strict=True))
        return (i[:, None, None] + j[:, None] + k) + row[3]


@dataclass(frozen=True, eq=False)
class Sampled:
    """A subject's classes on a lattice at one time.

    Attributes:
        lattice: the lattice.
        label: class of each node; background outside the region and the slab.
        index: flat indices of the queried nodes (m,), ascending; all of them are near a border.
        probability: probability of each class at these nodes.
    """

    lattice: Lattice
    label: UInt8[np.ndarray, "x y z"]
    index: Int[np.ndarray, "m"]
    probability: Float[np.ndarray, "m k"]

    def volumes_ml(self) -> Float[np.ndarray, "s"]:
        """Volume of each structure, mL, in the order of the classes, without the background."""
        counts = [np.count_nonzero(self.label == k) for k in range(1, self.probability.shape[1])]
        return np.array(counts) * self.lattice.node_ml

    def chance(self, classes: tuple[int, ...]) -> Float[np.ndarray, "x y z"]:
        """Probability that a node belongs to one of several classes; 0 or 1 away from their borders."""
        out = np.isin(self.label, classes).astype(np.float32)
        out.reshape(-1)[self.index] = self.probability[:, list(classes)].sum(1)
        return out


def sample(answers: Answerer, lattice: Lattice, time: float, *, memory_mb: float = 512.0) -> Sampled:
    """Query the classes on a lattice at one time, at full resolution only near borders.

    Args:
        answers: the answerer to query.
        lattice: the lattice.
        time: fraction of the cycle.
        memory_mb: working memory, MiB.
    """
    label = np.zeros(lattice.shape, dtype=np.uint8)
    asked = np.zeros(lattice.shape, dtype=bool)
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def ask(wanted: Bool[np.ndarray, "x y z"]) -> None:
        index = np.flatnonzero(wanted & lattice.inside & ~asked)
        asked.reshape(-1)[index] = True
        times = np.full(len(index), time)
        answer = answers.answer(lattice.places(index), times, memory_mb=memory_mb).probability
        label.reshape(-1)[index] = answer.argmax(1)
        found.append((index, answer.astype(np.float32)))

    with stage("measuring"):
        levels = STRIDES[-1:] if lattice.thin else STRIDES
        wanted = np.zeros(lattice.shape, dtype=bool)
        wanted[:: levels[0], :: levels[0], :: levels[0]] = True
        ask(wanted)
        for stride, finer in pairwise(levels):
            mixed = _mixed(label[::stride, ::stride, ::stride])
            if stride == levels[0]:
                # A curved border may bulge into a cell without enclosing one of its corners.
                mixed = ndimage.binary_dilation(mixed)
            _fill(label, asked, stride, finer)
            ask(_nodes_of(mixed, stride, finer, lattice.shape))
        label[~lattice.inside] = 0  # coarse cells across the slab's faces were filled as a whole
    index = np.concatenate([part for part, _ in found])
    order = np.argsort(index)
    return Sampled(lattice, label, index[order], np.concatenate([part for _, part in found])[order])


def _mixed(label: UInt8[np.ndarray, "a b c"]) -> Bool[np.ndarray, "a-1 b-1 c-1"]:
    """Cells whose eight corner nodes are not all of one class."""
    low, high = label, label
    for axis in range(3):
        before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        after = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        low, high = np.minimum(low[before], low[after]), np.maximum(high[before], high[after])
    return low != high


def _nodes_of(
    cells: Bool[np.ndarray, "a b c"], stride: int, finer: int, shape: tuple[int, int, int]
) -> Bool[np.ndarray, "x y z"]:
    """Every ``finer``-th node of the whole lattice that lies in or on the given cells of side ``stride``."""
    ratio = stride // finer
    out = np.zeros(shape, dtype=bool)
    nodes = out[::finer, ::finer, ::finer]
    for i, j, k in np.ndindex(ratio + 1, ratio + 1, ratio + 1):
        ends = [n * ratio for n in cells.shape]
        nodes[i : i + ends[0] : ratio, j : j + ends[1] : ratio, k : k + ends[2] : ratio] |= cells
    return out


def _fill(label: np.ndarray, asked: np.ndarray, stride: int, finer: int) -> None:
    """Give the nodes of the next level that were not queried the class of a corner of their cell."""
    coarse = label[::stride, ::stride, ::stride]
    for axis in range(3):
        coarse = coarse.repeat(stride // finer, axis=axis)
    fine = label[::finer, ::finer, ::finer]
    coarse = coarse[tuple(slice(0, n) for n in fine.shape)]
    fine[...] = np.where(asked[::finer, ::finer, ::finer], fine, coarse)
