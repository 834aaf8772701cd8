"""The random parameters of a training sample: pose, deformation, lighting, noise, hidden slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nisf.config.schema import AugmentConfig
from nisf.data.anatomy import Anatomy

COIL_MM = (60.0, 45.0)
"""Half extents for which `augment.coil` gives the fall-off of a coil, in the plane and along the stack."""
NO_EDGE = 1e6
PARTS = 4
"""Number of linear pieces of a random intensity curve."""


@dataclass(frozen=True, eq=False)
class View:
    """Random parameters of one sample of n slices, or of a batch with one more axis in front.

    Attributes:
        linear: canvas mm to measured mm (2, 2).
        offset: offset of each slice, mm (n, 2).
        bend: control points of a smooth deformation, mm (2, 5, 5).
        z: factor on positions along the normal (1,); a negative one reverses the order of the slices.
        curve: exponent of the contrast, then the steps of a monotonic curve, which sum to 1 (1 + parts,).
        bias: control points of a smooth log brightness field (3, 3).
        profile: log brightness of a coil: its slopes per mm along x, y and z, and its value in the middle
            (4,).
        light: log brightness of each slice (n,).
        lift: offset added to the brightness (1,).
        edge: the field of view ends where x and y, times the first two, exceed the last, mm (3,).
        blur: standard deviations along both axes, pixels, and weight of the blurred image (3,).
        noise: standard deviation, slopes of its logarithm per mm as in ``profile``, and its weight (5,).
        ghost: weight, and shift as a fraction of the canvas along both axes (3,).
    """

    linear: Float[Tensor, "*b 2 2"]
    offset: Float[Tensor, "*b n 2"]
    bend: Float[Tensor, "*b 2 5 5"]
    z: Float[Tensor, "*b 1"]
    curve: Float[Tensor, "*b k"]
    bias: Float[Tensor, "*b 3 3"]
    profile: Float[Tensor, "*b 4"]
    light: Float[Tensor, "*b n"]
    lift: Float[Tensor, "*b 1"]
    edge: Float[Tensor, "*b 3"]
    blur: Float[Tensor, "*b 3"]
    noise: Float[Tensor, "*b 5"]
    ghost: Float[Tensor, "*b 3"]


OF_SLICES = ("offset", "light")
"""Parameters with one entry per slice."""


def for_anatomy(config: AugmentConfig, anatomy: Anatomy) -> AugmentConfig:
    """The same settings without variations that never occur in the anatomy's files."""
    if not anatomy.turn:
        config = replace(config, degrees=min(config.degrees, 15.0), mirror=False)
    return config if anatomy.reorder else replace(config, reverse=False)


