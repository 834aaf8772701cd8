"""Mirror images of slices on their canvases."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def flips_of(mirrors: int) -> list[list[int]]:
    """The pixel axes along which each of the 1, 2 or 4 images is flipped."""
    flips: list[list[int]] = [[]]
    for axis in range(mirrors):
        flips += [[*axes, axis] for axes in flips]
    return flips


def flipped(maps: Float[Tensor, "n 3 4"], axes: list[int], size: int) -> Float[Tensor, "n 3 4"]:
    """Maps to canvases of ``size`` pixels that are flipped along some pixel axes."""
    maps = maps.clone()
    maps[:, axes] *= -1
    maps[:, axes, 3] += size - 1
    return maps
