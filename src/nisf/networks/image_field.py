"""The image-conditioned field: any place in space to intensity and class, from the slices around it.

A place takes the features of its nearest measured slices at its projection onto their planes. A network sees
each slice's features with the signed distance to it; two means of its answers, a broad one and one that the
nearest slice dominates, and the subject's latent are decoded. A slice's weight fades out before another takes
its place, so the answer is continuous in space, does not depend on the order of the slices, and is defined
between and beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config.schema import FieldConfig, ImageConfig
from nisf.networks.encoder import Encoder
from nisf.networks.lookup import Nearby, nearby, nearby_each, sample


@dataclass(frozen=True, eq=False)
class Scene:
    """The encoded slices of one subject at one phase.

    Attributes:
        features: of each pixel of each slice's canvas (n, h, w, f).
        maps: model mm to canvas pixel (u, v) and signed distance in mm (n, 3, 4).
        latent: of the subject at this phase (l,).
    """

    features: Float[Tensor, "n h w f"]
    maps: Float[Tensor, "n 3 4"]
    latent: Float[Tensor, "l"]


def _two_layers(inputs: int, outputs: int) -> nn.Sequential:
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

    def encode(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Float[Tensor, "n 3 4"],
        shown: Sequence[Tensor] | None = None,
    ) -> Scene:
        """The slices of one subject at one phase, ready to be asked.

        Args:
            images: slices on their canvases, intensities in [0, 1].
            maps: see `Scene`.
            shown: by the subject's reference phases, from the encoder's `shown_by`; by this one if None.
        """
        features, latents = self.encoder(images, [maps], shown=shown)
        return Scene(features, maps, latents.mean(0))

    def forward(
        self, scene: Scene, points: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and of class at places in model mm; see also
        `nisf.networks.image_inference`, which is faster.

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
        """`forward` for b scenes of m slots each at once; places after places, scene after scene.

        Args:
            features: of the slots of all scenes in turn.
            maps: see `Scene`; with the last row `nisf.networks.lookup.AWAY` where a slot has no slice.
            latents: of each scene.
            points: model mm.
        """
        near = nearby_each(maps, points, features.shape[1], self.image.neighbours)
        latent = latents[:, None].expand(-1, points.shape[1], -1).flatten(0, 1)
        return self._decoded(features, near, latent)

    def _decoded(
        self, canvases: Float[Tensor, "n h w f"], near: Nearby, latent: Float[Tensor, "p l"]
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        features = sample(canvases, near.index, near.u, near.v)
        return self._split(self._hidden(features, near, latent), features, near)

    def decode(
        self, features: Float[Tensor, "p k f"], near: Nearby, latent: Float[Tensor, "l"], *, both: bool
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and class from features that are looked up already; differentiable in them.

        Args:
            features: of the nearest slices.
            near: the look-up.
            latent: of the scene.
            both: average over counting the slices from either end, as answers of a subject do.
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
