"""Thickness of a wall around a cavity in the 17 segments of the American Heart Association.

Rays leave the cavity's long axis at right angles. Where a ray crosses the wall obliquely, its path in the
wall is longer than the wall is thick, so the length is multiplied by the cosine of the angle between the ray
and the surface normal half way through the wall. The rotation of the segments is given by the middle between
the two insertions of the structure beside the wall.

Source of the segments: Cerqueira et al., Circulation 105(4), 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from nisf.data.anatomy import Anatomy
from nisf.data.case import Stack
from nisf.data.measure_rules import WallRule
from nisf.measures.lattice import Sampled
from nisf.subject.views import long_axis
from nisf.types import PointsMm, Vector3

LEVEL_MM, RAY_MM, LONGEST_MM = 1.5, 1.0, 70.0
"""Spacing of the levels along the axis and of the points on a ray, and length of a ray."""
ANGLES = 72
RAY_ANGLES = 2 * np.pi * np.arange(ANGLES) / ANGLES
"""Angles of the rays in each level."""
BESIDE_MM = 5.0
"""Maximum distance of the adjacent structure from the outside of the wall."""
OBLIQUE = 0.5
"""Minimum cosine between a ray and the wall's normal; near the tip of the cavity rays graze the wall."""
SMOOTH_MM, SMOOTH_ANGLES = 3.0, 2.0
"""Smoothing (standard deviation) of the surface for its normals, along the axis and around it."""
TIP_MM = 3.0
"""Distance from the axis within which lines parallel to it measure the wall at the tip."""
FEWEST = 12
"""Minimum number of rays for the mean of a segment."""


@dataclass(frozen=True, eq=False)
class Wall:
    """Thickness of a wall in segments 1 to 17.

    Attributes:
        thickness_mm: mean of each segment by phase, mm; NaN where it could not be measured (17,).
        phase: at which the thickness is given.
        to: phase up to which the thickening is given.
        names: names of the segments.
    """

    thickness_mm: Mapping[str, Float[np.ndarray, "17"]]
    phase: str
    to: str
    names: tuple[str, ...]

    @property
    def thickening_percent(self) -> Float[np.ndarray, "17"]:
        """Thickening of each segment at the second phase, in per cent of the first; NaN if unknown."""
        first, second = (self.thickness_mm.get(name, np.full(17, np.nan)) for name in (self.phase, self.to))
        with np.errstate(invalid="ignore", divide="ignore"):
            return 100 * (second / first - 1)


class _Frame(NamedTuple):
    """Geometry of a cavity: a point on its axis, unit directions, and its ends along the axis."""

    middle: Vector3
    apex: Vector3  # from the base to the tip
    front: Vector3  # across the axis; rays' angles are counted from here towards `side`
    side: Vector3
    base_mm: float
    tip_mm: float

    @property
    def levels(self) -> Float[np.ndarray, "l"]:
        """Positions of the levels along the axis, mm."""
        return np.arange(self.base_mm + LEVEL_MM / 2, self.tip_mm, LEVEL_MM)

    def places(self, along: np.ndarray, angle: np.ndarray, radius: np.ndarray) -> PointsMm:
        """World mm of cylindrical coordinates, which are broadcast."""
        across = np.cos(angle)[..., None] * self.front + np.sin(angle)[..., None] * self.side
        return self.middle + along[..., None] * self.apex + radius[..., None] * across


class _Rays(NamedTuple):
    """Radii at which rays meet surfaces, by level and angle, mm; NaN where they meet no wall."""

    inner: Float[np.ndarray, "l a"]
    outer: Float[np.ndarray, "l a"]


def measure_wall(
    rule: WallRule, anatomy: Anatomy, at: Mapping[str, Sampled], stack: Stack, *, mirrored: bool = False
) -> tuple[Wall | None, list[str]]:
    """Thickness of a wall by segment.

    Args:
        rule: declares the wall.
        anatomy: numbers the structures.
        at: the structures' nodes at the rule's known phases; the first phase is among them.
        stack: the reference stack, whose normal is close to the axis.
        mirrored: whether a stack of unknown orientation is stored as a mirror image of the training images.

    Returns:
        The thickness, or None if there is no axis or no adjacent structure; sentences that say why.
    """
    cavity, wall, beside = (anatomy.labels.index(name) for name in (rule.cavity, rule.wall, rule.beside))
    first = at[rule.phase]
    frame = _frame_of(first, cavity, stack.grid.affine.normal())
    if frame is None:
        return None, [f"no wall thickness: the {rule.cavity} is too short to have an axis"]
    rays = _cast(first, frame, cavity, wall)
    middle = _septum(first, frame, rays, beside)
    if middle is None:
        return None, [f"no wall thickness by segment: there is no {rule.beside} beside the {rule.wall}"]
    septum = np.cos(middle) * frame.front + np.sin(middle) * frame.side
    thickness = {}
    for name, sampled in at.items():
        if name != rule.phase:
            own = _frame_of(sampled, cavity, frame.apex)
            if own is None:
                continue
            frame, rays = own, _cast(sampled, own, cavity, wall)
        degrees = _from_anterior(frame, septum, stack, mirrored)
        thickness[name] = _by_segment(rays, frame, degrees, _at_tip(sampled, frame, cavity, wall))
    return Wall(thickness, rule.phase, rule.to, rule.segments), []


