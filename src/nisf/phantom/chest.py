"""The surroundings of the heart, and the signal of all tissues in a balanced steady-state (bSSFP) cine.

Blood and fat are bright, muscle is dark grey, lung is dark. Atria, great vessels and the descending aorta
look like the ventricles but are background, as in patients, where they make basal slices difficult.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nisf.phantom.heart import Heart, Numbers, Shape, pose, right, shape_at, ventricles
from nisf.types import PointsMm

# Tissues; the first four are the numbers of `heart.LABELS`, the rest is background.
AIR, LV, MYO, RV, WALL, BLOOD, FAT, LUNG, LIVER, MUSCLE, BONE, FLUID, STOMACH, SOFT = range(14)
BRIGHTNESS = np.array(
    [0.01, 1.0, 0.30, 0.96, 0.30, 0.94, 0.82, 0.07, 0.42, 0.25, 0.38, 1.0, 0.55, 0.48], dtype=np.float32
)
"""Signal of each tissue, relative to the left ventricle's blood."""

# Where in the chest (mm from the middle of the torso, RAS+) the heart's centre lies.
PLACE = np.array([-32.0, 26.0, 0.0])


class Chest(NamedTuple):
    """One subject's surroundings, mm: torso half axes, thickness of fat, height of the diaphragm, texture."""

    torso: np.ndarray
    fat: float
    diaphragm: float
    aorta: np.ndarray
    aorta_radius: float
    epicardial_fat: float
    wave: np.ndarray
    phase: np.ndarray


