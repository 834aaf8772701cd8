"""The encoder: a small U-Net that turns every measured slice into features that the field decodes.

On its coarse levels, slices can also exchange features with their neighbours in space
(`nisf.networks.slice_exchange`) and with themselves at other phases (`nisf.networks.phase_exchange`). The
result depends neither on the order of the slices nor on the end from which they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nisf.config.schema import ImageConfig
from nisf.networks.phase_exchange import PhaseExchange, mean_of_phases, mixed_phases
from nisf.networks.slice_exchange import SliceExchange


def _block(inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for size in (inputs, outputs):
        layers += [
            nn.Conv2d(size, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm2d(outputs, affine=True),
        ]
        layers += [nn.LeakyReLU(0.01, inplace=True)]
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Maps slices on their canvases to features of every pixel and one latent per slice."""

    def __init__(self, config: ImageConfig, channels: int) -> None:
        super().__init__()
        widths = [config.width * (level + 1) for level in range(config.levels)]
        # Each 2 x 2 block of pixels becomes channels: the costliest layers work on a quarter of the pixels.
        inputs = [4 * channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], 4 * config.features, 1)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        self.latent = nn.Linear(widths[-1], config.latent)
        # Coarsest first, as in the decoder. Attribute names are those of the weights in saved priors.
        levels = range(config.levels)[::-1]
        self.exchange = nn.ModuleList(
            SliceExchange(widths[k], 2 ** (k + 1), config) for k in levels[: config.slice_exchange]
        )
        self.moments = nn.ModuleList(PhaseExchange(widths[k]) for k in levels[: config.phase_exchange])

    def forward(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Sequence[Float[Tensor, "_ 3 4"]] | Float[Tensor, "b m 3 4"],
        together: Sequence[int] | Float[Tensor, "s p p"] | None = None,
        shown: Sequence[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "n h w f"], Float[Tensor, "n l"]]:
        """Features of every pixel, and one latent per slice.

        Args:
            images: intensities in [0, 1]; height and width are divisible by ``2 ** levels``.
            maps: for each scene in turn, its slices' maps from model mm to canvas pixel and signed distance;
                one tensor if all scenes have equally many slices.
            together: numbers of consecutive scenes that are the reference phases of one subject and have the
                same slices; or, if all subjects have equally many, the weights of the phases
                (`mixed_phases`). If None, each scene is its own reference.
            shown: use these features of the reference phases, from `shown_by`, instead.
        """
        features, latents, _ = self._encode(images, maps, together, shown)
        return features, latents

    def shown_by(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Sequence[Float[Tensor, "_ 3 4"]] | Float[Tensor, "b m 3 4"],
        together: Float[Tensor, "1 p p"] | None = None,
    ) -> tuple[list[Tensor], Float[Tensor, "n h w f"], Float[Tensor, "n l"]]:
        """Features of one subject's reference phases on each level of the phase exchange.

        Args:
            images: images of all its reference phases in turn; each has the same slices.
            maps: maps of each phase.
            together: weights of the phases, for traces that must not fix their number; equal if None.

        Returns:
            The features for ``shown``, and the features and latents of the phases as `forward` returns them.
        """
        mix = [len(maps)] if together is None else together
        features, latents, each = self._encode(images, maps, mix, None)
        return [level[: maps[0].shape[0]] for level in each], features, latents

    def _encode(
        self,
        images: Tensor,
        maps: Sequence[Tensor] | Tensor,
        together: Sequence[int] | Tensor | None,
        shown: Sequence[Tensor] | None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`forward`, which also returns what each scene was shown on each level."""
        seen: list[Tensor] = []

        def exchanged(x: Tensor, done: int) -> Tensor:
            """Apply the exchanges that follow the first ``done`` levels of the decoder."""
            if done < len(self.moments):
                if isinstance(together, Tensor):
                    seen.append(mixed_phases(x, together))
                elif shown is None:
                    slices = [len(own) for own in maps]
                    seen.append(mean_of_phases(x, slices, [1] * len(maps) if together is None else together))
                else:
                    seen.append(shown[done])
                x = self.moments[done](x, seen[-1])
            return self.exchange[done](x, maps) if done < len(self.exchange) else x

        x = functional.pixel_unshuffle(images, 2)
        skips = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = exchanged(x, 0)
        latent = self.latent(x.mean((2, 3)))
        for level in reversed(range(len(self.up))):
            larger = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = self.up[level](torch.cat([skips[level], larger], dim=1))
            x = exchanged(x, len(self.up) - level)
        features = functional.pixel_shuffle(self.head(x), 2)
        return features.permute(0, 2, 3, 1).contiguous(), latent, seen
