"""The image-conditioned field: any place in space to intensity and class, from the slices around it.

A place takes the features of its nearest measured slices at its projection onto their planes. A network sees
each slice's features with the signed distance to it; two means of its answers, a broad one and one that the
nearest slice dominates, and the subject's latent are decoded. A slice's weight fades out before another takes
its place, so the answer is continuous in space, does not depend on the order of the slices, and is defined
between and beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config import FieldConfig, ImageConfig
from nisf.encoder import Encoder

FAR_MM = 1e4
"""Distance given to a slice that does not cover a place."""
SHARP_MM = 2.0
"""Distance at which a slice counts half as much as one through the place itself, in the sharper mean."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The encoded slices of one subject at one moment.

    Attributes:
        features: of each pixel of each slice's canvas (n, h, w, f).
        maps: model mm to canvas pixel (u, v) and signed distance in mm (n, 3, 4).
        latent: of the subject at this moment (l,).
    """

    features: Float[Tensor, "n h w f"]
    maps: Float[Tensor, "n 3 4"]
    latent: Float[Tensor, "l"]


def sample(features: Float[Tensor, "n h w f"], of: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "..."]:
    """Features of canvas ``of`` at pixel ``(u, v)``, linearly between pixels; places outside get the edge's.

    Args:
        of: canvas index, any shape.
        u: along the first pixel axis, same shape.
        v: along the second.
    """
    n, h, w, f = features.shape
    u, v = u.clamp(0, h - 1), v.clamp(0, w - 1)
    i, j = u.floor().clamp(max=h - 2), v.floor().clamp(max=w - 2)
    a, b = (u - i)[..., None], (v - j)[..., None]
    first = ((of * h + i.long()) * w + j.long()).reshape(-1)
    table = features.reshape(n * h * w, f)

    def corner(offset: int) -> Tensor:
        return table.index_select(0, first + offset).reshape(*of.shape, f)

    near = (1 - b) * corner(0) + b * corner(1)
    far = (1 - b) * corner(w) + b * corner(w + 1)
    return (1 - a) * near + a * far


def _two_layers(inputs: int, outputs: int) -> nn.Module:
    first, second = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)
    for linear in (first, second):
        # PyTorch's default shrinks the signal in every layer, and learning was three times slower.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class ImageField(nn.Module):
    """An encoder of slices and a field that decodes their features."""

    def __init__(self, config: FieldConfig, image: ImageConfig) -> None:
        super().__init__()
        self.config, self.image = config, image
        self.encoder = Encoder(image, config.channels)
        self.each = _two_layers(image.features + 1, image.hidden)
        self.join = _two_layers(2 * image.hidden + image.latent, image.hidden)
        # Straight from the features as well: what the encoder learns does not wait for the layers above.
        outputs = config.channels + config.classes
        self.head = nn.Linear(image.hidden, outputs)
        self.direct = nn.Linear(image.features, outputs, bias=False)

    def encode(self, images: Float[Tensor, "n c h w"], maps: Float[Tensor, "n 3 4"]) -> Scene:
        """The slices of one subject at one moment, ready to be asked.

        Args:
            images: slices on their canvases, intensities in [0, 1].
            maps: see `Scene`.
        """
        features, latents = self.encoder(images)
        return Scene(features, maps, latents.mean(0))

    def neighbours(
        self, maps: Float[Tensor, "n 3 4"], points: Float[Tensor, "p 3"], size: int
    ) -> tuple[Tensor, Float[Tensor, "p k 3"], Float[Tensor, "p k"]]:
        """The nearest slices of each place: their index, (u, v, distance), and weight.

        The weight falls to nothing where the next slice would take over, so that the answer has no jump.

        Args:
            maps: see `Scene`.
            points: model mm.
            size: pixels along the canvas's sides.
        """
        local = torch.einsum("nij,pj->pni", maps[:, :, :3], points) + maps[None, :, :, 3]
        outside = ((local[..., :2] < -0.5) | (local[..., :2] > size - 0.5)).any(-1)
        distance = local[..., 2].abs() + FAR_MM * outside
        count = min(self.image.neighbours, distance.shape[1])
        nearest = distance.topk(min(count + 1, distance.shape[1]), dim=1, largest=False)
        chosen = nearest.indices[:, :count]
        near = nearest.values[:, :count]
        # With no further slice nothing takes over, and all count alike.
        reach = (
            nearest.values[:, count:] if nearest.values.shape[1] > count else torch.full_like(near, FAR_MM)
        )
        weight = (1 - near / (reach + 0.01)).clamp_min(0) * (near < FAR_MM)
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
        return chosen, torch.take_along_dim(local, chosen[..., None], dim=1), weight

    def forward(
        self, scene: Scene, points: Float[Tensor, "p 3"], *, both: bool = False
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and of class at places in model mm.

        Args:
            scene: the encoded slices.
            points: model mm.
            both: average over counting the slices from either end, which makes the answer independent
                of it; training draws one at random instead.
        """
        chosen, local, weight = self.neighbours(scene.maps, points, scene.features.shape[1])
        features = sample(scene.features, chosen, local[..., 0], local[..., 1])
        distance = local[..., 2:]
        answer = self._decode(features, distance, weight, scene.latent)
        if both:
            answer = (answer + self._decode(features, -distance, weight, scene.latent)) / 2
        channels = self.config.channels
        return answer[:, :channels], answer[:, channels:]

    def _decode(
        self,
        features: Float[Tensor, "p k f"],
        distance: Float[Tensor, "p k 1"],
        weight: Float[Tensor, "p k"],
        latent: Float[Tensor, "l"],
    ) -> Float[Tensor, "p o"]:
        sharp = weight / (distance[..., 0].abs() + SHARP_MM)
        sharp = sharp / sharp.sum(1, keepdim=True).clamp_min(1e-6)
        each = self.each(torch.cat([features, distance / self.image.distance_mm], dim=-1))
        means = [(each * share[..., None]).sum(1) for share in (weight, sharp)]
        hidden = self.join(torch.cat([*means, latent.expand(len(each), -1)], dim=1))
        return self.head(hidden) + self.direct((features * sharp[..., None]).sum(1))
