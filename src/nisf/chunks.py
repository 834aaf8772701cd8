"""Chunk sizes: how many positions, rows, points, phases or frames are processed at a time.

Results do not depend on them beyond rounding. On a CPU, activations should fit into a core's cache; on a GPU
only the memory limit matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

LATENT_ROWS = 1_024
"""Points of a latent field whose layers' results stay in a processor's cache."""
IMAGE_ROWS = 2_048
"""The same for an image-conditioned field, whose hidden layers are narrower."""
TRAINING_POINTS = 2_048
"""Points of a training step, all subjects together: backward passes keep every layer's results."""
LINEARISED_POINTS = 4_096
"""Points of a second-order step, all subjects together."""
GPU_ROWS = 1 << 17
"""Rows at a time on a GPU."""
GPU_TRAINING_POINTS = 1 << 15
"""Training points on a GPU: enough to keep it busy, few enough that padding to a multiple costs little."""
FEWEST_ROWS = 256
MOST_POSITIONS = 1 << 18
POSITION_BYTES = 256
"""float64 positions, scaled, inside and with time, and float32 answers take 200 bytes each; some to spare."""


@dataclass(frozen=True)
class Batching:
    """How much of one case is computed together on a kind of device.

    Attributes:
        encoding_bytes: working memory for phases that are encoded in one batch with all their mirror images;
            0 encodes each phase and mirror image by itself.
        whole_frames: whether the slices of a frame are queried together.
        frames: maximum number of frames in progress at the same time, each by a thread of its own; None for
            the number of PyTorch's threads.
    """

    encoding_bytes: int = 0
    whole_frames: bool = False
    frames: int | None = None


ON_CPU = Batching()
"""What is small stays in a core's cache, and every core has a frame of its own."""
ON_GPU = Batching(encoding_bytes=4 * 2**30, whole_frames=True, frames=1)
"""A GPU computes faster than the host can launch small operations. Threads do not help: between two questions
the host does many short operations, for which they wait for each other (docs/experiments.md)."""
BATCHINGS = {"cpu": ON_CPU}
"""By type of device; `ON_GPU` for all others."""


def batching(device: torch.device) -> Batching:
    """How much is computed together on a device; on a small GPU at most an eighth of its memory."""
    found = BATCHINGS.get(device.type, ON_GPU)
    if device.type != "cuda":
        return found
    whole = torch.cuda.get_device_properties(device).total_memory
    return replace(found, encoding_bytes=min(found.encoding_bytes, whole // 8))


def positions_at_a_time(memory_mb: float) -> int:
    """Number of world positions to transform at a time, using at most half of ``memory_mb`` MiB."""
    return int(np.clip(memory_mb * 2**20 / 2 / POSITION_BYTES, FEWEST_ROWS, MOST_POSITIONS))


def rows_at_a_time(device: torch.device, memory_mb: float, bytes_a_row: int, cached: int) -> int:
    """Number of rows to evaluate with a network at a time.

    Args:
        device: that runs the network.
        memory_mb: working memory, MiB.
        bytes_a_row: working memory per row.
        cached: upper limit on a CPU: rows whose activations fit into its cache.
    """
    most = cached if device.type == "cpu" else GPU_ROWS
    return int(min(max(memory_mb * 2**20 / bytes_a_row, FEWEST_ROWS), most))


def training_points(subjects: int, device: torch.device) -> int:
    """Number of points per subject that a training step processes at a time."""
    most = TRAINING_POINTS if device.type == "cpu" else GPU_TRAINING_POINTS
    return max(1, most // subjects)


def linearised_points(subjects: int) -> int:
    """Number of points per subject to linearise at a time."""
    return max(1, LINEARISED_POINTS // subjects)
