"""A beating heart as an analytic function of position and time, with exact volumes.

The left ventricle is a prolate ellipsoid cut by the basal plane, its epicardium a second one with the
same centre and cut, the right ventricle a third, bent around the first two. Nothing is sampled: all functions
here accept any world position (mm) and any time (fraction of the cycle), and volumes are closed forms (left)
or a quadrature of closed forms (right).

*Heart coordinates* are mm in ``axes(heart)``: the first towards the right ventricle, the third along the
long axis from base to apex, zero at ``heart.centre_mm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nisf.data.anatomy import load_anatomy
from nisf.data.geometry import Affine
from nisf.types import PointsMm

Numbers = np.ndarray | float
"""One number or an array; the result has the same type."""

LABELS = load_anatomy("cardiac-sax").labels
LV, MYO, RV = 1, 2, 3

# Distance of the basal plane above the widest place, as a fraction of the cavity's long half axis.
CUT = 0.35
# Fraction of the (logarithmic) emptying that shortens the long axis; an ejection of 60 % gives 18 %.
LONGITUDINAL = 0.22
# Thickness at the apex, relative to the maximum thickness of the wall.
APEX = 0.7
# Direction of the long axis in patients: left, forward, down (RAS+); the RV is on the right and in front.
APEX_DIRECTION = np.array([-0.70, 0.50, -0.50])
RV_DIRECTION = np.array([0.70, 0.70, 0.0])


@dataclass(frozen=True)
class Heart:
    """The heart of one subject; all lengths at end-diastole.

    Attributes:
        radius_mm: maximum radius of the left ventricle's cavity.
        length_mm: from the basal plane to the apex of the cavity.
        wall_mm: thickness of the left ventricle's wall at the widest place.
        ejection_fraction: exact fraction of the left ventricle's volume that leaves in systole.
        rv_width_mm: from the septum to the right ventricle's free wall, at the widest place.
        rv_span: height of the right ventricle in the short axis, relative to the left one's outside.
        rv_wrap: how far its horns bend around the septum; 0 is a straight ellipse.
        rv_contraction: fraction of ``rv_width_mm`` by which the free wall moves inwards.
        end_systole: time of the smallest volume, fraction of the cycle; 0 is end-diastole.
        roll_deg: rotation about the long axis, from the usual position of the right ventricle.
        tilt_deg: rotation of the long axis from its usual direction, to the left and downwards.
        centre_mm: world position of the middle of the long axis at end-diastole.
        chest: seed of the surroundings of the heart, and of the tissues' texture.

    Raises:
        ValueError: a length is not positive, or a fraction is outside (0, 1).
    """

    radius_mm: float = 25.0
    length_mm: float = 88.0
    wall_mm: float = 8.5
    ejection_fraction: float = 0.6
    rv_width_mm: float = 32.0
    rv_span: float = 1.06
    rv_wrap: float = 0.35
    rv_contraction: float = 0.35
    end_systole: float = 0.35
    roll_deg: float = 0.0
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    chest: int = 0

    def __post_init__(self) -> None:
        for name in ("radius_mm", "length_mm", "wall_mm", "rv_width_mm", "rv_span"):
            if not getattr(self, name) > 0:
                raise ValueError(f"a heart's {name} must be positive, not {getattr(self, name)}")
        for name in ("ejection_fraction", "rv_contraction", "end_systole"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"a heart's {name} must lie between 0 and 1, not {getattr(self, name)}")


class Shape(NamedTuple):
    """The ventricles at one or more times, mm; each entry is a number or an array of the times' shape.

    The cavity, its outside (``outer_``) and the right ventricle are ellipsoids with the same centre along
    the long axis and one basal plane; lengths are half axes.
    """

    contraction: Numbers
    middle: Numbers  # third heart coordinate of the ellipsoids' common centre
    above: Numbers  # from there up to the basal plane
    radius: Numbers
    length: Numbers
    outer_radius: Numbers
    outer_length: Numbers
    rv_offset: Numbers  # of the right ellipsoid's centre, from the long axis
    rv_bend: Numbers  # 1/mm
    rv_axes: tuple[Numbers, Numbers, Numbers]


def axes(heart: Heart) -> Float[np.ndarray, "3 3"]:
    """World directions of the heart's coordinates, as rows: to the right ventricle, across, to the apex."""
    left, down = np.deg2rad(heart.tilt_deg)
    apex = APEX_DIRECTION / np.linalg.norm(APEX_DIRECTION)
    apex = apex @ np.array([[np.cos(left), np.sin(left), 0], [-np.sin(left), np.cos(left), 0], [0, 0, 1]]).T
    level = np.hypot(apex[0], apex[1])
    pitch = np.arctan2(apex[2], level) - down
    apex = np.array([*(apex[:2] / level * np.cos(pitch)), np.sin(pitch)])
    first = RV_DIRECTION - (RV_DIRECTION @ apex) * apex
    first /= np.linalg.norm(first)
    second = np.cross(apex, first)
    roll = np.deg2rad(heart.roll_deg)
    turned = np.cos(roll) * first + np.sin(roll) * second
    return np.stack([turned, np.cross(apex, turned), apex])


def pose(heart: Heart) -> Affine:
    """The rigid map from world to heart coordinates, both mm."""
    return Affine.rigid(axes(heart), heart.centre_mm)


def contraction(heart: Heart, times: Numbers) -> Numbers:
    """How far the heart has contracted: 0 at end-diastole, 1 at end-systole; cyclic, once differentiable.

    Half a cosine in systole; early filling, rest and atrial kick in diastole.
    """
    time = np.mod(np.asarray(times, dtype=np.float64), 1.0)
    diastole = (time - heart.end_systole) / (1 - heart.end_systole)

    def rise(x: Numbers) -> Numbers:
        return 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))

    filling = 1 - 0.75 * rise(diastole / 0.5) - 0.25 * rise((diastole - 0.65) / 0.35)
    return np.where(time < heart.end_systole, rise(time / heart.end_systole), filling)


