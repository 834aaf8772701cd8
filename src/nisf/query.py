"""Ask a field at many points, in chunks that fit the memory given."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.field import Field

CHUNK = 16_384
"""Points at a time that keep the layers' results in the processor's cache."""


def chunk_size(field: Field, memory_mb: float) -> int:
    """Points at a time within ``memory_mb`` of working memory (MiB)."""
    # A layer holds its input, the doubled linear map, and three results of the same kind at once.
    bytes_a_point = 4 * (6 * 2 * field.config.width + 2 * field.config.classes + 8)
    return int(np.clip(memory_mb * 2**20 / bytes_a_point, 256, CHUNK))


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
    for first in range(0, len(coordinates), step):
        chunk = np.ascontiguousarray(coordinates[first : first + step], dtype=np.float32)
        of_intensity, of_class = field(torch.from_numpy(chunk)[None].to(device), latent[None])
        intensity[first : first + step] = torch.sigmoid(of_intensity[0]).cpu().numpy()
        probability[first : first + step] = torch.softmax(of_class[0], dim=-1).cpu().numpy()
    return intensity, probability
