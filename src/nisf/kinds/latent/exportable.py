"""A latent field, or one subject of it, as a traceable network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from nisf.data.region import Region
from nisf.networks.latent_field import LatentField
from nisf.prior.exportable import Exportable, within

EXAMPLES = 5
"""Number of points in the examples, unlike the length of any other axis."""


class _Field(nn.Module):
    """Maps coordinates and a latent to answers."""

    def __init__(self, field: LatentField) -> None:
        super().__init__()
        self.field = field

    @override
    def forward(self, coordinates: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        intensity, classes = self.field(coordinates[None], latent[None])
        return torch.sigmoid(intensity[0]), torch.softmax(classes[0], dim=-1)


class _Subject(nn.Module):
    """Maps world mm and times to one subject's answers; background outside its region."""

    latent: Tensor
    turn: Tensor
    shift: Tensor

    def __init__(self, field: LatentField, latent: Float[Tensor, "l"], region: Region) -> None:
        super().__init__()
        self.field, self.dimensions = _Field(field), field.config.dimensions
        self.register_buffer("latent", latent)
        scaled = region.pose.matrix[:3] / region.half[:, None]
        self.register_buffer("turn", torch.tensor(scaled[:, :3].T, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(scaled[:, 3], dtype=torch.float32))

    @override
    def forward(self, position: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        scaled = position @ self.turn + self.shift
        # As in Python: a field without cyclic time knows one cycle only.
        cycle = torch.remainder(time, 1.0)
        coordinates = torch.cat([scaled, cycle[:, None]], dim=1)[:, : self.dimensions]
        intensity, probability = self.field(coordinates, self.latent)
        return within(scaled, intensity, probability)


def exportable_field(field: LatentField, mean: Float[Tensor, "l"]) -> Exportable:
    """The field with its latent as an input.

    Args:
        field: the network.
        mean: mean of the latents.
    """
    coordinates = torch.rand(EXAMPLES, field.config.dimensions, generator=torch.Generator().manual_seed(0))
    about = {
        "coordinates": "units of the region's half size, -1 to 1; the fourth is the fraction of the cycle",
        "latent_mean": mean.tolist(),
    }
    free = {"coordinates": {0: "n"}}
    return Exportable(_Field(field), {"coordinates": coordinates, "latent": mean}, free, about)


def exportable_subject(field: LatentField, latent: Float[Tensor, "l"], region: Region) -> Exportable:
    """One subject, queried in world mm.

    Args:
        field: the network.
        latent: latent of the subject.
        region: the region in which it gives answers.
    """
    place = torch.tensor(region.centre(), dtype=torch.float32)
    inputs = {"position": place.repeat(EXAMPLES, 1), "time": torch.linspace(0, 0.9, EXAMPLES)}
    about = {"position": "world mm, RAS+", "time": "fraction of the cycle"}
    free = {"position": {0: "n"}, "time": {0: "n"}}
    return Exportable(_Subject(field, latent, region), inputs, free, about)
