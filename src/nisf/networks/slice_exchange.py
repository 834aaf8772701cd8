"""Exchange between slices: every pixel also takes features from the slices nearest to it in space.

It uses the same look-up as queries (`nisf.networks.lookup`), on a coarse level of the encoder. Distances are
unsigned, so that it does not matter from which end the slices are counted. The last layer is initialised to
zero, so that adding the exchange to a trained encoder changes nothing at first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config.schema import ImageConfig
from nisf.device import autocast
from nisf.networks.lookup import Nearby, interpolate, nearby, nearby_each


def coarse_maps(maps: Float[Tensor, "n 3 4"], scale: int) -> Float[Tensor, "n 3 4"]:
    """Maps from model mm to pixels ``scale`` times as large as the canvas's, and distance."""
    out = maps.clone()
    out[:, :2] /= scale
    out[:, :2, 3] += 0.5 / scale - 0.5
    return out


def pixel_places(maps: Float[Tensor, "n 3 4"], size: int, *, closed: bool = False) -> Float[Tensor, "n p 3"]:
    """Positions of the pixels of square images in model mm; p = size * size, the second axis fastest.

    Args:
        maps: model mm to pixels and signed distance.
        size: pixels along each side.
        closed: invert by Cramer's rule, which a CUDA graph can capture.
    """
    axis = torch.arange(size, dtype=maps.dtype, device=maps.device)
    pixel = torch.cartesian_prod(axis, axis, axis[:1])
    linear = maps[:, :, :3]
    # Checking the result would synchronise with a GPU; poses are always invertible.
    inverse = _inverse(linear) if closed else torch.linalg.inv_ex(linear).inverse
    back = inverse.transpose(1, 2)
    with autocast(maps.device, "fp32"):  # as in `nisf.networks.lookup.nearby`
        return (pixel - maps[:, None, :, 3]) @ back


def _inverse(matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """The inverse by cross products of the rows."""
    first, second, third = matrix.unbind(1)
    columns = [torch.linalg.cross(a, b) for a, b in ((second, third), (third, first), (first, second))]
    return torch.stack(columns, dim=-1) / (first * columns[0]).sum(-1)[:, None, None]


class SliceExchange(nn.Module):
    """Adds to every pixel's features those of the nearest slices, its own included, at the same place.

    Args:
        channels: features per pixel.
        scale: canvas pixels along each side of one pixel.
        config: the encoder's.
    """

    def __init__(self, channels: int, scale: int, config: ImageConfig) -> None:
        super().__init__()
        self.scale, self.neighbours, self.distance_mm = scale, config.neighbours, config.distance_mm
        self.each = nn.Linear(channels, channels)
        self.along = nn.Linear(1, channels, bias=False)
        self.into = nn.Linear(channels, channels)
        nn.init.kaiming_normal_(self.each.weight, nonlinearity="relu")
        for start in (self.each.bias, self.into.weight, self.into.bias):
            nn.init.zeros_(start)

    def forward(
        self, x: Float[Tensor, "n c h w"], maps: Sequence[Float[Tensor, "_ 3 4"]] | Float[Tensor, "b m 3 4"]
    ) -> Float[Tensor, "n c h w"]:
        """Mix the neighbours' features into those of each slice.

        Args:
            x: features of all scenes' slices in turn.
            maps: for each scene, its slices' maps from model mm to canvas pixel and signed distance; one
                tensor if all have equally many. Only slices of the same scene exchange features.
        """
        pixels = x.permute(0, 2, 3, 1)
        # The linear map is applied before the look-up, where there are fewer pixels.
        each, size = self.each(pixels), x.shape[-1]
        if isinstance(maps, Tensor):
            coarse = coarse_maps(maps.flatten(0, 1), self.scale)
            places = pixel_places(coarse, size, closed=True).reshape(len(maps), -1, 3)
            near = nearby_each(coarse.reshape(maps.shape), places, size, self.neighbours)
            mean = self._mean(each, near)
        else:
            parts = each.split([len(own) for own in maps])
            mean = torch.cat([self._seen(part, own) for part, own in zip(parts, maps, strict=True)])
        return x + self.into(mean).reshape(pixels.shape).permute(0, 3, 1, 2)

    def _seen(self, features: Float[Tensor, "n h w c"], maps: Float[Tensor, "n 3 4"]) -> Tensor:
        """The neighbours' mean at every pixel of one scene (n * h * w, c)."""
        size = features.shape[1]
        maps = coarse_maps(maps, self.scale)
        near = nearby(maps, pixel_places(maps, size).reshape(-1, 3), size, self.neighbours)
        return self._mean(features, near)

    def _mean(self, features: Float[Tensor, "n h w c"], near: Nearby) -> Float[Tensor, "p c"]:
        away = near.distance.abs()[..., None] / self.distance_mm
        each = torch.relu(interpolate(features, near.index, near.u, near.v) + self.along(away))
        return (each * near.weight[..., None]).sum(1)
