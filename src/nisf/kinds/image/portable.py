"""An image-conditioned field and one subject's encoded slices, for a decoder that is not PyTorch.

The decoder does what `nisf.networks.image_inference` does; nisf's page has one (see docs/reference.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from nisf.data.region import Region
from nisf.kinds.image.scenes import Scenes
from nisf.networks.image_field import ImageField
from nisf.subject.portable import Portable
from nisf.types import Vector3

ROOM = 2
"""Pixels around what a box projects to."""


def portable_field(
    field: ImageField, scenes: Scenes, phases: Sequence[int], box: Region, shift: Vector3
) -> Portable:
    """See `nisf.subject.subject.Subject.portable`; ``shift`` is the box's middle in the region's model mm.

    Settings have

    - ``times``, ``latents``, ``maps`` (phases, slices, 3, 4: mm from the box's middle to canvas pixel and
      signed distance);
    - ``posed``: a number for each phase, the same for those whose maps are the same;
    - ``crops``: first row and column of each slice's features on its canvas, by phase;
    - ``pose``: world to model mm; ``pixels``, ``neighbours``, ``distance_mm``, ``channels``, ``both``.
    """
    settings: dict[str, object] = {
        "times": [float(scenes.times[phase]) for phase in phases],
        "pose": box.pose.matrix.tolist(),
        "pixels": field.image.pixels,
        "neighbours": field.image.neighbours,
        "distance_mm": field.image.distance_mm,
        "channels": field.config.channels,
        "both": scenes.both,
    }
    maps, latents, crops, features = [], [], [], []
    posed: list[int] = []
    for phase in phases:
        scene = scenes.at(phase)
        posed.append(id(scene.maps))
        own = scene.maps.cpu().numpy().astype(np.float64)
        own[:, :, 3] += own[:, :, :3] @ shift
        corners = [_crop(map_, box, field.image.pixels) for map_ in own]
        table = scene.features.cpu().numpy()
        maps.append(own.round(7).tolist())
        latents.append(scene.latent.cpu().numpy().round(7).tolist())
        crops.append([[int(first[0]), int(first[1])] for first, _ in corners])
        features.append(
            tuple(table[k, first[0] : last[0], first[1] : last[1]] for k, (first, last) in enumerate(corners))
        )
    settings["posed"] = [posed.index(one) for one in posed]
    settings |= {"maps": maps, "latents": latents, "crops": crops}
    return Portable(settings, _weights(field), tuple(features))


def _crop(
    map_: Float[np.ndarray, "3 4"], box: Region, pixels: int
) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
    """First and last pixel (exclusive) of what a slice shows of a box; at least 2 x 2."""
    corners = np.array(list(product((-1.0, 1.0), repeat=3))) * box.half
    seen = (corners @ map_[:, :3].T + map_[:, 3])[:, :2]
    first = np.floor(seen.min(0)).astype(int) - ROOM
    last = np.ceil(seen.max(0)).astype(int) + 1 + ROOM
    first = first.clip(0, pixels - 2)
    return first, np.maximum(last.clip(0, pixels), first + 2)


def _weights(field: ImageField) -> dict[str, np.ndarray]:
    """Matrices (inputs, outputs) and biases of the decoder's maps."""
    named: dict[str, nn.Module] = {"head": field.head, "direct": field.direct}
    for name, layers in (("each", field.each), ("join", field.join)):
        found = [layer for layer in layers if isinstance(layer, nn.Linear)]
        named |= {f"{name}{number}": layer for number, layer in enumerate(found)}
    out = {}
    for name, layer in named.items():
        assert isinstance(layer, nn.Linear)
        out[f"{name}.weight"] = layer.weight.detach().cpu().numpy().T.astype(np.float32).copy()
        if layer.bias is not None:
            out[f"{name}.bias"] = layer.bias.detach().cpu().numpy().astype(np.float32).copy()
    return out
