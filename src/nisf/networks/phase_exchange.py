"""Exchange between phases: every slice also sees its features at the two phases that differ most.

It is often clear at one phase whether a structure reaches a slice, and unclear at another. The two phases of
a subject whose images differ most are its reference. The mean of their features, slice by slice, is passed to
every phase. Because all phases get the same mean, answers stay smooth over the cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class PhaseExchange(nn.Module):
    """Adds to every pixel's features a function of them and of the reference phases' features.

    The last layer is initialised to zero, so that adding the exchange to a trained encoder changes nothing at
    first.

    Args:
        channels: features of a pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own, self.shown = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1, bias=False)
        self.into = nn.Conv2d(channels, channels, 1)
        for part in (self.own, self.shown):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        for start in (self.own.bias, self.into.weight, self.into.bias):
            assert start is not None
            nn.init.zeros_(start)

    def forward(
        self, x: Float[Tensor, "n c h w"], shown: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, "n c h w"]:
        """Mix the reference's features into those of each slice.

        Args:
            x: features of each slice at its own phase.
            shown: features of the same slices at the reference.
        """
        return x + self.into(torch.relu(self.own(x) + self.shown(shown)))


def mean_of_phases(
    x: Float[Tensor, "n c h w"], slices: Sequence[int], together: Sequence[int]
) -> Float[Tensor, "n c h w"]:
    """For each slice, the mean over its subject's phases.

    Args:
        x: features of all scenes' slices in turn.
        slices: number of slices of each scene.
        together: numbers of consecutive scenes that are phases of one subject and have the same slices.
    """
    out, first = [], 0
    scenes = x.split(list(slices))
    for count in together:
        mean = torch.stack(scenes[first : first + count]).mean(0)
        out += [mean] * count
        first += count
    return torch.cat(out)


def mixed_phases(x: Float[Tensor, "n c h w"], mix: Float[Tensor, "s p p"]) -> Float[Tensor, "n c h w"]:
    """`mean_of_phases` for s subjects with p scenes each, all with equally many slices.

    Args:
        x: features of all scenes' slices in turn.
        mix: weight of each scene in what is passed to each scene of the same subject.
    """
    subjects, phases = mix.shape[:2]
    own = x.reshape(subjects, phases, -1)
    return torch.bmm(mix.to(x.dtype), own).reshape(x.shape)


def most_different(images: Float[Tensor, "t n c h w"]) -> tuple[int, ...]:
    """Indices of the two phases whose images differ most, averaged over the pixels; all if fewer than three.

    Args:
        images: the same slices at each phase.
    """
    t = len(images)
    if t < 3:
        return tuple(range(t))
    coarse = functional.avg_pool2d(images.flatten(0, 1).float(), 4).reshape(t, -1)
    first, second = divmod(int(torch.cdist(coarse, coarse, p=1).argmax()), t)
    return tuple(sorted((first, second)))
