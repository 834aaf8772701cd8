"""Training samples of the image-conditioned field: parallel slices, warped, relit and partly hidden.

The warp maps coordinates, so no image is interpolated twice: canvases and points are sampled directly from
the measured pixels at warped positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import AugmentConfig, ImageConfig
from nisf.data.case import UNKNOWN, Case, Slice
from nisf.kinds.image.lighting import degraded, relit
from nisf.kinds.image.views import View, draw_view, given_slices, padded
from nisf.networks.canvas import canvas_mm, plane_of, resample, smoothed
from nisf.types import Vector


@dataclass(frozen=True, eq=False)
class PhaseStack:
    """Parallel slices of one stack at one phase, as measured.

    Attributes:
        images: intensities in [0, 1], float16 (n, c, x, y).
        labels: class index or `UNKNOWN`, int8 (n, x, y).
        spacing: mm along x and y (2,).
        middle: the region's centre on each slice, mm from its first pixel (n, 2).
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
    """One augmented subject as a training step sees it.

    Attributes:
        images: canvases of the given slices (n, c, h, w).
        maps: their poses (n, 3, 4), as in `nisf.networks.canvas.Canvases`.
        points: mm (p, 3), on given and hidden slices.
        intensity: at the points, without noise (p, c).
        label: at the points (p,).
    """

    images: Float[Tensor, "n c h w"]
    maps: Float[Tensor, "n 3 4"]
    points: Float[Tensor, "p 3"]
    intensity: Float[Tensor, "p c"]
    label: Int[Tensor, "p"]

    def to(self, device: torch.device) -> Sample:
        """Move the sample to a device."""
        return Sample(
            *(x.to(device) for x in (self.images, self.maps, self.points, self.intensity, self.label))
        )


