"""Sections: what is seen of a structure in one slice, and whether it is sure enough to be drawn.

Near its end a structure either reaches a slice or does not, and a network that learns by overlap draws a
whole section there on little evidence. How sure it is where it is surest tells such sections from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

SUREST = 0.9
"""Quantile of a section's probabilities that says how sure it is."""


def certainty(probability: Float[np.ndarray, "m"]) -> float:
    """How sure a section is, from its class's probability at its m places."""
    return float(np.quantile(probability, SUREST))


def doubtful(
    label: Integer[np.ndarray, "x y z"],
    certain: Sequence[float],
    ask: Callable[[Int[np.ndarray, "m"]], Float[np.ndarray, "m k"]],
    said: Bool[np.ndarray, "x y z k"] | None = None,
) -> Bool[np.ndarray, "x y z k"]:
    """Where structures have sections that are less sure than they should be; with room around each.

    Args:
        label: class of each voxel, as the field answers.
        certain: least certainty of a section of each structure, in the order of the classes, background
            excluded; 0 draws all.
        ask: class probabilities of voxels, by their flat indices.
        said: where somebody has said that a structure is; a section with such a voxel is not doubted.
    """
    out = np.zeros((*label.shape, len(certain) + 1), dtype=bool)
    for k, least in enumerate(certain, start=1):
        for z in range(label.shape[2]) if least > 0 else ():
            pixel = np.argwhere(label[:, :, z] == k)
            if not len(pixel) or (said is not None and said[*pixel.T, z, k].any()):
                continue
            flat = np.ravel_multi_index((*pixel.T, np.full(len(pixel), z)), label.shape)
            if certainty(ask(flat)[:, k]) >= least:
                continue
            first, last = pixel.min(0), pixel.max(0)
            # Between slices the section may be larger than in the slice.
            room = 2 + (last - first) // 2
            x, y = (slice(a, b) for a, b in zip((first - room).clip(0), last + room + 1, strict=True))
            out[x, y, z, k] = True
    return out