@lru_cache(maxsize=64)
def chest_of(seed: int) -> Chest:
    """The chest with this seed."""
    rng = np.random.default_rng([seed, 7])
    direction = rng.normal(size=(6, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return Chest(
        torso=np.array([rng.uniform(155, 180), rng.uniform(105, 122)]),
        fat=rng.uniform(8, 24),
        diaphragm=rng.uniform(-50, -43),
        aorta=np.array([rng.uniform(-34, -22), rng.uniform(-58, -48)]),
        aorta_radius=rng.uniform(10, 14),
        epicardial_fat=rng.uniform(2, 5),
        wave=2 * np.pi * direction / rng.uniform(18, 70, size=(6, 1)),
        phase=rng.uniform(0, 2 * np.pi, size=6),
    )


def texture(heart: Heart, points: PointsMm) -> Float[np.ndarray, "*n"]:
    """Multiplicative texture around 1: smooth in space, constant in time, specific to the subject."""
    chest = chest_of(heart.chest)
    return 1 + 0.03 * np.sin(points @ chest.wave.T + chest.phase).sum(-1)


def surroundings(heart: Heart, points: PointsMm) -> Int[np.ndarray, "*n"]:
    """The tissue at world positions (..., 3) mm where the heart is not."""
    chest = chest_of(heart.chest)
    place = points - (np.asarray(heart.centre_mm) - PLACE).astype(points.dtype)
    x, y, z = place[..., 0], place[..., 1], place[..., 2]

    def ellipse(shrunk: float) -> np.ndarray:
        half = chest.torso - shrunk
        return (x / float(half[0])) ** 2 + (y / float(half[1])) ** 2 < 1

    def disc(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    found = np.full(x.shape, AIR, dtype=np.int8)
    found[ellipse(0.0)] = SOFT  # skin
    found[ellipse(2.0)] = FAT
    found[ellipse(chest.fat)] = MUSCLE
    inside = ellipse(chest.fat + 13)
    found[inside] = LUNG
    found[inside & disc(-4.0, -36.0, 44.0, 50.0)] = SOFT  # mediastinum behind the heart
    found[inside & disc(-10.0, float(chest.torso[1]) - chest.fat - 18, 46.0, 30.0)] = FAT  # and before it

    # Two domes: the liver's on the right, the stomach's and spleen's, lower, on the left.
    dome = 55 * np.exp(-(((x - 70) / 85) ** 2) - (y / 85) ** 2)
    dome += 12 * np.exp(-(((x + 95) / 40) ** 2) - (y / 60) ** 2)
    depth = chest.diaphragm + dome - z
    found[inside & (depth > -2.5)] = MUSCLE
    abdomen = inside & (depth > 0)
    found[abdomen] = FAT
    found[abdomen & (depth > 2) & (x > -48 + 0.25 * y)] = LIVER
    found[abdomen & (depth > 9) & (((x + 88) / 34) ** 2 + ((y - 5) / 52) ** 2 < 1)] = STOMACH

    back = -float(chest.torso[1]) + chest.fat + 36
    found[disc(0.0, back, 24.0, 20.0)] = BONE
    found[disc(0.0, back - 26, 10.0, 9.0)] = FLUID
    aorta = float(chest.aorta[0]), float(chest.aorta[1])
    found[disc(*aorta, chest.aorta_radius + 1.5, chest.aorta_radius + 1.5)] = WALL
    found[disc(*aorta, chest.aorta_radius, chest.aorta_radius)] = BLOOD
    return found


def tissue(heart: Heart, shape: Shape, local: PointsMm, around: np.ndarray) -> Int[np.ndarray, "*n"]:
    """The tissue at heart coordinates (..., 3) mm.

    Args:
        heart: heart of the phantom.
        shape: the ventricles at the time of the positions.
        local: the positions, mm.
        around: result of `surroundings` at the same positions, (...).
    """
    x, y, z = local[..., 0], local[..., 1], local[..., 2] - shape.middle
    found = around.copy()
    fat, radius = chest_of(heart.chest).epicardial_fat, shape.outer_radius
    below = z >= -shape.above
    across = x * x + y * y

    def left(grown: float) -> np.ndarray:
        return across / (radius + grown) ** 2 + (z / (shape.outer_length + grown)) ** 2 < 1

    found[below & (left(1.5) | right(shape, x, y, z, 3.0 + fat))] = FAT
    found[below & (x > 0) & right(shape, x, y, z, 3.0)] = WALL
    _above_base(found, shape, x, y, z, fat)
    heart_itself = ventricles(shape, local)
    return np.where(heart_itself > 0, heart_itself, found).astype(np.int8)


def _above_base(
    found: np.ndarray, shape: Shape, x: np.ndarray, y: np.ndarray, z: np.ndarray, fat: float
) -> None:
    """Draw atria and great vessels, which end at the basal plane and fill while the ventricles empty."""
    up = -shape.above - z  # mm above the basal plane
    where = np.nonzero((up > 0) & (up < 80))
    if not where[0].size:
        return
    x, y, up = x[where], y[where], up[where]
    radius, filled, offset, size = (
        np.broadcast_to(value, found.shape)[where].astype(x.dtype)
        for value in (shape.outer_radius, shape.contraction, shape.rv_offset, shape.rv_axes[0])
    )
    atrium = 1 + 0.12 * filled

    def ball(cx, cy, height, rx, ry, rz, grown) -> np.ndarray:
        inside = ((x - cx) / (rx + grown)) ** 2 + ((y - cy) / (ry + grown)) ** 2
        return inside + ((up - height) / (rz + grown)) ** 2 < 1

    chambers = (
        (-0.22 * radius, 0.05 * radius, 20.0, 0.72 * radius * atrium, 0.8 * radius * atrium, 26.0 * atrium),
        (offset + 0.45 * size, 0.35 * radius, 18.0, 22.0 * atrium, 24.0 * atrium, 27.0 * atrium),
        (0.62 * radius, -0.42 * radius, 30.0, 13.0, 13.0, 46.0),
        (0.95 * radius, -1.0 * radius, 26.0, 13.0, 15.0, 40.0),
    )
    here = found[where]
    for grown, kind in ((2.0 + fat, FAT), (2.0, WALL)):
        for chamber in chambers:
            here[ball(*chamber, grown)] = kind
    # The valves are a thin dark line between atrium and ventricle.
    blood = np.where(up < 2.0, WALL, BLOOD)
    for chamber in chambers:
        inside = ball(*chamber, 0.0)
        here[inside] = blood[inside]
    found[where] = here


def tissue_intensity(heart: Heart, points: PointsMm, times: Numbers) -> Float[np.ndarray, "*n"]:
    """Signal without noise at world positions (..., 3) mm and times (...); the left side's blood is 1."""
    found = tissue(heart, shape_at(heart, times), pose(heart)(points), surroundings(heart, points))
    return BRIGHTNESS[found] * texture(heart, points)


def near(heart: Heart, local: PointsMm) -> np.ndarray:
    """Whether positions in heart coordinates (..., 3) lie in a generous bounding box of the heart."""
    rest = shape_at(heart, 0.0)
    radius, tip = float(rest.outer_radius), (heart.length_mm + heart.wall_mm) / 2
    reach = max(radius + heart.rv_width_mm + 16, float(rest.rv_offset + 0.45 * rest.rv_axes[0]) + 40)
    side = radius * max(heart.rv_span, 1.0) + 32
    low, high = np.array([-1.1 * radius - 18, -side, -tip - 85]), np.array([reach, side, tip + 12])
    return np.all((local > low) & (local < high), axis=-1)