def phase_stacks(case: Case, centre: Vector, pixel_mm: float) -> list[PhaseStack]:
    """The labelled stacks of a case, one for each labelled frame; single slices included.

    Args:
        case: a labelled case.
        centre: centre of the region, world mm.
        pixel_mm: pixel size of the canvases.
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
            PhaseStack(
                torch.from_numpy(np.stack(images)),
                torch.from_numpy(np.stack(labels)),
                torch.tensor(slices[0].affine.spacing[:2], dtype=torch.float32),
                place[:, :2],
                -place[:, 2],
            )
        )
    return out


def alike(first: PhaseStack, second: PhaseStack) -> bool:
    """Whether two stacks hold the same slices at different phases."""
    return (
        first.images.shape == second.images.shape
        and torch.equal(first.z, second.z)
        and torch.equal(first.middle, second.middle)
        and torch.equal(first.spacing, second.spacing)
    )


def _places(
    count: int, points: int, half_mm: float, pixel_mm: float, rng: np.random.Generator
) -> Float[Tensor, "n p 2"]:
    """Positions on each of ``count`` slices, mm from the centre, half of them near it."""
    spread = rng.uniform(-1, 1, size=(count, points, 2)) * (half_mm - pixel_mm)
    near = points // 2
    spread[:, :near] = np.clip(rng.normal(size=(count, near, 2)) * 0.35, -0.95, 0.95) * half_mm
    return torch.tensor(spread, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class Stacked:
    """Slices of b stacks in n slots each, before augmentation.

    Attributes:
        images: intensities in [0, 1] (b, n, c, x, y), 0 where nothing was measured.
        labels: class index or `UNKNOWN` (b, n, x, y).
        spacing: mm along x and y (b, 2).
        middle: the region's centre on each slice, mm from its first pixel (b, n, 2).
        z: mm along the normal (b, n).
    """

    images: Float[Tensor, "b n c x y"]
    labels: Int[Tensor, "b n x y"]
    spacing: Float[Tensor, "b 2"]
    middle: Float[Tensor, "b n 2"]
    z: Float[Tensor, "b n"]


@dataclass(frozen=True, eq=False)
class Shown:
    """Warped and relit slices on their canvases, and the targets at their points.

    Attributes:
        canvas: without noise (b, n, c, h, w).
        z: mm (b, n).
        points: mm (b, n, p, 3).
        intensity: at the points (b, n, p, c).
        label: at the points (b, n, p).
    """

    canvas: Float[Tensor, "b n c h w"]
    z: Float[Tensor, "b n"]
    points: Float[Tensor, "b n p 3"]
    intensity: Float[Tensor, "b n p c"]
    label: Int[Tensor, "b n p"]


def show(
    stacked: Stacked, view: View, place: Float[Tensor, "b n p 2"], image: ImageConfig, config: AugmentConfig
) -> Shown:
    """Measured slices as seen in a view.

    Args:
        stacked: the slices as measured.
        view: a batch of views.
        place: points at which labels and intensities are wanted, mm from the canvas's centre.
        image: sizes of the canvases.
        config: strength of the augmentation.
    """
    b, n = stacked.z.shape
    half_mm = image.pixels * image.pixel_mm / 2
    canvas_place = canvas_mm(image, place.device)
    z = stacked.z * view.z

    def pixel(places: Float[Tensor, "b m 2"]) -> Float[Tensor, "b m 2"]:
        """Canvas mm to measured mm from the region's centre, without the slices' shifts."""
        grid = (places / half_mm).flip(-1)[:, None]
        bend = functional.grid_sample(
            view.bend, grid, mode="bicubic", padding_mode="border", align_corners=True
        )
        return places @ view.linear.mT + bend[:, :, 0].mT

    def measured_at(places: Float[Tensor, "b m q 2"]) -> Float[Tensor, "b n q 2"]:
        """`pixel` on each slice, in its pixels."""
        return (places + (view.offset + stacked.middle)[:, :, None]) / stacked.spacing[:, None, None]

    size = image.pixels
    where = measured_at(pixel(canvas_place.reshape(1, -1, 2).expand(b, -1, -1))[:, None])
    canvas = resample(stacked.images.flatten(0, 1), where.reshape(b * n, size, size, 2))
    canvas = relit(canvas.reshape(b, n, -1, size, size), view, canvas_place, z, config)
    asked = measured_at(pixel(place.flatten(1, 2)).reshape(place.shape))
    inner = place / image.pixel_mm + (size - 1) / 2
    intensity = resample(canvas.flatten(0, 1), inner.flatten(0, 1)[:, None])[:, :, 0]
    return Shown(
        canvas,
        z,
        torch.cat([place, z[:, :, None, None].expand(*place.shape[:3], 1)], dim=-1),
        intensity.mT.reshape(*place.shape[:3], -1),
        _nearest_labels(stacked.labels, asked),
    )


def _nearest_labels(labels: Int[Tensor, "b n x y"], pixel: Float[Tensor, "b n p 2"]) -> Int[Tensor, "b n p"]:
    """Labels of the nearest pixels, `UNKNOWN` outside the image."""
    width, height = labels.shape[2:]
    i, j = pixel.round().long().unbind(-1)
    inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
    flat = i.clamp(0, width - 1) * height + j.clamp(0, height - 1)
    return labels.flatten(2).gather(2, flat).long().masked_fill(~inside, UNKNOWN)


def canvas_maps(z: Float[Tensor, "*n"], image: ImageConfig) -> Float[Tensor, "*n 3 4"]:
    """Model mm to canvas pixel and signed distance, for slices at ``z`` mm."""
    maps = z.new_zeros(*z.shape, 3, 4)
    maps[..., 0, 0] = maps[..., 1, 1] = 1 / image.pixel_mm
    maps[..., :2, 3] = (image.pixels - 1) / 2
    maps[..., 2, 2] = 1.0
    maps[..., 2, 3] = -z
    return maps


def draw_sample(
    stack: PhaseStack,
    image: ImageConfig,
    config: AugmentConfig,
    points: int,
    rng: np.random.Generator,
    grains: np.random.Generator | None = None,
) -> Sample:
    """Draw one augmented view of a subject.

    Args:
        stack: the slices as measured.
        image: sizes of the canvases.
        config: strength of the augmentation.
        points: number of points on each slice, half of them near the centre.
        rng: source of all randomness.
        grains: source of the noise instead, so that another phase of the same slices, drawn with an equal
            ``rng``, gets independent noise.
    """
    window, given, drawn = draw_window(len(stack), config, rng)
    count = len(given)
    half_mm = image.pixels * image.pixel_mm / 2
    place = _places(count, points, half_mm, image.pixel_mm, rng)
    stacked = Stacked(
        stack.images[window].float()[None],
        stack.labels[window][None],
        stack.spacing[None],
        stack.middle[window][None],
        stack.z[window][None],
    )
    view = padded([drawn], count)
    shown = show(stacked, view, place[None], image, config)
    kept = torch.from_numpy(np.flatnonzero(given))
    z, canvas = shown.z[:, kept], shown.canvas[:, kept]
    noise = torch.from_numpy((grains or rng).standard_normal(canvas.shape, dtype=np.float32))
    return Sample(
        degraded(canvas, view, noise, canvas_mm(image), z, config)[0],
        canvas_maps(z[0], image),
        shown.points.reshape(-1, 3),
        shown.intensity.reshape(-1, canvas.shape[2]),
        shown.label.reshape(-1),
    )


def draw_window(
    count: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[slice, Bool[np.ndarray, "n"], View]:
    """Draw a window of ``count`` slices, which of them the field sees, and their view."""
    window = min(count, config.window)
    first = int(rng.integers(count - window + 1))
    view = draw_view(window, config, rng)
    return slice(first, first + window), given_slices(window, config, rng), view