def _frame_of(sampled: Sampled, cavity: int, across: Vector3) -> _Frame | None:
    """The cavity's axis and ends; None if the cavity spans fewer than three levels of the search."""
    places = sampled.lattice.places(np.flatnonzero(sampled.label == cavity))
    if len(places) < FEWEST or np.ptp(places @ across) < 4 * SMOOTH_MM:
        return None
    whole = sampled.lattice.places(np.flatnonzero(sampled.label > 0))
    middle, apex = long_axis(places, across, whole)
    along = (places - middle) @ apex
    hint = np.eye(3)[np.abs(apex).argmin()]
    front = hint - (hint @ apex) * apex
    front /= np.linalg.norm(front)
    half = sampled.lattice.spacing_mm / 2
    return _Frame(
        middle,
        apex,
        front,
        np.cross(apex, front),
        float(np.quantile(along, 0.002)) - half,
        float(np.quantile(along, 0.998)) + half,
    )


def _from_anterior(frame: _Frame, septum: Vector3, stack: Stack, mirrored: bool) -> Float[np.ndarray, "a"]:
    """Angles of the rays in degrees from the anterior wall, via the septum to the inferior wall and on.

    Seen from the tip of the heart, with the septum to the left, the anterior wall is at the top. If the file
    does not give the orientation in the patient, images are taken to be seen from the tip, as scanners store
    them, or from the base if they are mirrored.
    """
    across = septum - (septum @ frame.apex) * frame.apex
    across /= np.linalg.norm(across)
    up = np.cross(across, frame.apex)
    if not stack.oriented:
        right, down, _ = stack.grid.affine.axes.T
        seen = -(across @ down) * right + (across @ right) * down
        up = up if (up @ seen >= 0) != mirrored else -up
    rays = np.cos(RAY_ANGLES)[:, None] * frame.front + np.sin(RAY_ANGLES)[:, None] * frame.side
    return np.rad2deg(np.arctan2(rays @ across, rays @ up)) % 360


def _values(sampled: Sampled, field: np.ndarray, places: PointsMm, order: int = 1) -> np.ndarray:
    """Values of nodes at world points: linear interpolation, or nearest node for order 0."""
    index = sampled.lattice.affine.inverse(places)
    return ndimage.map_coordinates(field, np.moveaxis(index, -1, 0), order=order, mode="nearest")


def _cast(sampled: Sampled, frame: _Frame, cavity: int, wall: int) -> _Rays:
    """Radii at which rays leave the cavity and the wall, at each level and angle."""
    radius = np.arange(0, _reach_mm(sampled, frame, cavity, wall), RAY_MM)
    places = frame.places(frame.levels[:, None, None], RAY_ANGLES[None, :, None], radius[None, None, :])
    return _crossings(sampled, places, cavity, wall)


def _reach_mm(sampled: Sampled, frame: _Frame, cavity: int, wall: int) -> float:
    """Length of rays that certainly leave the wall: no node of the wall is further from the axis."""
    own = (sampled.label == cavity) | (sampled.label == wall)
    offset = sampled.lattice.places(np.flatnonzero(own)) - frame.middle
    away = np.linalg.norm(offset - (offset @ frame.apex)[:, None] * frame.apex, axis=1)
    return min(LONGEST_MM, float(away.max()) + 4 * sampled.lattice.spacing_mm)


