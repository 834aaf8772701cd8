"""Ask a field at many points, in chunks that fit the memory given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.data.geometry import Grid
from nisf.device import place_of, rows_at_a_time
from nisf.networks.latent_field import Field
from nisf.networks.latent_inference import Frozen

CHUNK = 1_024
"""Points at a time that keep the layers' results in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """Answers on a grid.

    Attributes:
        grid: where and when.
        image: intensities on the input's scale (x, y, z, t, c), float32; 0 outside the region.
        label: class index (x, y, z, t), uint8; background outside the region.
        probability: per class (x, y, z, t, k), float32, or None if not asked for.
        deviation: standard deviation of each probability over the posterior, likewise.
    """

    grid: Grid
    image: Float[np.ndarray, "x y z t c"]
    label: np.ndarray
    probability: Float[np.ndarray, "x y z t k"] | None = None
    deviation: Float[np.ndarray, "x y z t k"] | None = None


def chunk_size(field: Field, memory_mb: float) -> int:
    """Points at a time within ``memory_mb`` of working memory (MiB)."""
    config = field.config
    # Two scratch buffers and one a backbone, coordinates and both answers twice.
    bytes_a_point = 4 * (
        (2 + len(field.backbones)) * config.width + 2 * (config.classes + config.channels + 8)
    )
    return rows_at_a_time(place_of(field), memory_mb, bytes_a_point, CHUNK)


def places_at_a_time(memory_mb: float) -> int:
    """World positions that are turned into field coordinates at a time, within half the budget."""
    # float64 positions, scaled, inside and with time, float32 answers: 200 bytes each, and some to spare.
    return int(np.clip(memory_mb * 2**20 / 2 / 256, 256, 1 << 18))


def draw_latents(
    mean: Float[Tensor, "l"], covariance: Float[Tensor, "l l"], count: int, seed: int
) -> Float[Tensor, "m l"]:
    """Draws of a latent from its Gaussian posterior; the seed alone says which."""
    values, vectors = torch.linalg.eigh(covariance.double())
    root = vectors * values.clamp_min(0.0).sqrt()
    noise = torch.from_numpy(np.random.default_rng([seed, 21]).standard_normal((count, len(values))))
    return (mean.double() + noise.to(root.device) @ root.T).to(mean.dtype)


@torch.no_grad()
def ask_samples(
    field: Field,
    latents: Float[Tensor, "m l"],
    coordinates: Float[np.ndarray, "n d"],
    *,
    memory_mb: float = 512.0,
) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Mean intensity in [0, 1], mean class probabilities, and their standard deviations over latents.

    Args:
        field: the network.
        latents: samples of one subject's posterior.
        coordinates: in units of the region's half size; fourth column is time.
        memory_mb: working memory beside the result, MiB.
    """
    config, n = field.config, len(coordinates)
    image = np.zeros((n, config.channels), dtype=np.float32)
    total, square = np.zeros((n, config.classes)), np.zeros((n, config.classes))
    for latent in latents:
        values, shares = ask(field, latent, coordinates, memory_mb=memory_mb)
        image += values / len(latents)
        total += shares
        square += shares.astype(np.float64) ** 2
    mean = total / len(latents)
    spread = np.sqrt(np.maximum(square / len(latents) - mean**2, 0.0))
    return image, mean.astype(np.float32), spread.astype(np.float32)


@torch.no_grad()
def ask(
    field: Field,
    latent: Float[Tensor, "l"],
    coordinates: Float[np.ndarray, "n d"],
    *,
    memory_mb: float = 512.0,
) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
    """Intensity in [0, 1] and class probabilities at field coordinates, float32.

    Args:
        field: the network.
        latent: the subject.
        coordinates: in units of the region's half size; fourth column is time.
        memory_mb: working memory beside the result, MiB.
    """
    config = field.config
    device = latent.device
    intensity = np.empty((len(coordinates), config.channels), dtype=np.float32)
    probability = np.empty((len(coordinates), config.classes), dtype=np.float32)
    step = chunk_size(field, memory_mb)
    frozen = Frozen(field, latent, min(step, len(coordinates)))
    for first in range(0, len(coordinates), step):
        chunk = np.ascontiguousarray(coordinates[first : first + step], dtype=np.float32)
        of_intensity, of_class = frozen(torch.from_numpy(chunk).to(device))
        intensity[first : first + step] = torch.sigmoid(of_intensity).cpu().numpy()
        probability[first : first + step] = torch.softmax(of_class, dim=-1).cpu().numpy()
    return intensity, probability
