"""A subject's structures on a lattice that is fine at their borders and coarse elsewhere.

The lattice is turned against the axes of the slices. A border along them, like the base of a heart, would
otherwise lie between two layers of nodes as a whole, and the volume would be wrong by up to half a layer.
Turned, it crosses many layers, and the errors cancel.

It ends where the measured stack ends: half a slice spacing beyond the first and the last measured slice. What
a field says beyond is extrapolated, and slices read by hand do not count it either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial.transform import Rotation

from nisf.data.case import Stack
from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.stopwatch import stage
from nisf.subject.answerer import Answerer
from nisf.subject.subject import Subject
from nisf.types import PointsMm

SPACING_MM = 2.0
"""Between nodes, at most. A chamber of 30 mL has 3750 of them, and its volume is good to 0.3 %."""
STRIDES = (4, 2, 1)
"""Between the nodes that are asked, level by level; only cells with a border in them go to the next."""
TURN = Rotation.from_euler("xyz", (11.0, 17.0, 23.0), degrees=True).as_matrix()
"""Of the lattice against the slices: no axis or diagonal of either is along one of the other's."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes at equal distances along three axes, over a subject's region and measured slab.

    Attributes:
        shape: nodes along each axis; one more than a multiple of the largest stride.
        affine: node to world, mm.
        region: where the field answers.
        stack: the measured stack, whose slab bounds the lattice; None without one.
    """

    shape: tuple[int, int, int]
    affine: Affine
    region: Region
    stack: Stack | None

    @classmethod
    def over(cls, region: Region, stack: Stack | None, spacing_mm: float | None = None) -> Lattice:
        """The lattice over a region.

        Args:
            region: where the field answers.
            stack: the measured stack.
            spacing_mm: between nodes; by default `SPACING_MM`, or less where the stack's voxels are smaller.
        """
        if spacing_mm is None:
            voxel = SPACING_MM**3 if stack is None else 1000 * stack.grid.voxel_ml
            spacing_mm = min(SPACING_MM, voxel ** (1 / 3))
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
        """Between neighbouring nodes."""
        return float(self.affine.spacing[0])

    @property
    def node_ml(self) -> float:
        """Volume that a node stands for, mL."""
        return self.spacing_mm**3 / 1000

    def places(self, index: Int[np.ndarray, "m"]) -> PointsMm:
        """World mm of nodes, by their flat indices."""
        return self.affine(np.stack(np.unravel_index(index, self.shape), axis=-1))

    @cached_property
    def inside(self) -> Bool[np.ndarray, "x y z"]:
        """Whether nodes lie in the region and in the slab that was measured."""
        to_model = self.region.pose @ self.affine
        found = np.ones(self.shape, dtype=bool)
        for axis, half in enumerate(self.region.half):
            found &= np.abs(self._along(to_model, axis)) <= half
        if self.stack is not None:
            first, last = slab(self.stack)
            along = self._along(self.stack.grid.affine.inverse @ self.affine, 2)
            found &= (along >= first) & (along <= last)
        return found

    def _along(self, affine: Affine, axis: int) -> Float[np.ndarray, "x y z"]:
        """One coordinate of every node under an affine map; its parts add up, so that no place is made."""
        row = affine.matrix[axis]
        i, j, k = (np.arange(n) * factor for n, factor in zip(self.shape, row[:3], strict=True))
        return (i[:, None, None] + j[:, None] + k) + row[3]


def slab(stack: Stack) -> tuple[float, float]:
    """Where the measured stack begins and ends, in positions along it: half a slice beyond the outermost."""
    first, last = stack.ends or (0, stack.grid.shape[2] - 1)
    return first - 0.5, last + 0.5


@dataclass(frozen=True, eq=False)
class Sampled:
    """A subject's classes on a lattice at one time.

    Attributes:
        lattice: where.
        label: class of each node, background outside the region and the slab.
        index: flat indices of the nodes that were asked (m,), ascending: all near a border.
        probability: of each class there.
    """

    lattice: Lattice
    label: UInt8[np.ndarray, "x y z"]
    index: Int[np.ndarray, "m"]
    probability: Float[np.ndarray, "m k"]

    def volumes_ml(self) -> Float[np.ndarray, "s"]:
        """Volume of each structure, mL, in the order of the classes; the background is none."""
        counts = np.bincount(self.label.ravel(), minlength=self.probability.shape[1])
        return counts[1:] * self.lattice.node_ml

    def chance(self, classes: tuple[int, ...]) -> Float[np.ndarray, "x y z"]:
        """Probability that a node belongs to one of some classes; 0 or 1 away from their borders."""
        out = np.isin(self.label, classes).astype(np.float32)
        # Nodes outside the slab are background whatever was said there.
        known = self.lattice.inside.reshape(-1)[self.index]
        out.reshape(-1)[self.index[known]] = self.probability[known][:, list(classes)].sum(1)
        return out


def sample(answers: Answerer, lattice: Lattice, time: float, *, memory_mb: float = 512.0) -> Sampled:
    """Ask for the classes on a lattice at one time, finely only near borders.

    Args:
        answers: who is asked.
        lattice: where.
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
        wanted = np.zeros(lattice.shape, dtype=bool)
        wanted[:: STRIDES[0], :: STRIDES[0], :: STRIDES[0]] = True
        ask(wanted)
        for stride, finer in pairwise(STRIDES):
            mixed = _mixed(label[::stride, ::stride, ::stride])
            _fill(label, asked, stride, finer)
            ask(_nodes_of(mixed, stride, finer, lattice.shape))
    index = np.concatenate([part for part, _ in found])
    order = np.argsort(index)
    return Sampled(lattice, label, index[order], np.concatenate([part for _, part in found])[order])