def _crossings(sampled: Sampled, places: PointsMm, cavity: int, wall: int) -> _Rays:
    """Where rays leave the cavity and the wall, from points along them, `RAY_MM` apart."""
    index = np.moveaxis(sampled.lattice.affine.inverse(places), -1, 0)

    def values(field: np.ndarray, at: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(field, at, order=1, mode="nearest")

    inside, within = (values(sampled.chance(classes), index) for classes in ((cavity,), (cavity, wall)))
    begins = inside[..., 0] > 0.5
    inner = _falls(inside, np.zeros(inside.shape[:-1]))
    outer = _falls(within, inner)
    # A structure that is cut off by the end of the measured slab has no border there.
    last = np.clip(np.nan_to_num(outer / RAY_MM).astype(int) + 1, 0, index.shape[-1] - 1)
    end = np.take_along_axis(index, np.broadcast_to(last, index.shape[:-1])[..., None], axis=-1)[..., 0]
    seen = values(sampled.lattice.inside.astype(np.float32), end) > 0.5
    found = begins & seen & (outer - inner > RAY_MM)
    return _Rays(np.where(found, inner, np.nan), np.where(found, outer, np.nan))


def _falls(values: Float[np.ndarray, "l a r"], start: Float[np.ndarray, "l a"]) -> Float[np.ndarray, "l a"]:
    """Radius at which values along rays first fall below a half after a start, mm; NaN if they never do."""
    after = np.arange(values.shape[-1]) >= np.floor(np.nan_to_num(start) / RAY_MM)[..., None]
    below = (values < 0.5) & after
    index = np.maximum(below.argmax(-1), 1)
    here = np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(values, index[..., None] - 1, axis=-1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        way = np.clip((before - 0.5) / (before - here), 0, 1)
    found = (index - 1 + np.nan_to_num(way)) * RAY_MM
    return np.where(below.any(-1) & np.isfinite(start), found, np.nan)


def _septum(sampled: Sampled, frame: _Frame, rays: _Rays, beside: int) -> float | None:
    """Angle half way between the insertions of the adjacent structure; None if it has none."""
    steps = np.arange(RAY_MM, BESIDE_MM + RAY_MM, RAY_MM)
    radius = np.nan_to_num(rays.outer)[..., None] + steps
    places = frame.places(frame.levels[:, None, None], RAY_ANGLES[None, :, None], radius)
    touched = (_values(sampled, sampled.label, places, order=0) == beside).any(-1) & np.isfinite(rays.outer)
    share = (frame.levels - frame.base_mm) / (frame.tip_mm - frame.base_mm)
    middle = touched[(share > 0.2) & (share < 0.7)]
    run = _longest_run(middle.mean(0) > 0.5) if len(middle) else None
    return None if run is None else float(2 * np.pi * (run[0] + (run[1] - 1) / 2) / ANGLES)


def _longest_run(mask: Bool[np.ndarray, "a"]) -> tuple[int, int] | None:
    """Start and length of the longest run of true entries around a circle; None if all or none are true."""
    if mask.all() or not mask.any():
        return None
    first = int(np.flatnonzero(~mask)[0])
    turned = np.roll(mask, -first)
    parts, count = ndimage.label(turned)
    lengths = np.bincount(parts)[1:]
    longest = int(lengths.argmax()) + 1
    assert count >= longest
    return first + int(np.flatnonzero(parts == longest)[0]), int(lengths.max())


def _by_segment(
    rays: _Rays, frame: _Frame, degrees: Float[np.ndarray, "a"], tip_mm: float
) -> Float[np.ndarray, "17"]:
    """Mean thickness of each segment, mm.

    Args:
        rays: their crossings.
        frame: frame of the cavity.
        degrees: directions of the rays, from the anterior wall.
        tip_mm: thickness at the tip.
    """
    thickness = (rays.outer - rays.inner) * _cosine((rays.outer + rays.inner) / 2)
    levels = np.clip(3 * (frame.levels - frame.base_mm) / (frame.tip_mm - frame.base_mm), 0, 2.999).astype(
        int
    )
    six, four = ((degrees + 30) // 60 % 6).astype(int), ((degrees + 45) // 90 % 4).astype(int)
    segment = np.stack([six, 6 + six, 12 + four])[levels]
    out = np.full(17, np.nan)
    for index in range(16):
        values = thickness[(segment == index) & np.isfinite(thickness)]
        if len(values) >= FEWEST:
            out[index] = values.mean()
    out[16] = tip_mm
    return out


def _cosine(radius: Float[np.ndarray, "l a"]) -> Float[np.ndarray, "l a"]:
    """Cosine between rays and the surface normal at these radii; NaN where rays graze the surface."""
    known = np.isfinite(radius)
    sigma, mode = (SMOOTH_MM / LEVEL_MM, SMOOTH_ANGLES), ("nearest", "wrap")
    weight = ndimage.gaussian_filter(known.astype(float), sigma, mode=mode)
    smooth = ndimage.gaussian_filter(np.where(known, radius, 0.0), sigma, mode=mode)
    with np.errstate(invalid="ignore", divide="ignore"):
        smooth = smooth / weight
        along = np.gradient(smooth, LEVEL_MM, axis=0) if len(smooth) > 1 else np.zeros_like(smooth)
        ahead, behind = np.roll(smooth, -1, axis=1), np.roll(smooth, 1, axis=1)
        around = (ahead - behind) / (2 * 2 * np.pi / ANGLES) / smooth
        cosine = 1 / np.sqrt(1 + along**2 + around**2)
        return np.where(known & (cosine >= OBLIQUE), cosine, np.nan)


def _at_tip(sampled: Sampled, frame: _Frame, cavity: int, wall: int) -> float:
    """Thickness at the tip along lines parallel to the axis, mm; NaN if too few lines cross the wall."""
    offsets = np.arange(-TIP_MM, TIP_MM + 0.1, TIP_MM / 3)
    a, b = (x.ravel() for x in np.meshgrid(offsets, offsets))
    near = np.hypot(a, b) <= TIP_MM
    across = a[near, None] * frame.front + b[near, None] * frame.side
    start = frame.middle + max(0.0, frame.tip_mm - LONGEST_MM / 2) * frame.apex
    along = np.arange(0, LONGEST_MM, RAY_MM)
    places = start + across[:, None] + along[:, None] * frame.apex
    rays = _crossings(sampled, places[None], cavity, wall)
    values = (rays.outer - rays.inner)[np.isfinite(rays.outer)]
    return float(values.mean()) if len(values) >= FEWEST else float("nan")
