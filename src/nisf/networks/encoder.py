"""The encoder: a small U-Net that turns every measured slice into features that the field decodes.

On its coarse levels a slice may also take what its neighbours in space show (`nisf.networks.slice_exchange`),
and what it shows itself at other phases (`nisf.networks.phase_exchange`). What comes out depends on neither
the order of the slices nor the end from which they are counted.
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
    """Slices on their canvases to features of every pixel, and a latent of each slice."""

    def __init__(self, config: ImageConfig, channels: int) -> None:
        super().__init__()
        widths = [config.width * (level + 1) for level in range(config.levels)]
        # Two by two pixels become channels: the costliest layers work on a quarter of the places.
        inputs = [4 * channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], 4 * config.features, 1)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        self.latent = nn.Linear(widths[-1], config.latent)
        # Coarsest first, as on the way up. The attributes' names are those of the weights in priors' files.
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
            images: intensities in [0, 1]; height and width divisible by ``2 ** levels``.
            maps: of each scene in turn, its slices' maps from model mm to canvas pixel and signed distance;
                one tensor if all have equally many.
            together: how many scenes in turn are the reference phases of one subject, with the same slices,
                or, of equally many each, how much they count (`mixed_phases`); each is its own reference if
                None.
            shown: what the reference shows, from `shown_by`, instead.
        """
        features, latents, _ = self._encode(images, maps, together, shown)
        return features, latents

    def shown_by(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Sequence[Float[Tensor, "_ 3 4"]] | Float[Tensor, "b m 3 4"],
        together: Float[Tensor, "1 p p"] | None = None,
    ) -> tuple[list[Tensor], Float[Tensor, "n h w f"], Float[Tensor, "n l"]]:
        """What one subject's reference phases show on each level of the exchange between phases.

        Args:
            images: of all its reference phases in turn; the same slices at each.
            maps: of each phase.
            together: how much the phases count, where a trace must not fix their number; all alike if None.

        Returns:
            What they show, and their own features and latents, as `forward` gives them.
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
        """See `forward`; and what each scene was shown, level by level."""
        seen: list[Tensor] = []

        def exchanged(x: Tensor, done: int) -> Tensor:
            """After ``done`` levels on the way up: with what phases and neighbours show."""
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
