"""The decoder of an image-conditioned field in traceable form, alone or with one subject's encoded slices.

The decoder of a static page does the same (`nisf.kinds.image.portable`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from nisf.data.region import Region
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.lookup import Nearby, nearest_slices
from nisf.prior.exportable import Exportable, within

EXAMPLES = 7
"""Number of points in the examples, unlike the length of any other axis."""


class _Decoder(nn.Module):
    """Maps encoded slices and points in model mm to answers."""

    def __init__(self, field: ImageField, *, both: bool) -> None:
        super().__init__()
        self.each, self.join, self.head, self.direct = field.each, field.join, field.head, field.direct
        self.image, self.channels, self.signs = field.image, field.config.channels, (1.0, -1.0)[: 1 + both]

    @override
    def forward(self, features: Tensor, maps: Tensor, latent: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        # `nisf.networks.lookup.nearby` in a form whose trace does not fix the number of slices or points.
        u, v, distance = (place @ maps[:, axis, :3].T + maps[:, axis, 3] for axis in range(3))
        near = nearest_slices(u, v, distance, self.image.pixels, self.image.neighbours)
        latents = latent + torch.zeros_like(place[:, :1])
        seen = sampled(features, near)
        distance, hidden = near.distance[..., None] / self.image.distance_mm, []
        for sign in self.signs:
            each = self.each(torch.cat([seen, sign * distance], dim=-1))
            means = [(each * weight[..., None]).sum(1) for weight in (near.weight, near.sharp)]
            hidden.append(self.join(torch.cat([*means, latents], dim=1)))
        mean = sum(hidden[1:], hidden[0]) / len(hidden)
        answer = self.head(mean) + self.direct((seen * near.sharp[..., None]).sum(1))
        return torch.sigmoid(answer[:, : self.channels]), torch.softmax(answer[:, self.channels :], dim=1)


def sampled(features: Float[Tensor, "n h w f"], near: Nearby) -> Float[Tensor, "p k f"]:
    """`nisf.networks.lookup.interpolate` in terms of look-ups that other programs have."""
    _, h, w, f = features.shape
    table = features.reshape(-1, f)
    u, v = near.u.clamp(0, h - 1), near.v.clamp(0, w - 1)
    i, j = u.floor().clamp(max=h - 2), v.floor().clamp(max=w - 2)
    a, b = (u - i)[..., None], (v - j)[..., None]
    first = (near.index * h + i.long()) * w + j.long()
    above = table[first] * (1 - b) + table[first + 1] * b
    below = table[first + w] * (1 - b) + table[first + w + 1] * b
    return above * (1 - a) + below * a


class _Subject(nn.Module):
    """Maps world mm to one subject's answers at one measured phase; background outside its region."""

    turn: Tensor
    shift: Tensor
    reach: Tensor
    features: Tensor
    maps: Tensor
    latent: Tensor

    def __init__(self, decoder: _Decoder, scene: Scene, region: Region) -> None:
        super().__init__()
        self.decoder = decoder
        for name, tensor in (("features", scene.features), ("maps", scene.maps), ("latent", scene.latent)):
            self.register_buffer(name, tensor.cpu().clone())
        self.register_buffer("turn", torch.tensor(region.pose.matrix[:3, :3].T, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(region.pose.matrix[:3, 3], dtype=torch.float32))
        self.register_buffer("reach", torch.tensor(region.half, dtype=torch.float32))

    @override
    def forward(self, position: Tensor) -> tuple[Tensor, Tensor]:
        place = position @ self.turn + self.shift
        intensity, probability = self.decoder(self.features, self.maps, self.latent, place)
        return within(place / self.reach, intensity, probability)


def exportable_decoder(field: ImageField, *, both: bool) -> Exportable:
    """The decoder with encoded slices as inputs.

    Args:
        field: the network.
        both: average over both directions of counting the slices.
    """
    random, image = torch.Generator().manual_seed(0), field.image
    count = image.neighbours + 2
    maps = torch.zeros(count, 3, 4)
    maps[:, 0, 0] = maps[:, 1, 1] = 1 / image.pixel_mm
    maps[:, :2, 3] = (image.pixels - 1) / 2
    maps[:, 2, 2] = 1.0
    maps[:, 2, 3] = -10.0 * torch.arange(count)
    reach = image.pixels * image.pixel_mm / 3
    inputs = {
        "features": torch.rand(count, image.pixels, image.pixels, image.features, generator=random),
        "maps": maps,
        "latent": torch.rand(image.latent, generator=random),
        "place": (torch.rand(EXAMPLES, 3, generator=random) - 0.5) * reach,
    }
    about = {
        "features": "of the pixels of each slice's canvas, by the encoder of nisf",
        "maps": "model mm to canvas pixel (u, v) and signed distance in mm",
        "place": "model mm",
        "least_slices": image.neighbours + 1,
        "pixels": image.pixels,
    }
    free = {"features": {0: "s"}, "maps": {0: "s"}, "place": {0: "n"}}
    return Exportable(_Decoder(field, both=both), inputs, free, about)


def exportable_scene(
    field: ImageField, scene: Scene, region: Region, time: float, *, both: bool
) -> Exportable:
    """One subject at one measured phase, queried in world mm.

    Args:
        field: the network.
        scene: its encoded slices at the phase.
        region: the region in which it gives answers.
        time: time of the phase.
        both: see `exportable_decoder`.
    """
    network = _Subject(_Decoder(field, both=both), scene, region)
    centre = torch.tensor(region.centre(), dtype=torch.float32)
    spread = torch.linspace(-0.5, 0.5, EXAMPLES)[:, None] * torch.tensor(region.half, dtype=torch.float32)
    about = {"position": "world mm, RAS+", "time": time}
    return Exportable(network, {"position": centre + spread}, {"position": {0: "n"}}, about)
