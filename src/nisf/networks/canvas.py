"""Canvases: measured slices on the square grid that the encoder sees, with their poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import ImageConfig
from nisf.data.case import Case, Slice
from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.data.scratch import let_go
from nisf.data.wording import counted, sizes
from nisf.types import Vector


@dataclass(frozen=True, eq=False, repr=False)
class Canvases:
    """Slices of one case, resampled around the region's centre.

    Attributes:
        images: intensities in [0, 1] (n, c, h, w), float16 as in the file of a fitted subject; 0 where the
            slice did not measure.
        maps: model mm to canvas pixel (u, v) and signed distance in mm (n, 3, 4).
        times: fraction of the cycle (n,).
    """

    images: Float[Tensor, "n c h w"]
    maps: Float[Tensor, "n 3 4"]
    times: Float[np.ndarray, "n"]

    def __repr__(self) -> str:
        n, channels, *pixels = self.images.shape
        counts = f"{counted(n, 'slice')}, {counted(channels, 'channel')}, {sizes(pixels)} pixels"
        return f"Canvases({counts}, {counted(len(np.unique(self.times)), 'frame')})"


def plane_of(item: Slice) -> Affine:
    """World to (i, j) in mm along the slice's own axes from its first pixel, and signed distance in mm."""
    i = item.affine.axes[:, 0]
    normal = item.affine.normal()
    j = np.cross(normal, i)
    j *= np.sign(j @ item.affine.axes[:, 1])
    return Affine.rigid(np.stack([i, j, normal]), item.affine.origin)


def blur_sigma(spacing: Vector, pixel_mm: float) -> np.ndarray:
    """Standard deviation, in pixels, of the Gaussian blur that precedes downsampling.

    Args:
        spacing: spacing of the image, mm.
        pixel_mm: side of the coarser pixels, mm; the result is 0 along axes where they are not coarser.
    """
    # Empirical: 0.4 (f - 1) for pixels f times as large; trained priors depend on it. For f up to 4 it is
    # within 0.13 pixels of the average over a coarse pixel, whose standard deviation is sqrt((f^2 - 1) / 12);
    # beyond that it blurs more. It blurs less than scikit-image's rule of thumb, (f - 1) / 2, and than
    # sqrt(f^2 - 1) / 2.355, which matches the full widths at half maximum of Gaussian point spread functions
    # (Cardoso et al., "Scale factor point spread function matching", MICCAI 2015).
    return np.maximum(0, pixel_mm / np.asarray(spacing) / 2.5 - 0.4)


def smoothed(image: np.ndarray, spacing: Vector, pixel_mm: float) -> np.ndarray:
    """A slice (x, y, c), blurred to avoid aliasing when it is sampled at pixels of ``pixel_mm``."""
    sigma = blur_sigma(np.asarray(spacing)[:2], pixel_mm)
    if not sigma.any():
        return image
    return ndimage.gaussian_filter(image, (*sigma, 0), mode="nearest")


def resample(image: Float[Tensor, "n c x y"], pixel: Float[Tensor, "n h w 2"]) -> Float[Tensor, "n c h w"]:
    """Images at fractional pixels (i, j), interpolated linearly; 0 outside."""
    width, height = image.shape[2:]
    # grid_sample takes the last axis first, in [-1, 1] between the outer faces of the pixels.
    x, y = ((2 * pixel[..., axis] + 1) / size - 1 for axis, size in enumerate((width, height)))
    grid = torch.stack([y, x], dim=-1)
    return functional.grid_sample(image, grid, align_corners=False)


def canvas_mm(config: ImageConfig, device: torch.device | None = None) -> Float[Tensor, "h w 2"]:
    """Offsets (mm) of a canvas's pixels from its centre."""
    steps = (torch.arange(config.pixels, device=device) - (config.pixels - 1) / 2) * config.pixel_mm
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)


def canvases(case: Case, slices: Sequence[Slice], region: Region, config: ImageConfig) -> Canvases:
    """Resample slices of a case onto canvases centred on the region's centre, projected onto each plane."""
    centre = region.centre()
    to_world = region.pose.inverse
    offsets = canvas_mm(config)
    images, maps = [], []
    for item in slices:
        plane = plane_of(item)
        middle = plane(centre)[:2]
        image = case.stacks[item.stack].normalise(item.image)
        let_go(item.image)
        image = smoothed(image, item.affine.spacing, config.pixel_mm)
        spacing = torch.tensor(item.affine.spacing[:2], dtype=torch.float32)
        pixel = (offsets + torch.tensor(middle, dtype=torch.float32)) / spacing
        images.append(resample(torch.from_numpy(image).permute(2, 0, 1)[None], pixel[None])[0])
        map_ = (plane @ to_world).matrix[:3].copy()
        map_[:2, 3] -= middle
        map_[:2] /= config.pixel_mm
        map_[:2, 3] += (config.pixels - 1) / 2
        maps.append(map_)
    return Canvases(
        torch.stack(images).half(),
        torch.tensor(np.array(maps), dtype=torch.float32),
        np.array([item.time for item in slices]),
    )