def _mixed(label: UInt8[np.ndarray, "a b c"]) -> Bool[np.ndarray, "a-1 b-1 c-1"]:
    """Cells between nodes whose eight corners are not all of one class."""
    low, high = label, label
    for axis in range(3):
        before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        after = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        low, high = np.minimum(low[before], low[after]), np.maximum(high[before], high[after])
    return low != high


def _nodes_of(
    cells: Bool[np.ndarray, "a b c"], stride: int, finer: int, shape: tuple[int, int, int]
) -> Bool[np.ndarray, "x y z"]:
    """Every ``finer``-th node of the whole lattice that lies in or on some cells of the side ``stride``."""
    ratio = stride // finer
    out = np.zeros(shape, dtype=bool)
    nodes = out[::finer, ::finer, ::finer]
    for i, j, k in np.ndindex(ratio + 1, ratio + 1, ratio + 1):
        ends = [n * ratio for n in cells.shape]
        nodes[i : i + ends[0] : ratio, j : j + ends[1] : ratio, k : k + ends[2] : ratio] |= cells
    return out


def _fill(label: np.ndarray, asked: np.ndarray, stride: int, finer: int) -> None:
    """Give the nodes of the next level that were not asked the class of a corner of their cell."""
    coarse = label[::stride, ::stride, ::stride]
    for axis in range(3):
        coarse = coarse.repeat(stride // finer, axis=axis)
    fine = label[::finer, ::finer, ::finer]
    coarse = coarse[tuple(slice(0, n) for n in fine.shape)]
    fine[...] = np.where(asked[::finer, ::finer, ::finer], fine, coarse)


def sample_subject(
    subject: Subject, time: float, *, spacing_mm: float | None = None, memory_mb: float = 512.0
) -> Sampled:
    """A subject's classes at one time, islands removed as in all its answers; arguments as for `sample`."""
    stack = subject.stacks[0] if subject.stacks else None
    lattice = Lattice.over(subject.region, stack, spacing_mm)
    return sample(subject.answers, lattice, time, memory_mb=memory_mb)
