"""The encoded slices of one subject by phase: made when they are first needed, the latest ones kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.config.schema import ImageConfig
from nisf.data.scratch import let_go, room
from nisf.device import module_device
from nisf.kinds.image.mirrors import flipped
from nisf.kinds.image.recent import Recent
from nisf.networks.canvas import Canvases
from nisf.networks.encoder_inference import FrozenEncoder
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.phase_exchange import most_different
from nisf.stopwatch import stage


def encoding_bytes(image: ImageConfig) -> int:
    """Memory for encoding a slice, with its features."""
    # Measured: besides those of the outermost level, a few copies of the features exist. A rough estimate.
    return 4 * image.pixels**2 * (6 * image.features + image.width)


@dataclass(frozen=True, eq=False)
class EncodedPhase:
    """An encoded phase, and the array with its features if that may be in a file.

    A tensor does not know the array that it was made from, and only the array can release its pages.
    """

    scene: Scene
    array: np.ndarray | None = None

    def let_go(self) -> None:
        """Release the memory pages of the features if they are in a file."""
        if self.array is not None:
            let_go(self.array)


class Phases(Protocol):
    """Encodes the phases of a subject; phases with equal poses share one tensor of maps."""

    def __len__(self) -> int:
        """Number of cached phases or batches of them."""
        ...

    def get(self, phase: int) -> EncodedPhase:
        """A phase, by its index among the subject's times."""
        ...

    def clear(self) -> None:
        """Drop all that is cached; phases can still be encoded again."""
        ...


@dataclass(frozen=True, eq=False)
class _Reference:
    """The reference phases of some slices in one mirror image.

    Attributes:
        shown: the features passed to every phase, level by level.
        coarse: coarse features of each reference phase, by its index among the times; deleted once all
            mirror images are done.
        latents: latents of each reference phase (l,), likewise.
    """

    shown: list[Tensor]
    coarse: dict[int, Tensor]
    latents: dict[int, Tensor]


class OneByOne:
    """`Phases` that encodes one phase and mirror image at a time, so that layers fit into a core's cache.

    Args:
        field: the trained field, in evaluation mode.
        canvases: canvases of all slices and times of the subject.
        flips: pixel axes along which each mirror image is flipped.
        most: maximum number of cached phases.
    """

    def __init__(
        self, field: ImageField, canvases: Canvases, flips: Sequence[list[int]], most: int | None
    ) -> None:
        self.field, self.canvases, self.flips = field, canvases, flips
        self.times = np.unique(canvases.times)
        self.device, self.encoder = module_device(field), FrozenEncoder(field.encoder)
        self._kept: Recent[int, EncodedPhase] = Recent(most)
        self._references: Recent[tuple[bytes, int], _Reference] = Recent()
        self._own: Recent[bytes, Mapping[int, tuple[Tensor, Tensor]]] = Recent()
        self._maps: list[Tensor] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, phase: int) -> EncodedPhase:
        """See `Phases.get`."""
        return self._kept.get(phase, self._encode)

    def clear(self) -> None:
        """See `Phases.clear`."""
        self._kept = Recent(self._kept.most)

    @torch.inference_mode()
    def _encode(self, phase: int) -> EncodedPhase:
        """Encode the slices of one phase; mirror images are flipped back."""
        with stage("encoding"):
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[phase]))
            images = self.canvases.images[index].to(self.device).float()
            maps = self._same_maps(self.canvases.maps[index].to(self.device))
            references, own = self._seen_together(maps)
            if phase in own:
                return self._aside(Scene(own[phase][0], maps, own[phase][1]))
            coarse, latents = [], []
            for flips, reference in zip(self.flips, references, strict=True):
                mirrored = images.flip([2 + axis for axis in flips])
                shown = None if reference is None else reference.shown
                found, latent, _ = self.encoder.coarse(mirrored, flipped(maps, flips, images.shape[2]), shown)
                coarse.append(found)
                latents.append(latent.mean(0))
            return self._aside(Scene(self._joined(coarse), maps, torch.stack(latents).mean(0)))

    def _joined(self, coarse: Sequence[Tensor]) -> Float[Tensor, "n h w f"]:
        """Features averaged over the mirror images, flipped back."""
        return self.encoder.features(list(zip(coarse, self.flips, strict=True)))

    def _aside(self, scene: Scene) -> EncodedPhase:
        """A phase for the cache; its features are in a file if those of all cached phases are large."""
        features = scene.features
        size = features.numel() * features.element_size()
        if self.device.type != "cpu" or features.dtype != torch.float32:
            return EncodedPhase(scene)
        array = room(tuple(features.shape[::-1]), np.float32, part_of=size * (self._kept.most or 1))
        copy = torch.from_numpy(array.T).copy_(features)
        kept = EncodedPhase(Scene(copy, scene.maps, scene.latent), array)
        kept.let_go()
        return kept

    def _same_maps(self, maps: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 3 4"]:
        """The tensor of another phase with equal maps, if there is one."""
        with self._lock:
            for known in self._maps:
                if torch.equal(known, maps):
                    return known
            self._maps.append(maps)
            return maps

    def _seen_together(
        self, maps: Float[Tensor, "n 3 4"]
    ) -> tuple[Sequence[_Reference | None], Mapping[int, tuple[Tensor, Tensor]]]:
        """For each mirror image, the reference of the slices with these maps; their features and latents."""
        if not self.field.image.phase_exchange:
            return [None] * len(self.flips), {}
        key = maps.cpu().numpy().tobytes()
        keys = [(key, mirror) for mirror in range(len(self.flips))]
        found = self._references.get_all(keys, lambda key: self._reference(maps, self.flips[key[1]]))

        def own(_: bytes) -> Mapping[int, tuple[Tensor, Tensor]]:
            means = {}
            for phase in list(found[0].coarse):
                features = self._joined([reference.coarse.pop(phase) for reference in found])
                means[phase] = features, torch.stack([one.latents[phase] for one in found]).mean(0)
            return means

        return found, self._own.get(key, own)

    def _reference(self, maps: Float[Tensor, "n 3 4"], flips: list[int]) -> _Reference:
        """The reference of these slices in one mirror image: the two phases that differ most."""
        pose, phases, found = maps.cpu(), [], []
        for phase, time in enumerate(self.times):
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == time))
            if torch.equal(self.canvases.maps[index], pose):
                phases.append(phase)
                found.append(self.canvases.images[index])
        images = torch.stack(found)
        chosen = list(most_different(images))
        flat = images[chosen].flatten(0, 1).to(self.device).float().flip([2 + axis for axis in flips])
        coarse, latents, shown = self.encoder.coarse(flat, flipped(maps, flips, flat.shape[-1]))
        own, each = [phases[i] for i in chosen], coarse.split(len(maps))
        means = [part.mean(0) for part in latents.split(len(maps))]
        return _Reference(shown, dict(zip(own, each, strict=True)), dict(zip(own, means, strict=True)))