def hidden_slices(count: int, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Which of ``count`` slices to hide (n,): every other one, an end, one inside, or all but a few."""
    hidden = np.zeros(count, dtype=bool)
    if count < 3:
        return hidden
    way = rng.integers(5)
    if way <= 1:
        hidden[rng.integers(2) :: 2] = True
    elif way == 2:
        hidden[: rng.integers(1, 3)] = True
        if rng.random() < 0.5:
            hidden = hidden[::-1].copy()
    elif way == 3:
        hidden[rng.integers(1, count - 1)] = True
    else:
        keep = min(count, int(rng.integers(2, 5)))
        hidden[:] = True
        hidden[np.linspace(0, count - 1, keep).round().astype(int)] = False
    return hidden


def given_slices(count: int, config: AugmentConfig, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
    """Which slices the field sees."""
    if rng.random() < config.hide:
        return ~hidden_slices(count, rng)
    return np.ones(count, dtype=bool)


def draw_view(count: int, config: AugmentConfig, rng: np.random.Generator) -> View:
    """Draw random parameters for ``count`` slices."""
    sign = float(rng.choice((-1.0, 1.0))) if config.reverse else 1.0
    stretch = math.exp(rng.uniform(-1, 1) * config.scale_z) * sign
    linear, offset, bend = _warp(count, config, rng)
    gamma = math.exp(rng.uniform(-1, 1) * config.gamma)
    curve = np.exp(rng.normal(size=PARTS) * config.curve) if config.curve else np.ones(PARTS)
    bias = rng.normal(size=(3, 3)) * config.bias
    light = rng.normal(size=count) * config.slice_gain + rng.uniform(-1, 1) * config.gain
    lift = rng.uniform(-1, 1) * config.offset
    profile, edge, ghost = np.zeros(4), np.array([1.0, 0.0, NO_EDGE]), np.zeros(3)
    if config.coil:
        profile = _coil(config.coil, rng)
    if config.cut and rng.random() < config.cut:
        angle = rng.uniform(-math.pi, math.pi)
        edge = np.array([math.cos(angle), math.sin(angle), rng.uniform(0.7, 1.3) * COIL_MM[0]])
    if config.ghost and rng.random() < 0.5:
        ghost[0] = rng.uniform(0, config.ghost)
        ghost[1 + rng.integers(2)] = rng.uniform(0.25, 0.75)
    blur, noise = _blur(config, rng), np.zeros(5)
    noise[0] = rng.uniform(0, config.noise)
    if config.noise_profile:
        noise[1:4] = _coil(config.coil, rng)[:3]
        noise[4] = rng.uniform(0, config.noise_profile)
    found = (
        linear, offset, bend, [stretch], [gamma, *(curve / curve.sum())], bias, profile, light, [lift], edge,
        blur, noise, ghost,
    )  # fmt: skip
    return View(*(torch.tensor(np.asarray(one), dtype=torch.float32) for one in found))


def _warp(
    count: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canvas mm to measured mm, both from the region's centre: similarity, slice shifts and deformation."""
    angle = rng.uniform(-math.pi, math.pi) * config.degrees / 180
    scale = math.exp(rng.uniform(-1, 1) * config.scale)
    mirror = rng.choice((-1.0, 1.0)) if config.mirror else 1.0
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    jitter = np.clip(rng.normal(size=2), -2.5, 2.5) * config.centre_mm
    shift = rng.normal(size=(count, 2)) * config.slice_shift_mm * (rng.random() < 0.5)
    bend = rng.normal(size=(2, 5, 5)) * config.bend_mm
    return np.array([[mirror * cos, -sin], [mirror * sin, cos]]), jitter + shift, bend


def _coil(largest: float, rng: np.random.Generator) -> Float[np.ndarray, "4"]:
    """Slopes of the log brightness per mm, and its value in the middle; mostly slight."""
    angle, plane, along = rng.uniform(-math.pi, math.pi), *rng.uniform(-1, 1, size=2)
    plane, along = (largest * u * abs(u) / 2 for u in (plane, along))
    # From constant brightness on the bright side to constant brightness in the middle.
    middle = -(abs(plane) + abs(along)) * rng.uniform(0.2, 1.0)
    slope = plane / COIL_MM[0]
    return np.array([slope * math.cos(angle), slope * math.sin(angle), along / COIL_MM[1], middle])


def _blur(config: AugmentConfig, rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    kind = rng.random()
    if kind >= config.blur * (2 if config.sharpen else 1):
        return np.array([1.0, 1.0, 0.0])
    sigma = rng.uniform(min(0.4, config.blur_pixels), config.blur_pixels)
    more = math.exp(rng.uniform(-1, 1) * config.stretch) if config.stretch else 1.0
    weight = 1.0 if kind < config.blur else -rng.uniform(0, config.sharpen)
    return np.array([min(sigma * more, config.blur_pixels), min(sigma / more, config.blur_pixels), weight])


def padded(views: Sequence[View], slots: int) -> View:
    """Batch the views of samples with at most ``slots`` slices; zero for empty slots."""
    out = []
    for name in View.__dataclass_fields__:
        each = [getattr(view, name) for view in views]
        if name in OF_SLICES:
            each = [torch.cat([one, one.new_zeros(slots - len(one), *one.shape[1:])]) for one in each]
        out.append(torch.stack(each))
    return View(*out)
