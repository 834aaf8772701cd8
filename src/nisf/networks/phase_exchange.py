"""Phases that look at each other: every slice takes what it shows at the two that are farthest apart.

Whether a structure reaches a slice at one phase is often plain at another. The two phases of a subject that
look most different are its reference; the mean of their features, slice by slice, is shown to every phase.
As it is the same mean for all of them, answers stay smooth over the cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class PhaseExchange(nn.Module):
    """Adds to every pixel's features what they and those of the reference phases say together.

    The last map starts at zero: a trained encoder that gets it goes on from where it was.

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
        """Features with those of the reference mixed in.

        Args:
            x: of each slice at its own phase.
            shown: the reference's, of the same slices.
        """
        return x + self.into(torch.relu(self.own(x) + self.shown(shown)))


def mean_of_phases(
    x: Float[Tensor, "n c h w"], slices: Sequence[int], together: Sequence[int]
) -> Float[Tensor, "n c h w"]:
    """For each slice, the mean over the phases of its subject.

    Args:
        x: features of all scenes' slices in turn.
        slices: how many each scene has.
        together: how many scenes in turn are phases of one subject, which have the same slices.
    """
    out, first = [], 0
    scenes = x.split(list(slices))
    for count in together:
        mean = torch.stack(scenes[first : first + count]).mean(0)
        out += [mean] * count
        first += count
    return torch.cat(out)


def mixed_phases(x: Float[Tensor, "n c h w"], mix: Float[Tensor, "s p p"]) -> Float[Tensor, "n c h w"]:
    """As `mean_of_phases`, of s subjects with p scenes each, all of equally many slices.

    Args:
        x: features of all scenes' slices in turn.
        mix: how much each scene counts in what is shown to each of the same subject.
    """
    subjects, phases = mix.shape[:2]
    own = x.reshape(subjects, phases, -1)
    return torch.bmm(mix.to(x.dtype), own).reshape(x.shape)


def most_different(images: Float[Tensor, "t n c h w"]) -> tuple[int, ...]:
    """The two of t phases whose images differ most, on average over the pixels; all if there are fewer.

    Args:
        images: the same slices at each phase.
    """
    t = len(images)
    if t < 3:
        return tuple(range(t))
    coarse = functional.avg_pool2d(images.flatten(0, 1).float(), 4).reshape(t, -1)
    first, second = divmod(int(torch.cdist(coarse, coarse, p=1).argmax()), t)
    return tuple(sorted((first, second)))
