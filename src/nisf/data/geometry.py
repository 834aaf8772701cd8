"""Voxels, millimetres and planes: the lowest layer of the data model.

Three coordinate systems, always as ``(..., 3)`` arrays of float64:

- *voxel*: array indices ``(i, j, k)``; integers are voxel centres;
- *world*: millimetres in the file's patient space (RAS+ for NIfTI);
- *model*: millimetres from the centre of the region of interest, along the axes of the reference
  stack. A `pose` is the rigid `Affine` from world to model.

Time is a fraction of the cycle in ``[0, 1)``; a static image has the single time 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from nisf.data.wording import counted, mm, place_mm, sizes
from nisf.types import Matrix4, Places, PointsMm, Vector, Vector3

LPS_RAS = np.array([-1.0, -1.0, 1.0])
"""Signs that convert between the world of DICOM and ITK (LPS+) and ours (RAS+), in either direction."""


@dataclass(frozen=True, eq=False, repr=False)
class Affine:
    """An invertible affine map of 3D space, e.g. voxel to world.

    Raises:
        ValueError: the matrix is not 4x4, not finite, singular, or its last row is not (0, 0, 0, 1).
    """

    matrix: Matrix4

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"an affine has 4 x 4 entries, this one has shape {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError("the affine has entries that are not finite")
        if not np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0)):
            raise ValueError(f"the affine's last row is {matrix[3].tolist()}, not (0, 0, 0, 1)")
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        # Relative to the column lengths: a 0.01 mm voxel is small, not singular.
        if lengths.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
            raise ValueError("the affine is singular: it maps space onto a plane")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    def __repr__(self) -> str:
        return f"Affine({mm(self.spacing)}, origin {place_mm(self.origin)})"

    @classmethod
    def from_axes(cls, axes: np.ndarray, spacing: Vector, origin: Vector) -> Affine:
        """The affine with unit column directions ``axes`` (3, 3), spacing (mm) and origin (mm)."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(axes, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)
        matrix[:3, 3] = origin
        return cls(matrix)

    @classmethod
    def scaling(cls, spacing: Vector, origin: Vector = (0.0, 0.0, 0.0)) -> Affine:
        """The affine along the world axes, with ``spacing`` mm per voxel."""
        return cls.from_axes(np.eye(3), spacing, origin)

    @classmethod
    def rigid(cls, rotation: np.ndarray, centre: Vector) -> Affine:
        """World to model: ``rotation @ (point - centre)``; rows of ``rotation`` are the model's axes."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -np.asarray(rotation, dtype=np.float64) @ np.asarray(centre, dtype=np.float64)
        return cls(matrix)

    def __call__(self, points: Places) -> PointsMm:
        """Map points of shape ``(..., 3)``."""
        # Not `@`: after a large product, numpy's BLAS threads spin on cores that PyTorch needs.
        points = np.asarray(points, dtype=np.float64)
        return np.einsum("...j,ij->...i", points, self.matrix[:3, :3]) + self.matrix[:3, 3]

    def __matmul__(self, other: Affine) -> Affine:
        """``(a @ b)(points) == a(b(points))``."""
        return Affine(self.matrix @ other.matrix)

    @cached_property
    def inverse(self) -> Affine:
        return Affine(np.linalg.inv(self.matrix))

    @property
    def spacing(self) -> Vector3:
        """Length of each column: mm per voxel."""
        return np.linalg.norm(self.matrix[:3, :3], axis=0)

    @property
    def axes(self) -> np.ndarray:
        """Unit direction of each voxel axis, as columns (3, 3)."""
        return self.matrix[:3, :3] / self.spacing

    @property
    def origin(self) -> Vector3:
        """World position of voxel (0, 0, 0)."""
        return self.matrix[:3, 3].copy()

    def normal(self) -> Vector3:
        """Unit normal of the (i, j) plane, on the side of increasing k."""
        i, j, k = self.axes.T
        normal = np.cross(i, j)
        normal /= np.linalg.norm(normal)
        return normal if normal @ k >= 0 else -normal

    def shifted(self, voxel: Vector) -> Affine:
        """The affine of the same grid counted from ``voxel``, which becomes (0, 0, 0)."""
        matrix = self.matrix.copy()
        matrix[:3, 3] = self(np.asarray(voxel, dtype=np.float64))
        return Affine(matrix)


def cycle_times(frames: int) -> np.ndarray:
    """Times of ``frames`` equally spaced frames of one cycle, as fractions: 0, 1/n, ..., (n-1)/n."""
    return np.arange(frames) / frames


def cycle_distance(times: np.ndarray, time: np.ndarray | float) -> np.ndarray:
    """Distance of times on the cycle, as a fraction of it: 0.999 is close to 0. Shapes broadcast."""
    return np.abs((times - time + 0.5) % 1.0 - 0.5)


def nearest_frame(times: np.ndarray, time: float) -> int:
    """Index of the time nearest on the cycle, the first of equals."""
    return int(cycle_distance(times, time).argmin())


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A regular grid of voxels with its position in the world and its times.

    Attributes:
        shape: voxels along x, y, z.
        affine: voxel to world, mm.
        times: fractions of the cycle, one per frame; ``(0.0,)`` for a static image.
    """

    shape: tuple[int, int, int]
    affine: Affine
    times: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has three sizes of at least 1, not {self.shape}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        times = np.array(self.times, dtype=np.float64).reshape(-1)
        if times.size == 0 or not np.isfinite(times).all():
            raise ValueError("a grid needs at least one finite time")
        times.setflags(write=False)
        object.__setattr__(self, "times", times)

    def __repr__(self) -> str:
        return f"Grid({self.words()})"

    def words(self) -> str:
        """Shape, spacing and number of frames, e.g. ``216 x 256 x 10, 1.5 x 1.5 x 8 mm, 30 frames``."""
        return f"{sizes(self.shape)}, {mm(self.spacing)}, {counted(len(self.times), 'frame')}"

    @property
    def spacing(self) -> Vector3:
        return self.affine.spacing

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(abs(np.linalg.det(self.affine.matrix[:3, :3]))) / 1000.0

    def points(self) -> PointsMm:
        """World position of every voxel centre: ``(x, y, z, 3)`` mm."""
        index = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), axis=-1)
        return self.affine(index)

    def corners(self) -> Float[np.ndarray, "8 3"]:
        """World mm of the centres of the outermost voxels."""
        ends = np.meshgrid(*[(0.0, n - 1.0) for n in self.shape])
        return self.affine(np.stack(ends, axis=-1).reshape(-1, 3))

    def points_of_slice(self, k: int, rows: slice = slice(None)) -> PointsMm:
        """World positions of some rows of slice ``k``: ``(n, 3)`` mm, y fastest."""
        index = np.meshgrid(np.arange(self.shape[0])[rows], np.arange(self.shape[1]), [k], indexing="ij")
        return self.affine(np.stack(index, axis=-1).reshape(-1, 3))

    def points_at(self, flat: Int[np.ndarray, "m"]) -> PointsMm:
        """World positions of voxels by their flat indices: ``(m, 3)`` mm."""
        return self.affine(np.stack(np.unravel_index(flat, self.shape), axis=-1))

    def nearest_frame(self, time: float) -> int:
        """Index of the frame whose time is nearest on the cycle."""
        return nearest_frame(self.times, time)

    def centre(self) -> Vector3:
        """World position of the centre of the grid."""
        return self.affine((np.array(self.shape) - 1) / 2)

    def at_spacing(self, spacing: Vector) -> Grid:
        """The same field of view (outer voxel faces, to within half a voxel) at another spacing, mm.

        Raises:
            ValueError: a spacing is not a positive finite number.
        """
        wanted = np.asarray(spacing, dtype=np.float64)
        if wanted.shape != (3,) or not np.isfinite(wanted).all() or wanted.min() <= 0:
            raise ValueError(f"a spacing is three positive numbers of mm, not {list(spacing)}")
        old = self.spacing
        shape = np.maximum(1, np.round(np.array(self.shape) * old / wanted)).astype(int)
        # Centred on the old grid, so that rounding affects both ends equally.
        first = (np.array(self.shape) - 1) / 2 - (shape - 1) / 2 * wanted / old
        affine = Affine.from_axes(self.affine.axes, wanted, self.affine(first))
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine, self.times)

    def with_frames(self, frames: int) -> Grid:
        """The same voxels at ``frames`` equally spaced times of the cycle."""
        if frames < 1:
            raise ValueError(f"the number of frames must be at least 1, not {frames}")
        return Grid(self.shape, self.affine, cycle_times(frames))

    def at_times(self, times: Vector) -> Grid:
        """The same voxels at other times (fractions of the cycle)."""
        return Grid(self.shape, self.affine, np.asarray(times, dtype=np.float64))

    @classmethod
    def plane(
        cls,
        centre: Vector,
        normal: Vector,
        *,
        size_mm: tuple[float, float],
        spacing_mm: float,
        up: Vector | None = None,
        times: Vector = (0.0,),
    ) -> Grid:
        """A one-voxel-thick grid with any position and orientation.

        Args:
            centre: centre of the grid, world mm.
            normal: direction across the plane; need not be a unit vector.
            size_mm: width and height of the plane.
            spacing_mm: pixel size.
            up: world direction whose projection onto the plane is the second image axis.
            times: fractions of the cycle.

        Raises:
            ValueError: the normal is zero, or `up` is parallel to it.
        """
        across = np.asarray(normal, dtype=np.float64)
        if np.linalg.norm(across) == 0:
            raise ValueError("the plane's normal is the zero vector")
        across = across / np.linalg.norm(across)
        hint = np.eye(3)[np.argmin(np.abs(across))] if up is None else np.asarray(up, dtype=np.float64)
        second = hint - (hint @ across) * across
        if np.linalg.norm(second) < 1e-6 * max(1.0, float(np.linalg.norm(hint))):
            raise ValueError("the plane's up direction is parallel to its normal")
        second /= np.linalg.norm(second)
        axes = np.stack([np.cross(second, across), second, across], axis=1)
        shape = [max(1, round(size / spacing_mm)) for size in size_mm] + [1]
        first = np.asarray(centre, dtype=np.float64) - axes @ (
            (np.array(shape) - 1) / 2 * spacing_mm * np.array([1, 1, 0])
        )
        affine = Affine.from_axes(axes, [spacing_mm] * 3, first)
        return cls((shape[0], shape[1], 1), affine, np.asarray(times, dtype=np.float64))
