"""A field at rest: weights and one subject's latent fixed, so that answering is all that is left to do.

Constants are folded into the weights and every layer writes into the same few buffers, small enough
to stay in a core's cache. The answers are those of `nisf.networks.latent_field.Field` to within rounding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.networks.latent_field import STEEPEST, Backbone, Field


class Frozen:
    """Answers of one subject; not differentiable.

    Args:
        field: the network.
        latent: the subject.
        rows: most points at a time.
    """

    def __init__(self, field: Field, latent: Float[Tensor, "l"], rows: int) -> None:
        config = field.config
        self.field, self.rows = field, rows
        with torch.no_grad():
            self.streams = [_Stream(b, latent) for b in field.backbones if isinstance(b, Backbone)]
        self.buffers = latent.new_empty((len(self.streams) + 2, rows, config.width))

    @torch.inference_mode()
    def __call__(
        self, coordinates: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n k"]]:
        """Logits of intensity and of class at field coordinates; see `Field.forward`."""
        field, n = self.field, len(coordinates)
        x = field.inputs(coordinates[None])[0]
        first, second, *results = (buffer[:n] for buffer in self.buffers)
        for stream, result in zip(self.streams, results, strict=True):
            stream(x, result, first, second)
        return field.intensity_head(results[0]), field.class_head(results[-1])


class _Stream:
    """One backbone with its constants folded in: waves as plain cosines, envelopes as ``exp(-x²)``."""

    def __init__(self, backbone: Backbone, latent: Tensor) -> None:
        config = backbone.config
        self.activations = backbone.activations
        self.start = backbone.start(latent)
        self.maps: list[list[tuple[Tensor, Tensor]]] = []
        for layer, (name, linear) in enumerate(zip(self.activations, backbone.layers, strict=True)):
            assert isinstance(linear, nn.Linear)
            weight, bias = linear.weight, linear.bias
            if layer == 0:
                bias = bias + weight[:, config.inputs :] @ latent
                weight = weight[:, : config.inputs]
            factors = {
                "gabor": (config.gabor_omega, config.gabor_sigma),
                "sine": (config.sine_omega,),
                "relu": (1.0,),
            }[name]
            self.maps.append(
                [
                    ((factor * w).T.contiguous(), factor * b)
                    for factor, w, b in zip(
                        factors, weight.chunk(len(factors)), bias.chunk(len(factors)), strict=True
                    )
                ]
            )

    def __call__(self, x: Tensor, result: Tensor, first: Tensor, second: Tensor) -> None:
        """From inputs (n, e) to ``result`` (n, width); ``first`` and ``second`` are scratch like it."""
        result.copy_(self.start.expand_as(result))
        for name, maps in zip(self.activations, self.maps, strict=True):
            for (weight, bias), out in zip(maps, (first, second), strict=False):
                torch.addmm(bias, x, weight, out=out)
            if name == "gabor":
                result.addcmul_(first.cos_(), second.square_().clamp_(max=STEEPEST).neg_().exp_())
            else:
                result.add_(first.sin_() if name == "sine" else first.relu_())
            x = result
