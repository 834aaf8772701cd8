"""A training sample of the image-conditioned field: parallel slices, warped, re-lit and partly hidden.

The warp is a map of coordinates, so no image is interpolated twice: canvases and points are read from the
measured pixels at warped places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import AugmentConfig, ImageConfig
from nisf.data.anatomy import Anatomy
from nisf.data.case import UNKNOWN, Case, Slice
from nisf.networks.canvas import canvas_mm, plane_of, resample, smoothed
from nisf.types import Vector


@dataclass(frozen=True, eq=False)
class Measured:
    """Parallel slices of one stack at one phase, as measured.

    Attributes:
        images: intensities in [0, 1], float16 (n, c, x, y).
        labels: class index or `UNKNOWN`, int8 (n, x, y).
        spacing: mm along x and y (2,).
        middle: region's centre on each slice, mm from its first pixel (n, 2).
        z: mm along the normal from the region's centre (n,), ascending.
    """

    images: Tensor
    labels: Tensor
    spacing: Float[Tensor, "2"]
    middle: Float[Tensor, "n 2"]
    z: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.z)


@dataclass(frozen=True, eq=False)
class Sample:
    """What a training step sees of one subject.

    Attributes:
        images: canvases of the given slices (n, c, h, w).
        maps: their poses (n, 3, 4), as in `nisf.networks.canvas.Canvases`.
        points: mm (p, 3), on given and hidden slices.
        intensity: there, without noise (p, c).
        label: there (p,).
    """

    images: Float[Tensor, "n c h w"]
    maps: Float[Tensor, "n 3 4"]
    points: Float[Tensor, "p 3"]
    intensity: Float[Tensor, "p c"]
    label: Int[Tensor, "p"]

    def to(self, device: torch.device) -> Sample:
        """The same on a device."""
        return Sample(
            *(x.to(device) for x in (self.images, self.maps, self.points, self.intensity, self.label))
        )


def measured(case: Case, centre: Vector, pixel_mm: float) -> list[Measured]:
    """The labelled stacks of a case, one entry for each labelled frame; single slices included.

    Args:
        case: with labels.
        centre: of the region, world mm.
        pixel_mm: of the canvases.
    """
    groups: dict[tuple[int, int], list[Slice]] = {}
    for item in case.slices:
        groups.setdefault((item.stack, item.frame), []).append(item)
    out = []
    for slices in groups.values():
        if not any(s.label is not None and (s.label != UNKNOWN).any() for s in slices):
            continue
        planes = [plane_of(s)(np.asarray(centre)) for s in slices]
        order = np.argsort([-p[2] for p in planes])
        images, labels = [], []
        for index in order:
            item = slices[index]
            image = smoothed(case.stacks[item.stack].normalise(item.image), item.affine.spacing, pixel_mm)
            images.append(image.astype(np.float16).transpose(2, 0, 1))
            unknown = np.full(item.image.shape[:2], UNKNOWN)
            labels.append((unknown if item.label is None else item.label).astype(np.int8))
        place = torch.tensor(np.array([planes[i] for i in order]), dtype=torch.float32)
        out.append(
            Measured(
                torch.from_numpy(np.stack(images)),
                torch.from_numpy(np.stack(labels)),
                torch.tensor(slices[0].affine.spacing[:2], dtype=torch.float32),
                place[:, :2],
                -place[:, 2],
            )
        )
    return out


def alike(first: Measured, second: Measured) -> bool:
    """Whether two stacks are the same slices at different phases."""
    return (
        first.images.shape == second.images.shape
        and torch.equal(first.z, second.z)
        and torch.equal(first.middle, second.middle)
        and torch.equal(first.spacing, second.spacing)
    )


def for_anatomy(config: AugmentConfig, anatomy: Anatomy) -> AugmentConfig:
    """The same settings without variations that the anatomy's files never show."""
    if not anatomy.turn:
        config = replace(config, degrees=min(config.degrees, 15.0), mirror=False)
    return config if anatomy.reorder else replace(config, reverse=False)


def hidden_slices(count: int, rng: np.random.Generator) -> np.ndarray:
    """Which of ``count`` slices are hidden (n,): every other one, an end, one inside, or all but a few."""
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


class _Warp:
    """Canvas mm to measured mm, both from the region's centre: a similarity, a bend, and slice shifts."""

    def __init__(self, count: int, half_mm: float, config: AugmentConfig, rng: np.random.Generator) -> None:
        angle = rng.uniform(-math.pi, math.pi) * config.degrees / 180
        scale = math.exp(rng.uniform(-1, 1) * config.scale)
        mirror = rng.choice((-1.0, 1.0)) if config.mirror else 1.0
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        self.linear = torch.tensor([[mirror * cos, -sin], [mirror * sin, cos]], dtype=torch.float32)
        jitter = np.clip(rng.normal(size=2), -2.5, 2.5) * config.centre_mm
        shift = rng.normal(size=(count, 2)) * config.slice_shift_mm * (rng.random() < 0.5)
        self.offset = torch.tensor(jitter + shift, dtype=torch.float32)
        self.bend = torch.tensor(rng.normal(size=(1, 2, 5, 5)) * config.bend_mm, dtype=torch.float32)
        self.half_mm = half_mm

    def __call__(self, place: Float[Tensor, "n ... 2"]) -> Float[Tensor, "n ... 2"]:
        n = len(place)
        flat = place.reshape(1, n, -1, 2)
        grid = (flat / self.half_mm).flip(-1)
        bend = functional.grid_sample(
            self.bend, grid, mode="bicubic", padding_mode="border", align_corners=True
        )
        moved = flat @ self.linear.T + bend.permute(0, 2, 3, 1) + self.offset[:, None]
        return moved.reshape(place.shape)


