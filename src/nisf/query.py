"""Ask a field at many points, in chunks that fit the memory given."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.field import Field
from nisf.frozen import Frozen

CHUNK = 1_024
"""Points at a time that keep the layers' results in the processor's cache."""


def chunk_size(field: Field, memory_mb: float) -> int:
    """Points at a time within ``memory_mb`` of working memory (MiB)."""
    config = field.config
    # Two scratch buffers and one a backbone, coordinates and both answers twice.
    bytes_a_point = 4 * (
        (2 + len(field.backbones)) * config.width + 2 * (config.classes + config.channels + 8)
    )
    return int(np.clip(memory_mb * 2**20 / bytes_a_point, 256, CHUNK))


def places_at_a_time(memory_mb: float) -> int:
    """World positions that are turned into field coordinates at a time, within half the budget."""
    # float64 positions, scaled, inside and with time, float32 answers: 200 bytes each, and some to spare.
    return int(np.clip(memory_mb * 2**20 / 2 / 256, 256, 1 << 18))


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