def _cut_ellipsoid(radius: Numbers, length: Numbers, above: Numbers) -> Numbers:
    """Volume (mm3) of an ellipsoid of revolution from its tip to ``above`` beyond its centre."""
    return np.pi * radius**2 * (length + above - (length**3 + above**3) / (3 * length**2))


def shape_at(heart: Heart, times: Numbers) -> Shape:
    """The ventricles at times of any shape.

    The cavity's volume is proportional to radius² x length, so splitting the logarithm of the volume between
    the two gives the exact ejection fraction. The outer radius preserves the myocardium's volume. The apex
    stays in place, so that the base descends.
    """
    moved = contraction(heart, times)
    left = 1 - heart.ejection_fraction * moved
    full_length, apex = heart.length_mm / (1 + CUT), APEX * heart.wall_mm
    length, radius = full_length * left**LONGITUDINAL, heart.radius_mm * left ** ((1 - LONGITUDINAL) / 2)
    above = CUT * length
    muscle = _cut_ellipsoid(
        heart.radius_mm + heart.wall_mm, full_length + apex, CUT * full_length
    ) - _cut_ellipsoid(heart.radius_mm, full_length, CUT * full_length)
    outer_length = length + apex
    outer_radius = np.sqrt(
        (muscle + _cut_ellipsoid(radius, length, above)) / _cut_ellipsoid(1.0, outer_length, above)
    )
    width = heart.rv_width_mm * (1 - heart.rv_contraction * moved)
    offset = 0.85 * outer_radius
    tip = (heart.length_mm + apex) / 2
    return Shape(
        contraction=moved,
        middle=tip - outer_length,
        above=above,
        radius=radius,
        length=length,
        outer_radius=outer_radius,
        outer_length=outer_length,
        rv_offset=offset,
        rv_bend=heart.rv_wrap / outer_radius,
        rv_axes=(
            outer_radius + width - offset,
            heart.rv_span * outer_radius * (1 - 0.25 * heart.rv_contraction * moved),
            0.8 * outer_length,
        ),
    )


def label(heart: Heart, points: PointsMm, times: Numbers) -> Int[np.ndarray, "*n"]:
    """The label at world positions (..., 3) mm and times (...); numbered as ``LABELS``."""
    return ventricles(shape_at(heart, times), pose(heart)(points))


def ventricles(shape: Shape, local: PointsMm) -> Int[np.ndarray, "*n"]:
    """The label at heart coordinates (..., 3) mm; ``shape``'s times broadcast against their leading axes."""
    x, y, z = local[..., 0], local[..., 1], local[..., 2] - shape.middle
    across, below = x * x + y * y, z >= -shape.above
    found = np.zeros(below.shape, dtype=np.int16)
    found[below & (right(shape, x, y, z, 0.0)) & (x > 0)] = RV
    outer = below & (across / shape.outer_radius**2 + (z / shape.outer_length) ** 2 < 1)
    found[outer] = MYO
    found[below & (across / shape.radius**2 + (z / shape.length) ** 2 < 1)] = LV
    return found


def right(shape: Shape, x: np.ndarray, y: np.ndarray, z: np.ndarray, grown: float) -> np.ndarray:
    """Whether points, with ``z`` relative to ``shape.middle``, are in the right ellipsoid ``grown`` by mm."""
    first, second, third = shape.rv_axes
    bent = x - shape.rv_offset + shape.rv_bend * y * y
    return (bent / (first + grown)) ** 2 + _blunt(y / (second + grown)) + (z / (third + grown)) ** 2 < 1


def _blunt(share: Numbers) -> Numbers:
    """Square of a coordinate, modified towards its fourth power: shoulders instead of a tip."""
    square = share * share
    return 0.5 * square * (1 + square)


def volumes_ml(heart: Heart, time: float) -> dict[str, float]:
    """True volumes in mL by label name: closed forms on the left, quadrature on the right (< 0.05 %)."""
    shape = shape_at(heart, float(time))
    cavity = _cut_ellipsoid(shape.radius, shape.length, shape.above)
    outer = _cut_ellipsoid(shape.outer_radius, shape.outer_length, shape.above)
    volumes = {LV: cavity, MYO: outer - cavity, RV: right_volume_mm3(shape)}
    return {LABELS[index]: float(volume) / 1000 for index, volume in volumes.items()}


def right_volume_mm3(shape: Shape, steps: int = 400) -> float:
    """Volume of the right ventricle: in each of ``steps``² rows, one interval minus the left ventricle."""
    first, second, third = (float(axis) for axis in shape.rv_axes)
    middles = (np.arange(steps) + 0.5) / steps
    z = (-shape.above + middles * (third + shape.above))[:, None]
    y = (second * (2 * middles - 1))[None, :]
    half = first * np.sqrt(np.maximum(0, 1 - _blunt(y / second) - (z / third) ** 2))
    centre = shape.rv_offset - shape.rv_bend * y * y
    left = shape.outer_radius**2 * (1 - (z / shape.outer_length) ** 2) - y * y
    inner = np.maximum(np.maximum(centre - half, 0), np.sqrt(np.maximum(0, left)))
    cell = (third + shape.above) / steps * 2 * second / steps
    return float(np.maximum(0, centre + half - inner).sum() * cell)


def ejection_fraction(heart: Heart, label: str = LABELS[LV]) -> float:
    """Fraction of a chamber's end-diastolic volume that has left it at end-systole."""
    return 1 - volumes_ml(heart, heart.end_systole)[label] / volumes_ml(heart, 0.0)[label]
