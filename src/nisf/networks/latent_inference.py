"""The latent field for inference, with fixed weights and latent, in chunks that fit the memory.

Constants are folded into the weights, and all layers write into the same few buffers, which fit into a
core's cache. The results are those of `LatentField` to within rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.chunks import LATENT_ROWS, rows_at_a_time
from nisf.device import Arriving, module_device
from nisf.networks.latent_field import STEEPEST, Backbone, LatentField


class FrozenLatentField:
    """Answers of a field for one subject; not differentiable.

    Args:
        field: the network.
        latent: latent of the subject.
        rows: maximum number of points per call.
    """

    def __init__(self, field: LatentField, latent: Float[Tensor, "l"], rows: int) -> None:
        config = field.config
        self.field, self.rows = field, rows
        with torch.no_grad():
            self.streams = [_Stream(b, latent) for b in field.backbones if isinstance(b, Backbone)]
        self.buffers = latent.new_empty((len(self.streams) + 2, rows, config.width))

    @torch.inference_mode()
    def __call__(
        self, coordinates: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n k"]]:
        """Logits of intensity and of class at field coordinates; see `LatentField.forward`."""
        field, n = self.field, len(coordinates)
        x = field.inputs(coordinates[None])[0]
        first, second, *results = (buffer[:n] for buffer in self.buffers)
        for stream, result in zip(self.streams, results, strict=True):
            stream(x, result, first, second)
        return field.intensity_head(results[0]), field.class_head(results[-1])


class _Stream:
    """One backbone with constants folded in: waves as plain cosines, envelopes as ``exp(-x²)``."""

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
        """From inputs (n, e) to ``result`` (n, width); ``first`` and ``second`` are scratch buffers."""
        result.copy_(self.start.expand_as(result))
        for name, maps in zip(self.activations, self.maps, strict=True):
            for (weight, bias), out in zip(maps, (first, second), strict=False):
                torch.addmm(bias, x, weight, out=out)
            if name == "gabor":
                result.addcmul_(first.cos_(), second.square_().clamp_(max=STEEPEST).neg_().exp_())
            else:
                result.add_(first.sin_() if name == "sine" else first.relu_())
            x = result


def rows_of(field: LatentField, memory_mb: float) -> int:
    """Number of points per chunk within ``memory_mb`` of working memory (MiB)."""
    config = field.config
    # Two scratch buffers, one buffer per backbone, and coordinates and both results twice.
    bytes_a_point = 4 * (
        (2 + len(field.backbones)) * config.width + 2 * (config.classes + config.channels + 8)
    )
    return rows_at_a_time(module_device(field), memory_mb, bytes_a_point, LATENT_ROWS)


@torch.no_grad()
def ask_samples(
    field: LatentField,
    latents: Float[Tensor, "m l"],
    coordinates: Float[np.ndarray, "n d"],
    *,
    memory_mb: float = 512.0,
) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Mean intensity in [0, 1], mean class probabilities, and their standard deviations over latents.

    Args:
        field: the network.
        latents: samples from one subject's posterior.
        coordinates: in units of the region's half size; fourth column is time.
        memory_mb: working memory besides the result, MiB.
    """
    config, n = field.config, len(coordinates)
    image = np.zeros((n, config.channels), dtype=np.float32)
    total, square = np.zeros((n, config.classes)), np.zeros((n, config.classes))
    for latent in latents:
        values, probability = ask(field, latent, coordinates, memory_mb=memory_mb)
        image += values / len(latents)
        total += probability
        square += probability.astype(np.float64) ** 2
    mean = total / len(latents)
    spread = np.sqrt(np.maximum(square / len(latents) - mean**2, 0.0))
    return image, mean.astype(np.float32), spread.astype(np.float32)


@torch.no_grad()
def ask(
    field: LatentField,
    latent: Float[Tensor, "l"],
    coordinates: Float[np.ndarray, "n d"],
    *,
    memory_mb: float = 512.0,
) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
    """Intensity in [0, 1] and class probabilities at field coordinates, float32.

    Args:
        field: the network.
        latent: latent of the subject.
        coordinates: in units of the region's half size; fourth column is time.
        memory_mb: working memory besides the result, MiB.
    """
    config = field.config
    device = latent.device
    intensity = np.empty((len(coordinates), config.channels), dtype=np.float32)
    probability = np.empty((len(coordinates), config.classes), dtype=np.float32)
    step = rows_of(field, memory_mb)
    frozen = FrozenLatentField(field, latent, min(step, len(coordinates)))
    for first in range(0, len(coordinates), step):
        rows = slice(first, first + step)
        chunk = torch.from_numpy(np.ascontiguousarray(coordinates[rows], dtype=np.float32))
        of_intensity, of_class = frozen(chunk.to(device, non_blocking=True))
        arriving = Arriving(torch.sigmoid(of_intensity), torch.softmax(of_class, dim=-1))
        intensity[rows], probability[rows] = arriving()
    return intensity, probability
