"""The field: a residual MLP from model coordinates and a latent to intensity and class.

Stolt-Anso et al., MICCAI 2023, section 2.1. The residual stream starts at the latent; coordinates
and latent enter the first layer together.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nisf.config.schema import FieldConfig

STEEPEST = 87.0
"""Envelopes stay above ``exp(-87)``, about 1e-38. Below that fp32 underflows, where the exponential of MKL,
which PyTorch uses on Intel and AMD CPUs, is forty times slower."""


def gabor(x: Tensor, omega: float, sigma: float) -> Tensor:
    """Real Gabor wavelet (WIRE) of ``(..., 2 w)`` frequencies and scales: ``(..., w)``."""
    frequency, scale = x.chunk(2, dim=-1)
    return torch.cos(omega * frequency) * torch.exp(-((sigma * scale) ** 2).clamp(max=STEEPEST))


class Backbone(nn.Module):
    """The residual layers: ``(s, n, inputs)`` coordinates and ``(s, latent)`` to ``(s, n, width)``."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        names = config.activation.split("+")
        self.activations = [names[layer % len(names)] for layer in range(config.layers)]
        self.layers = nn.ModuleList()
        for layer, name in enumerate(self.activations):
            inputs = config.inputs + config.latent if layer == 0 else config.width
            # Both linear maps of the Gabor wavelet are one matrix with twice the rows.
            linear = nn.Linear(inputs, config.width * (2 if name == "gabor" else 1))
            if name == "sine":
                # SIREN, section 3.2: keeps the distribution of activations through the layers.
                bound = math.sqrt(6 / inputs) / config.sine_omega
                nn.init.uniform_(linear.weight, -bound, bound)
            self.layers.append(linear)
        # In the paper the residual stream starts at the latent itself, which requires latent = width.
        self.start = (
            nn.Identity() if config.latent == config.width else nn.Linear(config.latent, config.width)
        )

    def activate(self, name: str, x: Tensor) -> Tensor:
        if name == "gabor":
            return gabor(x, self.config.gabor_omega, self.config.gabor_sigma)
        if name == "sine":
            return torch.sin(self.config.sine_omega * x)
        return torch.relu(x)

    def forward(self, coordinates: Tensor, latent: Tensor) -> Tensor:
        stream = self.start(latent)[:, None]
        for layer, (name, linear) in enumerate(zip(self.activations, self.layers, strict=True)):
            assert isinstance(linear, nn.Linear)
            if layer == 0:
                # The latent's part is the same for all points of a subject: computed once, not n times.
                d = self.config.inputs
                shared = functional.linear(latent, linear.weight[:, d:], linear.bias)
                x = functional.linear(coordinates, linear.weight[:, :d]) + shared[:, None]
            else:
                x = linear(stream)
            stream = self.activate(name, x) + stream
        return stream


class LatentField(nn.Module):
    """Maps coordinates and a latent to logits of intensity and class."""

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        count = 1 if config.backbone == "shared" else 2
        self.backbones = nn.ModuleList(Backbone(config) for _ in range(count))
        self.intensity_head = nn.Linear(config.width, config.channels)
        self.class_head = nn.Linear(config.width, config.classes)

    def inputs(self, coordinates: Float[Tensor, "s n d"]) -> Float[Tensor, "s n e"]:
        """Input of the first layer: time as it is, or as a point on the circle."""
        config = self.config
        if not (config.cyclic_time and config.dimensions == 4):
            return coordinates * config.coordinate_scale
        angle = 2 * math.pi * coordinates[..., 3:]
        space = coordinates[..., :3] * config.coordinate_scale
        return torch.cat([space, torch.cos(angle), torch.sin(angle)], dim=-1)

    def forward(
        self, coordinates: Float[Tensor, "s n d"], latent: Float[Tensor, "s l"]
    ) -> tuple[Float[Tensor, "s n c"], Float[Tensor, "s n k"]]:
        """Logits of intensity (before a sigmoid) and of class (before a softmax).

        Args:
            coordinates: model coordinates, in units of the region's half size; time in [0, 1).
            latent: one row per subject.
        """
        x = self.inputs(coordinates)
        streams = [backbone(x, latent) for backbone in self.backbones]
        return self.intensity_head(streams[0]), self.class_head(streams[-1])

    def intensity(
        self, coordinates: Float[Tensor, "s n d"], latent: Float[Tensor, "s l"]
    ) -> Float[Tensor, "s n c"]:
        """Intensity logits only, which is all that a fit needs."""
        return self.intensity_head(self.backbones[0](self.inputs(coordinates), latent))

    def penalised(self) -> list[nn.Parameter]:
        """The weights under the L2 penalty: those of the backbones, not of the heads."""
        return list(self.backbones.parameters())
