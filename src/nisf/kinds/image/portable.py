"""An image-conditioned field and one subject's encoded slices, for a decoder outside PyTorch.

The decoder does what `nisf.networks.image_inference` does; the viewer's page has one (see docs/reference.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nisf.chunks import IMAGE_ROWS
from nisf.data.region import Region
from nisf.kinds.image.scenes import Scenes
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import nearby, sample
from nisf.subject.portable import Portable
from nisf.types import Vector3

ROOM = 2
"""Margin around the projection of the box, pixels."""
BLOCK = 2
"""Side of the blocks of pixels that the encoder's last step makes at once."""
PLACES, FEW = 30_000, 3_000
"""Number of points at which answers are compared, and at which derivatives are taken."""


def portable_field(
    field: ImageField, scenes: Scenes, phases: Sequence[int], box: Region, shift: Vector3
) -> Portable:
    """See `nisf.subject.subject.Subject.portable`; ``shift`` is the box's centre in the region's model mm.

    Settings have

    - ``times``, ``latents``, ``maps`` (phases, slices, 3, 4: mm from the box's centre to canvas pixel and
      signed distance);
    - ``posed``: a number for each phase, equal for phases with equal maps;
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
    places = Places(field, scenes, phases, crops, box, shift)
    cut = tuple(features)
    return Portable(settings, _weights(field), cut, BLOCK, places.metric(), places.error)


class Places:
    """Points in the box at which answers are compared.

    Args:
        field: the network.
        scenes: of the subject.
        phases: their indices.
        crops: first row and column of each slice's features, by phase.
        box: the box.
        shift: its centre in the region's model mm.
    """

    def __init__(
        self,
        field: ImageField,
        scenes: Scenes,
        phases: Sequence[int],
        crops: Sequence[Sequence[Sequence[int]]],
        box: Region,
        shift: Vector3,
    ) -> None:
        self.field, self.scenes, self.phases, self.crops = field, scenes, phases, crops
        scaled = np.random.default_rng(0).uniform(-1, 1, (PLACES, 3))
        self.points = torch.from_numpy((scaled * box.half + shift).astype(np.float32)).to(scenes.device)

    def _answers(self, scene: Scene) -> Float[Tensor, "n m"]:
        parts = []
        frozen = FrozenImageField(self.field, IMAGE_ROWS)
        for part in self.points.split(IMAGE_ROWS):
            near = nearby(scene.maps, part, self.field.image.pixels, self.field.image.neighbours)
            values, classes = frozen([(scene, 1.0)], near, both=self.scenes.both)
            parts.append(torch.cat([torch.sigmoid(values), torch.softmax(classes, dim=1)], dim=1))
        return torch.cat(parts)

    def error(self, number: int, features: Sequence[Float[np.ndarray, "_ _ f"]]) -> float:
        """See `nisf.subject.portable.Portable`."""
        scene = self.scenes.at(self.phases[number])
        with torch.inference_mode():
            changed = scene.features.clone()
            for k, table in enumerate(features):
                (i, j), (h, w, _) = self.crops[number][k], table.shape
                changed[k, i : i + h, j : j + w] = torch.from_numpy(table).to(changed)
            away = self._answers(replace(scene, features=changed)) - self._answers(scene)
            return float(away.abs().max())

    def metric(self) -> Float[np.ndarray, "f f"]:
        """See `nisf.subject.portable.Portable`; at the first phase."""
        scene, points = self.scenes.at(self.phases[0]), self.points[:FEW]
        near = nearby(scene.maps, points, self.field.image.pixels, self.field.image.neighbours)
        seen = sample(scene.features, near.index, near.u, near.v)
        out = np.zeros((seen.shape[-1],) * 2)
        with torch.inference_mode(False), torch.enable_grad():
            own, latent = seen.clone().requires_grad_(True), scene.latent.clone()
            values, classes = self.field.decode(own, near, latent, both=self.scenes.both)
            answers = torch.cat([torch.sigmoid(values), torch.softmax(classes, dim=1)], dim=1)
            for answer in answers.sum(0):
                (change,) = torch.autograd.grad(answer, own, retain_graph=True)
                flat = change.flatten(0, 1).cpu().double().numpy()
                out += flat.T @ flat / len(points)
        return out


def _crop(
    map_: Float[np.ndarray, "3 4"], box: Region, pixels: int
) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
    """First and last pixel (exclusive) of the part of a slice that a box needs; at least 2 x 2."""
    corners = np.array(list(product((-1.0, 1.0), repeat=3))) * box.half
    seen = (corners @ map_[:, :3].T + map_[:, 3])[:, :2]
    first = np.floor(seen.min(0)).astype(int) - ROOM
    last = np.ceil(seen.max(0)).astype(int) + 1 + ROOM
    # Whole blocks: the encoder's last step makes four pixels at once.
    first = first.clip(0, pixels - BLOCK) // BLOCK * BLOCK
    last = -(-last.clip(0, pixels) // BLOCK) * BLOCK
    return first, np.maximum(last, first + BLOCK)


def _weights(field: ImageField) -> dict[str, np.ndarray]:
    """Matrices (inputs, outputs) and biases of the decoder's linear maps."""
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
