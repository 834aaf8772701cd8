"""The encoder of an image-conditioned field in traceable form.

Its layers are reused. Only the look-ups of the slice exchange (`nisf.networks.slice_exchange`) are rewritten
in operations that ONNX has, such that the trace does not fix the number of slices and phases.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from nisf.kinds.image.exportable import sampled
from nisf.kinds.image.mirrors import flips_of
from nisf.networks.encoder import Encoder
from nisf.networks.image_field import ImageField
from nisf.networks.lookup import nearest_slices
from nisf.networks.slice_exchange import SliceExchange, coarse_maps, pixel_places
from nisf.prior.exportable import Exportable


class _Exchange(nn.Module):
    """`SliceExchange` for scenes that all have the same maps."""

    factor: Tensor
    shift: Tensor

    def __init__(self, exchange: SliceExchange, size: int) -> None:
        super().__init__()
        self.each, self.along, self.into = exchange.each, exchange.along, exchange.into
        self.size, self.neighbours, self.distance_mm = size, exchange.neighbours, exchange.distance_mm
        # `coarse_maps` writes into slices of a tensor; here it is a factor and a shift.
        shift = coarse_maps(torch.zeros(1, 3, 4), exchange.scale)[0]
        self.register_buffer("shift", shift)
        self.register_buffer("factor", coarse_maps(torch.ones(1, 3, 4), exchange.scale)[0] - shift)

    @override
    def forward(self, x: Float[Tensor, "q c h w"], maps: Float[Tensor, "b n 3 4"]) -> Tensor:
        coarse, size = maps[0] * self.factor + self.shift, self.size
        places = pixel_places(coarse, size, closed=True).reshape(-1, 3)
        u, v, distance = (places @ coarse[:, axis, :3].T + coarse[:, axis, 3] for axis in range(3))
        near = nearest_slices(u, v, distance, size, self.neighbours)
        pixels = x.permute(0, 2, 3, 1)
        channels = pixels.shape[3]
        # The scenes become channels, so that one look-up serves all of them.
        table = self.each(pixels).reshape(maps.shape[0], -1, size, size, channels)
        table = table.permute(1, 2, 3, 0, 4).flatten(3)
        seen = sampled(table, near).reshape(places.shape[0], self.neighbours, -1, channels)
        away = near.distance.abs()[..., None] / self.distance_mm
        mean = (torch.relu(seen + self.along(away)[:, :, None]) * near.weight[..., None, None]).sum(1)
        mean = self.into(mean).transpose(0, 1).reshape(-1, size, size, channels)
        return x + mean.permute(0, 3, 1, 2)


class _Encoder(nn.Module):
    """Maps slices of one phase, their maps and those of the reference phases to features and a latent."""

    sign: Tensor
    shift: Tensor

    def __init__(self, field: ImageField, mirrors: int) -> None:
        super().__init__()
        encoder: Encoder = copy.deepcopy(field.encoder)
        pixels = field.image.pixels
        encoder.exchange = nn.ModuleList(
            _Exchange(part, pixels // part.scale) for part in map(_as_exchange, encoder.exchange)
        )
        self.encoder, self.flips = encoder, flips_of(mirrors)
        # Effect of flipping on maps.
        sign, shift = torch.ones(len(self.flips), 3, 1), torch.zeros(len(self.flips), 3, 4)
        for number, axes in enumerate(self.flips):
            sign[number, axes], shift[number, axes, 3] = -1.0, pixels - 1.0
        self.register_buffer("sign", sign)
        self.register_buffer("shift", shift)

    @override
    def forward(self, images: Tensor, maps: Tensor, reference: Tensor | None = None) -> tuple[Tensor, Tensor]:
        found = [self._mirrored(images, maps, reference, number) for number in range(len(self.flips))]
        features, latents = zip(*found, strict=True)
        return sum(features[1:], features[0]) / len(found), sum(latents[1:], latents[0]) / len(found)

    def _mirrored(
        self, images: Tensor, maps: Tensor, reference: Tensor | None, mirror: int
    ) -> tuple[Tensor, Tensor]:
        """Features, flipped back, and the mean of the slices' latents."""
        axes, shown = self.flips[mirror], None
        maps = (maps * self.sign[mirror] + self.shift[mirror])[None]
        if reference is not None:
            count = reference.shape[0]
            flat = _flipped(reference.flatten(0, 1), axes, 2)
            alike = torch.ones_like(reference[:, :1, 0, 0, 0])  # (r, 1)
            repeated = maps.expand(count, -1, -1, -1)
            shown, _, _ = self.encoder.shown_by(flat, repeated, (alike @ alike.T)[None] / count)
        features, latents = self.encoder(_flipped(images, axes, 2), maps, shown=shown)
        return _flipped(features, axes, 1), latents.mean(0)


def _flipped(x: Tensor, axes: list[int], first: int) -> Tensor:
    """Flip along pixel axes, the first of which is axis ``first``; ONNX has no flip along zero axes."""
    return x.flip([first + axis for axis in axes]) if axes else x


def _as_exchange(module: nn.Module) -> SliceExchange:
    return cast("SliceExchange", module)


def exportable_encoder(field: ImageField, mirrors: int) -> Exportable:
    """The encoder: maps slices of one phase to inputs of the exported decoder.

    Args:
        field: the network.
        mirrors: number of pixel axes along which slices are also mirrored; features are averaged.
    """
    image = field.image
    about: dict[str, object] = {
        "images": "slices of one phase on canvases around the region's centre, intensities in [0, 1]",
        "maps": "of each slice: model mm to canvas pixel (u, v) and signed distance in mm",
        "features": "of each pixel of each slice",
        "latent": "of the phase",
        "pixels": image.pixels,
        "pixel_mm": image.pixel_mm,
        "least_slices": image.neighbours + 1,
    }
    free: dict[str, Mapping[int, str]] = {"images": {0: "s"}, "maps": {0: "s"}}
    if image.phase_exchange:
        about["reference"] = "the same slices at the two phases that differ most, or at this one"
        free["reference"] = {0: "r", 1: "s"}
    return Exportable(
        _Encoder(field, mirrors),
        _examples(field, image.neighbours + 2, 2),
        free,
        about,
        outputs={"features": {0: "s"}, "latent": {}},
        others=_examples(field, image.neighbours + 4, 1),
    )


def _examples(field: ImageField, slices: int, phases: int) -> dict[str, Tensor]:
    """Parallel slices 9 mm apart, slightly tilted, that show random blocks."""
    random, image = torch.Generator().manual_seed(slices), field.image
    maps = torch.zeros(slices, 3, 4)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / image.pixel_mm
    maps[:, :2, 3] = (image.pixels - 1) / 2 + torch.rand(slices, 2, generator=random)
    maps[:, 2, 2], maps[:, 2, 0] = 0.995, 0.1
    maps[:, 2, 3] = 9.0 * (slices / 2 - torch.arange(slices))
    shape = (1 + phases, slices, field.config.channels, image.pixels // 4, image.pixels // 4)
    blocks = torch.rand(shape, generator=random).repeat_interleave(4, 3).repeat_interleave(4, 4)
    found = {"images": blocks[0], "maps": maps}
    return found | ({"reference": blocks[1:]} if image.phase_exchange else {})
