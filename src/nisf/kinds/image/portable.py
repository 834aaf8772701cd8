"""An image-conditioned field and one subject's encoded slices, for a decoder outside PyTorch.

The decoder does what `nisf.networks.image_inference` does; the viewer's page has one (see docs/reference.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from nisf.networks.lookup import Nearby, corners_of, interpolate_mixed, nearby
from nisf.subject.portable import Portable, Tables, Touched
from nisf.types import Vector3

ROOM = 2
"""Margin around the projection of the box, pixels."""
BLOCK = 2
"""Pixels along each side of what the encoder's last step makes at once."""
AT_A_TIME = 4_000
"""Places at which derivatives are taken at a time."""
CANDIDATES = 4
"""Places that are answered for each that is chosen."""
CERTAIN = 0.2
"""Places are chosen by the chance that two draws of their class differ; this is added."""
SPREAD = np.array([0.8191725133961645, 0.6710436067037893, 0.5497004779019703])
"""Steps whose multiples, modulo one, fill a cube evenly (Roberts's sequence in three dimensions)."""


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
    alike = [
        (t, (t + 1) % len(phases)) for t in range(len(phases)) if posed[t] == posed[(t + 1) % len(phases)]
    ]
    times = [(t,) for t in range(len(phases))] + [pair for pair in alike if pair[0] != pair[1]]
    cut = tuple(features)
    places = Places(
        field, scenes, phases, crops, [[x.shape[:2] for x in tables] for tables in cut], box, shift
    )
    return Portable(settings, _weights(field), cut, BLOCK, tuple(times), places.effects, places.errors)


@dataclass(frozen=True, eq=False)
class Places:
    """Points in the box at which answers are compared.

    Attributes:
        field: the network.
        scenes: scenes of the subject.
        phases: their indices.
        crops: first row and column of each slice's features, by phase.
        sizes: rows and columns of them.
        box: where.
        shift: its middle in the region's model mm.
    """

    field: ImageField
    scenes: Scenes
    phases: Sequence[int]
    crops: Sequence[Sequence[Sequence[int]]]
    sizes: Sequence[Sequence[tuple[int, int]]]
    box: Region
    shift: Vector3

    def points(self, count: int, seed: int) -> Float[Tensor, "n 3"]:
        """``count`` evenly spread places: a low-discrepancy sequence whose start depends on the seed."""
        first = np.random.default_rng(seed).uniform(size=3)
        scaled = 2 * ((first + np.arange(count)[:, None] * SPREAD) % 1.0) - 1
        return torch.from_numpy((scaled * self.box.half + self.shift).astype(np.float32)).to(
            self.scenes.device
        )

    def _undecided(self, scenes: Sequence[tuple[Scene, float]], count: int, seed: int) -> Nearby:
        """``count`` random places with their nearest slices, denser where classes are undecided."""
        near = self._near(scenes[0][0], self.points(CANDIDATES * count, seed))
        with torch.inference_mode():
            answers = self._answers(scenes, near)
        probability = answers[:, self.field.config.channels :].cpu().double().numpy()
        chance = 1 - (probability**2).sum(1) + CERTAIN
        chosen = np.random.default_rng(seed).choice(
            len(chance), count, replace=False, p=chance / chance.sum()
        )
        own = torch.from_numpy(np.sort(chosen)).to(answers.device)
        return near[own]

    def _scenes(self, time: tuple[int, ...]) -> list[tuple[Scene, float]]:
        """The phases that are decoded together, and how much each counts."""
        return [(self.scenes.at(self.phases[t]), 1 / len(time)) for t in time]

    def _touched(self, near: Nearby, t: int) -> Touched:
        """Pixels of the cut features; those beyond count for the edge, as in the browser."""
        size = self.field.image.pixels
        corners, weight = corners_of((size, size), near.index, near.u, near.v)
        shape = (*near.index.shape, 4)
        pixel, share = corners.reshape(shape).cpu().numpy(), weight.reshape(shape).cpu().numpy()
        own = near.index.cpu().numpy()[..., None]
        first, sizes = np.array(self.crops[t])[own], np.array(self.sizes[t])
        before = np.concatenate([[0], np.cumsum(sizes.prod(1))])[own]
        row = (pixel // size % size - first[..., 0]).clip(0, sizes[own][..., 0] - 1)
        column = (pixel % size - first[..., 1]).clip(0, sizes[own][..., 1] - 1)
        return Touched(before + row * sizes[own][..., 1] + column, share)

    def effects(
        self, time: tuple[int, ...], count: int, seed: int
    ) -> tuple[Float[np.ndarray, "p m k f"], Touched]:
        """See `nisf.subject.portable.Portable`."""
        scenes, found = self._scenes(time), []
        near = self._undecided(scenes, count, seed)
        # Between pixels errors of several are averaged, so that answers at pixels move most.
        near = replace(near, u=near.u.round(), v=near.v.round())
        latent = torch.stack([scene.latent * share for scene, share in scenes]).sum(0)
        for part in (near[first : first + AT_A_TIME] for first in range(0, count, AT_A_TIME)):
            tables = [(scene.features, share) for scene, share in scenes]
            with torch.inference_mode(False), torch.enable_grad():
                own = interpolate_mixed(tables, part.index, part.u, part.v).clone().requires_grad_(True)
                values, classes = self.field.decode(own, part, latent.clone(), both=self.scenes.both)
                answers = torch.cat([torch.sigmoid(values), torch.softmax(classes, dim=1)], dim=1)
                found.append(
                    torch.stack(
                        [torch.autograd.grad(x, own, retain_graph=True)[0] for x in answers.sum(0)], 1
                    )
                )
        return torch.cat(found).cpu().numpy(), self._touched(near, time[0])

    def errors(
        self, time: tuple[int, ...], count: int, seed: int, features: Sequence[Tables]
    ) -> tuple[Float[np.ndarray, "p"], Touched]:
        """See `nisf.subject.portable.Portable`."""
        scenes = self._scenes(time)
        near = self._near(scenes[0][0], self.points(count, seed))
        with torch.inference_mode():
            changed = []
            for t, tables, (scene, share) in zip(time, features, scenes, strict=True):
                own = scene.features.clone()
                for k, table in enumerate(tables):
                    (i, j), (h, w, _) = self.crops[t][k], table.shape
                    own[k, i : i + h, j : j + w] = torch.from_numpy(table).to(own)
                changed.append((replace(scene, features=own), share))
            away = (self._answers(changed, near) - self._answers(scenes, near)).abs().amax(1)
        return away.cpu().numpy(), self._touched(near, time[0])

    def _near(self, scene: Scene, points: Float[Tensor, "n 3"]) -> Nearby:
        return nearby(scene.maps, points, self.field.image.pixels, self.field.image.neighbours)

    def _answers(self, scenes: Sequence[tuple[Scene, float]], near: Nearby) -> Float[Tensor, "n m"]:
        frozen, parts = FrozenImageField(self.field, IMAGE_ROWS), []
        for first in range(0, len(near.u), IMAGE_ROWS):
            values, classes = frozen(scenes, near[first : first + IMAGE_ROWS], both=self.scenes.both)
            parts.append(torch.cat([torch.sigmoid(values), torch.softmax(classes, dim=1)], dim=1))
        return torch.cat(parts)


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
