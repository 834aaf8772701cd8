"""The image-conditioned field: maps any point in space to intensity and class, from the slices around it.

A point takes the features of its nearest measured slices where it projects onto their planes. A network
processes each slice's features with the signed distance to the slice. Two weighted means over the slices, a
broad one and one dominated by the nearest slice, are decoded together with the subject's latent. A slice's
weight fades to zero before another slice takes its place. The field is therefore continuous in space,
independent of the order of the slices, and defined between and beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config.schema import FieldConfig, ImageConfig
from nisf.networks.encoder import Encoder
from nisf.networks.lookup import Nearby, interpolate, nearby, nearby_each


@dataclass(frozen=True, eq=False)
class Scene:
    """The encoded slices of one subject at one phase.

    Attributes:
        features: features of each pixel of each slice's canvas (n, h, w, f).
        maps: model mm to canvas pixel (u, v) and signed distance in mm (n, 3, 4).
        latent: latent of the subject at this phase (l,).
    """

    features: Float[Tensor, "n h w f"]
    maps: Float[Tensor, "n 3 4"]
    latent: Float[Tensor, "l"]


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Linear(inputs, outputs), nn.Linear(outputs, outputs)
    for linear in (first, second):
        # PyTorch's default initialisation shrinks the signal in every layer; training was three times slower.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class ImageField(nn.Module):
    """An encoder of slices, and a field that decodes their features."""

    def __init__(self, config: FieldConfig, image: ImageConfig) -> None:
        super().__init__()
        self.config, self.image = config, image
        self.encoder = Encoder(image, config.channels)
        self.each = _two_layers(image.features + 1, image.hidden)
        self.join = _two_layers(2 * image.hidden + image.latent, image.hidden)
        # A linear shortcut from the features: the encoder's gradient need not pass the layers above.
        outputs = config.channels + config.classes
        self.head = nn.Linear(image.hidden, outputs)
        self.direct = nn.Linear(image.features, outputs, bias=False)

    def encode(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Float[Tensor, "n 3 4"],
        shown: Sequence[Tensor] | None = None,
    ) -> Scene:
        """Encode the slices of one subject at one phase.

        Args:
            images: slices on their canvases, intensities in [0, 1].
            maps: see `Scene`.
            shown: features of the subject's reference phases from the encoder's `shown_by`; if None, this
                phase is the reference.
        """
        features, latents = self.encoder(images, [maps], shown=shown)
        return Scene(features, maps, latents.mean(0))

    def forward(
        self, scene: Scene, points: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and of class at points in model mm.

        `nisf.networks.image_inference` gives the same answers faster.

        Args:
            scene: the encoded slices.
            points: model mm.
        """
        near = nearby(scene.maps, points, scene.features.shape[1], self.image.neighbours)
        return self._decoded(scene.features, near, scene.latent.expand(len(points), -1))

    def of_scenes(
        self,
        features: Float[Tensor, "n h w f"],
        maps: Float[Tensor, "b m 3 4"],
        latents: Float[Tensor, "b l"],
        points: Float[Tensor, "b p 3"],
    ) -> tuple[Float[Tensor, "q c"], Float[Tensor, "q k"]]:
        """`forward` for b scenes with m slots each at once; points in turn, scene after scene.

        Args:
            features: features of the slots of all scenes in turn.
            maps: see `Scene`; the last row is `nisf.networks.lookup.AWAY` in slots without a slice.
            latents: one per scene.
            points: model mm.
        """
        near = nearby_each(maps, points, features.shape[1], self.image.neighbours)
        latent = latents[:, None].expand(-1, points.shape[1], -1).flatten(0, 1)
        return self._decoded(features, near, latent)

    def _decoded(
        self, canvases: Float[Tensor, "n h w f"], near: Nearby, latent: Float[Tensor, "p l"]
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        features = interpolate(canvases, near.index, near.u, near.v)
        return self._split(self._hidden(features, near, latent), features, near)

    def decode(
        self, features: Float[Tensor, "p m f"], near: Nearby, latent: Float[Tensor, "l"], *, both: bool
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and class from sampled features; differentiable in the features.

        Args:
            features: features of the nearest slices.
            near: the look-up of these slices.
            latent: latent of the scene.
            both: average over both directions of counting the slices, as the answers of a subject do.
        """
        own = latent.expand(len(features), -1)
        hidden = self._hidden(features, near, own)
        if both:
            hidden = (hidden + self._hidden(features, replace(near, distance=-near.distance), own)) / 2
        return self._split(hidden, features, near)

    def _hidden(self, features: Tensor, near: Nearby, latent: Tensor) -> Float[Tensor, "p h"]:
        distance = near.distance[..., None] / self.image.distance_mm
        each = self.each(torch.cat([features, distance], dim=-1))
        means = [(each * weight[..., None]).sum(1) for weight in (near.weight, near.sharp)]
        return self.join(torch.cat([*means, latent], dim=1))

    def _split(self, hidden: Tensor, features: Tensor, near: Nearby) -> tuple[Tensor, Tensor]:
        """Logits of intensity, and of class."""
        answer = self.head(hidden) + self.direct((features * near.sharp[..., None]).sum(1))
        return answer[:, : self.config.channels], answer[:, self.config.channels :]