def _relight(images: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Gamma, gain, offset, a bias field over the canvas, and a gain per slice."""
    n, _, h, w = images.shape
    images = images.clamp(0, 1) ** math.exp(rng.uniform(-1, 1) * config.gamma)
    bias = torch.tensor(rng.normal(size=(1, 1, 3, 3)) * config.bias, dtype=torch.float32)
    bias = functional.interpolate(bias, size=(h, w), mode="bicubic", align_corners=True).exp()
    slice_gain = np.exp(rng.normal(size=(n, 1, 1, 1)) * config.slice_gain)
    gain = torch.tensor(slice_gain * math.exp(rng.uniform(-1, 1) * config.gain), dtype=torch.float32)
    return (images * bias * gain + rng.uniform(-1, 1) * config.offset).clamp(0, 1)


def _degrade(
    images: Tensor,
    config: AugmentConfig,
    rng: np.random.Generator,
    grains: np.random.Generator | None = None,
) -> Tensor:
    """Blur and noise, which ``grains`` draws pixel by pixel if given."""
    if rng.random() < config.blur:
        sigma = rng.uniform(min(0.4, config.blur_pixels), config.blur_pixels)
        reach = math.ceil(2.5 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
        images = functional.conv2d(images, kernel, padding=(0, reach), groups=images.shape[1])
        images = functional.conv2d(images, kernel.mT, padding=(reach, 0), groups=images.shape[1])
    noise = (grains or rng).standard_normal(images.shape, dtype=np.float32)
    return images + float(rng.uniform(0, config.noise)) * torch.from_numpy(noise)


def _places(
    count: int, points: int, half_mm: float, pixel_mm: float, rng: np.random.Generator
) -> Float[Tensor, "n p 2"]:
    """Places on each of ``count`` slices, mm from the centre, half of them near it."""
    spread = rng.uniform(-1, 1, size=(count, points, 2)) * (half_mm - pixel_mm)
    near = points // 2
    spread[:, :near] = np.clip(rng.normal(size=(count, near, 2)) * 0.35, -0.95, 0.95) * half_mm
    return torch.tensor(spread, dtype=torch.float32)


def draw_sample(
    stack: Measured,
    image: ImageConfig,
    config: AugmentConfig,
    points: int,
    rng: np.random.Generator,
    grains: np.random.Generator | None = None,
) -> Sample:
    """One augmented view of a subject.

    Args:
        stack: what was measured.
        image: sizes of the canvases.
        config: how far to augment.
        points: places drawn on each slice, half of them near the centre.
        rng: all randomness.
        grains: draws the noise instead, so that another phase of the same slices, drawn by the same ``rng``,
            has other noise.
    """
    count = min(len(stack), config.window)
    first = int(rng.integers(len(stack) - count + 1))
    window = slice(first, first + count)
    source = stack.images[window].float()
    labels, middle = stack.labels[window], stack.middle[window]
    sign = float(rng.choice((-1.0, 1.0))) if config.reverse else 1.0
    z = stack.z[window] * math.exp(rng.uniform(-1, 1) * config.scale_z) * sign
    half_mm = image.pixels * image.pixel_mm / 2
    warp = _Warp(count, half_mm, config, rng)

    def pixel(place: Tensor) -> Tensor:
        between = (1,) * (place.ndim - 2)
        return (warp(place) + middle.reshape(count, *between, 2)) / stack.spacing

    canvas = resample(source, pixel(canvas_mm(image).expand(count, -1, -1, -1)))
    canvas = _relight(canvas, config, rng)

    place = _places(count, points, half_mm, image.pixel_mm, rng)
    nearest = pixel(place).round().long()
    inside = ((nearest >= 0) & (nearest < torch.tensor(labels.shape[1:]))).all(-1)
    i, j = (nearest[..., axis].clamp(0, labels.shape[1 + axis] - 1) for axis in (0, 1))
    label = labels[torch.arange(count)[:, None], i, j].long()
    label = torch.where(inside, label, torch.full_like(label, UNKNOWN))
    intensity = resample(canvas, (place / image.pixel_mm + (image.pixels - 1) / 2)[:, None])[:, :, 0]

    given = np.ones(count, dtype=bool)
    if rng.random() < config.hide:
        given = ~hidden_slices(count, rng)
    kept = torch.from_numpy(np.flatnonzero(given))
    maps = torch.zeros(len(kept), 3, 4)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / image.pixel_mm
    maps[:, :2, 3] = (image.pixels - 1) / 2
    maps[:, 2, 2], maps[:, 2, 3] = 1.0, -z[kept]
    where = torch.cat([place, z[:, None, None].expand(count, points, 1)], dim=-1)
    return Sample(
        _degrade(canvas[kept], config, rng, grains),
        maps,
        where.reshape(-1, 3),
        intensity.permute(0, 2, 1).reshape(-1, canvas.shape[1]),
        label.reshape(-1),
    )
