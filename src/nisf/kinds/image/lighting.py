"""Simulate a scanner's effects: contrast, coil profile, field of view, blur, ghosts and noise.

Works on b samples of n slices at once, from the random numbers of a `View`, on any device. No value of a
tensor is read back from a GPU, so that a CUDA graph can capture it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import AugmentConfig
from nisf.kinds.image.views import PARTS, View

FARTHEST = 1.6
"""Maximum log of the factor by which noise grows away from a coil."""


def relit(
    images: Float[Tensor, "b n c h w"],
    view: View,
    place: Float[Tensor, "h w 2"],
    z: Float[Tensor, "b n"],
    config: AugmentConfig,
) -> Float[Tensor, "b n c h w"]:
    """Vary contrast, brightness over the canvas and of each slice, and limit the field of view.

    Args:
        images: intensities in [0, 1].
        view: a batch of views.
        place: positions of the canvas's pixels, mm from its centre.
        z: positions of the slices, mm.
        config: which effects are used.
    """
    h, w = images.shape[-2:]
    images = images.clamp(0, 1) ** _each(view.curve[:, 0])
    if config.curve:
        parts = ((PARTS * images - k).clamp(0, 1) * _each(view.curve[:, 1 + k]) for k in range(PARTS))
        images = sum(parts, start=torch.zeros((), device=images.device))
    field = functional.interpolate(view.bias[:, None], size=(h, w), mode="bicubic", align_corners=True)
    field = field + view.light[:, :, None, None]
    if config.coil:
        field = field + _slope(view.profile[:, :3], place, z) + view.profile[:, 3, None, None, None]
    images = (images * field.exp()[:, :, None] + _each(view.lift[:, 0])).clamp(0, 1)
    if config.cut:
        along = torch.einsum("hwk,bk->bhw", place, view.edge[:, :2])
        images = images * (along <= view.edge[:, 2, None, None])[:, None, None]
    return images


def degraded(
    images: Float[Tensor, "b n c h w"],
    view: View,
    grains: Float[Tensor, "b n c h w"],
    place: Float[Tensor, "h w 2"],
    z: Float[Tensor, "b n"],
    config: AugmentConfig,
) -> Float[Tensor, "b n c h w"]:
    """Add ghosts, blur or sharpening, and noise.

    Args:
        images: intensities in [0, 1].
        view: a batch of views.
        grains: standard normal numbers.
        place: positions of the canvas's pixels, mm from its centre.
        z: positions of the slices, mm.
        config: which effects are used.
    """
    if config.ghost and _wanted(view.ghost[:, 0]):
        images = images + _each(view.ghost[:, 0]) * _moved(images, view.ghost[:, 1:])
    if config.blur and config.blur_pixels and _wanted(view.blur[:, 2]):
        images = _blurred(images, view.blur, config.blur_pixels)
    scale = _each(view.noise[:, 0])
    if config.coil:  # keeps the signal-to-noise ratio in the middle the same as without a coil
        scale = scale * _each(view.profile[:, 3].exp())
    if config.noise_profile:
        grown = (_slope(view.noise[:, 1:4], place, z).clamp(max=FARTHEST).exp() - 1)[:, :, None]
        scale = scale * (1 + _each(view.noise[:, 4]) * grown).clamp_min(0)
    return images + scale * grains


def _each(value: Float[Tensor, "b"]) -> Float[Tensor, "b 1 1 1 1"]:
    return value[:, None, None, None, None]


def _wanted(weight: Tensor) -> bool:
    """Whether any sample of the batch uses an effect; always true on a GPU, to avoid a synchronisation."""
    return weight.device.type != "cpu" or bool(weight.any())


def _slope(
    slopes: Float[Tensor, "b 3"], place: Float[Tensor, "h w 2"], z: Float[Tensor, "b n"]
) -> Float[Tensor, "b n h w"]:
    """A linear function of position that is 0 in the middle."""
    plane = torch.einsum("hwk,bk->bhw", place, slopes[:, :2])
    return plane[:, None] + (slopes[:, 2:] * z)[:, :, None, None]


def _moved(images: Tensor, shift: Float[Tensor, "b 2"]) -> Tensor:
    """Images shifted by fractions of their size, with wrap-around."""
    for axis in (0, 1):
        size = images.shape[3 + axis]
        steps = torch.arange(size, device=images.device)
        index = (steps + (shift[:, axis, None] * size).round().long()) % size
        shape = [len(images), 1, 1, 1, 1]
        shape[3 + axis] = size
        images = images.gather(3 + axis, index.reshape(shape).expand_as(images))
    return images


def _blurred(images: Tensor, blur: Float[Tensor, "b 3"], largest: float) -> Tensor:
    """Convolve along both axes with each sample's Gaussian, and blend with the original image."""
    b, n, c, h, w = images.shape
    reach = math.ceil(2.5 * largest)
    steps = torch.arange(-reach, reach + 1, device=images.device)
    sigma = blur[:, :2, None]
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2) * (steps.abs() <= (2.5 * sigma).ceil())
    kernel = kernel / kernel.sum(-1, keepdim=True)
    kernel = torch.lerp((steps == 0).float().expand_as(kernel), kernel, blur[:, 2:, None])
    kernel = kernel[:, None].expand(b, n * c, 2, -1).reshape(b * n * c, 1, 2, -1)
    flat = images.reshape(1, b * n * c, h, w)
    flat = functional.conv2d(flat, kernel[:, :, 0, :, None], padding=(reach, 0), groups=b * n * c)
    flat = functional.conv2d(flat, kernel[:, :, 1, None, :], padding=(0, reach), groups=b * n * c)
    return flat.reshape(images.shape)
