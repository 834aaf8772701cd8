"""The region of interest: a box in model millimetres, found from labels or from motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from nisf.data.arrangement import Arrangement
from nisf.data.case import Case, Slice
from nisf.data.geometry import Affine
from nisf.data.scratch import let_go
from nisf.data.wording import mm, place_mm
from nisf.types import PointsMm, Vector, Vector3


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """A box around the anatomy.

    Attributes:
        pose: world to model, rigid (mirrored if slices are counted from the other end).
        half: half the lengths of the box along the model axes, mm.
    """

    pose: Affine
    half: Vector3

    def __post_init__(self) -> None:
        half = np.array(self.half, dtype=np.float64)
        if half.shape != (3,) or not (np.isfinite(half).all() and half.min() > 0):
            raise ValueError(f"a region has three half lengths above 0 mm, not {self.half}")
        object.__setattr__(self, "half", half)

    def __repr__(self) -> str:
        return f"Region({mm(2 * self.half)} around {place_mm(self.centre())})"

    def coordinates(self, world: PointsMm) -> PointsMm:
        """World mm to field coordinates: [-1, 1] inside the box."""
        return self.pose(world) / self.half

    def contains(self, world: PointsMm) -> np.ndarray:
        """Whether points lie in the box; shape of ``world`` without its last axis."""
        return np.max(np.abs(self.coordinates(world)), axis=-1) <= 1.0

    def centre(self) -> Vector3:
        """World mm."""
        return self.pose.inverse.origin

    def turned(self, quarters: int = 0, *, mirror: bool = False, reverse: bool = False) -> Region:
        """The same box with other axes.

        Args:
            quarters: quarter turns in the plane.
            mirror: whether the first in-plane axis is flipped, before turning.
            reverse: whether the slices are counted from the other end.
        """
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
        flip = -1 if mirror else 1
        turn = np.array([[flip * cos, -sin, 0], [flip * sin, cos, 0], [0, 0, -1 if reverse else 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        return Region(Affine(matrix @ self.pose.matrix), np.abs(turn @ self.half))

    def arranged(self, arrangement: Arrangement) -> Region:
        """The same box along the axes of the reference stack after an in-plane arrangement."""
        matrix = np.eye(4)
        matrix[:3, :3] = arrangement.of_axes()
        return Region(Affine(matrix @ self.pose.matrix), np.abs(matrix[:3, :3]) @ self.half)

    def moved(self, shift_mm: Vector3, turn: Vector3) -> Region:
        """The same box, moved such that a point at model position ``p`` is at ``rotated(p) + shift_mm``.

        Args:
            shift_mm: along the model axes.
            turn: rotation vector about them, radians.
        """
        from scipy.spatial.transform import Rotation

        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
        matrix[:3, 3] = shift_mm
        return Region(Affine(matrix @ self.pose.matrix), self.half)


def reference_pose(case: Case, centre: Vector, *, reverse: bool = False) -> Affine:
    """World to model: axes of the reference stack.

    Args:
        case: its first stack is the reference; without stacks, the axes are the world's.
        centre: origin of the model coordinates, world mm.
        reverse: whether the third axis runs against the order of the slices.
    """
    affine = case.stacks[0].grid.affine if case.stacks else Affine(np.eye(4))
    x = affine.axes[:, 0]
    z = affine.normal() * (-1.0 if reverse else 1.0)
    # A scanner's in-plane axes are orthogonal; a sheared affine is made orthogonal here.
    y = np.cross(z, x)
    y *= np.sign(y @ affine.axes[:, 1])
    return Affine.rigid(np.stack([x, y, z]), centre)


def pixel_positions(item: Slice) -> PointsMm:
    """World mm of every pixel centre of a slice: ``(x, y, 3)``."""
    nx, ny = item.image.shape[:2]
    index = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), [0], indexing="ij"), axis=-1)
    return item.affine(index[:, :, 0])


def measured_inside(case: Case, region: Region) -> int:
    """Number of pixels and loose points of a case that lie in the region."""
    inside: dict[tuple[bytes, tuple[int, ...]], int] = {}
    count = 0
    for item in case.slices:
        place = item.affine.matrix.tobytes(), item.image.shape[:2]  # frames of a cine share it
        if place not in inside:
            inside[place] = int(region.contains(pixel_positions(item)).sum())
        count += inside[place]
    return count + (0 if case.points is None else int(region.contains(case.points.position).sum()))


def labelled_positions(case: Case) -> PointsMm:
    """World mm of every voxel of a structure ``(n, 3)``; empty without labels."""
    places = [pixel_positions(s)[s.label > 0] for s in case.labelled() if s.label is not None]
    if case.points is not None:
        places.append(case.points.position[case.points.label > 0])
    return np.concatenate(places) if places else np.zeros((0, 3))


def larger_end_last(case: Case) -> bool:
    """Whether the labelled structures are larger at the end of the stack than at its start.

    For short-axis stacks: whether they run from apex to base. It only counts pixels, for any anatomy.
    """
    areas: dict[int, int] = {}
    for item in case.labelled():
        if item.stack == 0 and item.label is not None:
            areas[item.position] = areas.get(item.position, 0) + int((item.label > 0).sum())
    filled = sorted(position for position, area in areas.items() if area)
    third = max(1, len(filled) // 3)
    first = sum(areas[position] for position in filled[:third])
    last = sum(areas[position] for position in filled[-third:])
    return last > first


def labelled_pose(case: Case, *, order: bool) -> Affine | None:
    """World to model, centred on the labelled structures, or None without labels.

    Args:
        case: its labels define the centre.
        order: whether to count slices from the end where the structures are larger.
    """
    places = labelled_positions(case)
    if not len(places):
        return None
    # The middle of the extent; the centre of mass would move with the phase.
    pose = reference_pose(case, (0.0, 0.0, 0.0), reverse=order and larger_end_last(case))
    model = pose(places)
    centre = pose.inverse((model.min(0) + model.max(0)) / 2)
    return Affine.rigid(pose.matrix[:3, :3], centre)


def region_from_labels(case: Case, half: Vector, *, order: bool) -> Region | None:
    """The box around the labelled structures' centre, or None without labels.

    Args:
        case: its labels define the centre.
        half: half lengths of the box, mm.
        order: see `labelled_pose`.
    """
    pose = labelled_pose(case, order=order)
    return None if pose is None else Region(pose, np.asarray(half, dtype=np.float64))


def over_all_slices(case: Case, region: Region) -> Region:
    """The region, extended across the slices to contain all slices of the reference stack.

    A field that sees the slices can be queried on all of them, and the result does not depend on the position
    of the region along the stack.
    """
    centre = region.centre()
    reach = [
        abs(float((centre - item.affine.origin) @ item.affine.normal())) + item.thickness / 2
        for item in case.slices
        if item.stack == 0
    ]
    half = region.half.copy()
    half[2] = max([half[2], *reach])
    return Region(region.pose, half)


def whole_region(case: Case) -> Region:
    """The whole field of view of the slices and points."""
    pose = reference_pose(case, (0.0, 0.0, 0.0))
    # Frames of a cine share their positions.
    each = {(s.affine.matrix.tobytes(), s.image.shape[:2]): s for s in case.slices}.values()
    # Copied, because a view would keep the positions of all pixels.
    corners = [
        pixel_positions(s)[:: s.image.shape[0] - 1 or 1, :: s.image.shape[1] - 1 or 1].reshape(-1, 3).copy()
        for s in each
    ]
    if case.points is not None:
        corners.append(case.points.position)
    model = pose(np.concatenate(corners))
    thickness = max((s.thickness for s in case.slices), default=1.0)
    half = (model.max(0) - model.min(0)) / 2 + np.array([0.5, 0.5, 0.5 * thickness])
    centre = pose.inverse((model.max(0) + model.min(0)) / 2)
    return Region(Affine.rigid(pose.matrix[:3, :3], centre), half)


def mean_shift(
    places: PointsMm, weight: Float[np.ndarray, "n"], window: Vector
) -> tuple[Vector3, Bool[np.ndarray, "n"]]:
    """The densest place among weighted points: the mean of those in a window that moves to their mean.

    Starts from the mean of all points and ends after 20 moves, when a move is shorter than 0.1 mm along each
    axis, or in a window without any weight.

    Args:
        places: (n, 3) mm.
        weight: not negative, not all 0.
        window: half lengths of the window along the first axes; unlimited along further axes.

    Returns:
        The centre, and which points with a weight were in the final window.
    """
    window = np.asarray(window, dtype=np.float64)
    centre = np.average(places, axis=0, weights=weight)
    inside = np.zeros(len(places), dtype=bool)
    for _ in range(20):
        inside = (np.abs(places - centre)[:, : len(window)] <= window).all(1) & (weight > 0)
        if not inside.any():
            break
        moved = np.average(places[inside], axis=0, weights=weight[inside])
        if np.abs(moved - centre).max() < 0.1:
            break
        centre = moved
    return centre, inside


def region_from_motion(case: Case, half: Vector) -> Region | None:
    """The box around what moves: weighted centre of the temporal standard deviation.

    None if the case has fewer than three frames, or nothing moves. The window with the most motion is
    found first, so that arms, vessels and flow artefacts elsewhere do not pull the centre away.
    """
    half = np.asarray(half, dtype=np.float64)
    stacks: dict[tuple[int, int], list[Slice]] = {}
    for item in case.slices:
        if item.stack == 0:
            stacks.setdefault((item.stack, item.position), []).append(item)
    if not stacks or max(len(items) for items in stacks.values()) < 3:
        return None
    places, weights = [], []
    for items in stacks.values():
        if len(items) < 3:
            continue
        deviation = np.std([item.image[..., 0] for item in items], axis=0, dtype=np.float64)
        let_go(items[0].image)
        # An upper percentile, which ignores noise and slow drift.
        deviation = np.maximum(deviation - np.percentile(deviation, 95), 0)
        places.append(pixel_positions(items[0]).reshape(-1, 3))
        weights.append(deviation.reshape(-1))
    place, weight = np.concatenate(places), np.concatenate(weights)
    pose = reference_pose(case, (0.0, 0.0, 0.0))
    model = pose(place)
    if not weight.any():
        return None
    centre, _ = mean_shift(model, weight, half[:2])
    return Region(Affine.rigid(pose.matrix[:3, :3], pose.inverse(centre)), half)
