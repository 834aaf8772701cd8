"""Encoding on a GPU: as many phases as memory allows in one batch, with all their mirror images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.device import module_device
from nisf.kinds.image.mirrors import flipped
from nisf.kinds.image.phases import EncodedPhase, encoding_bytes
from nisf.kinds.image.recent import Recent
from nisf.networks.canvas import Canvases
from nisf.networks.encoder_inference import FrozenEncoder
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.phase_exchange import most_different
from nisf.stopwatch import stage

FEWEST = 3
"""Minimum number of cached batches: an average over time may need the first, the last and one between."""


class _Posed:
    """The phases whose slices have the same poses, in batches.

    Args:
        canvases: canvases of the subject.
        slices: indices of the slices of each phase, by the phase's index.
        flips: pixel axes along which each mirror image is flipped.
        device: that encodes.
    """

    def __init__(
        self,
        canvases: Canvases,
        slices: dict[int, np.ndarray],
        flips: Sequence[list[int]],
        device: torch.device,
    ) -> None:
        self.canvases, self.slices, self.device = canvases, slices, device
        maps, size = canvases.maps[torch.from_numpy(next(iter(slices.values())))], canvases.images.shape[-1]
        # Flipped on the host, where indexing does not wait for the device.
        sets = torch.stack([flipped(maps, axes, size) for axes in flips])
        self.sets, self.maps = sets.to(device, non_blocking=True), maps.to(device, non_blocking=True)

    def images(self, phases: Sequence[int]) -> Float[Tensor, "pn c h w"]:
        """The slices of some phases in turn, on the host."""
        return self.canvases.images[torch.from_numpy(np.concatenate([self.slices[p] for p in phases]))]

    @cached_property
    def ordered(self) -> list[int]:
        """The phases, the two that differ most first."""
        phases = list(self.slices)
        images = self.images(phases).unflatten(0, (len(phases), -1))
        chosen = [phases[i] for i in most_different(images)]
        return chosen + [phase for phase in phases if phase not in chosen]


class InBatches:
    """`nisf.kinds.image.phases.Phases` that encodes many phases at once and never waits for the device.

    The first batch of the phases with the same poses holds their reference.

    Args:
        field: the trained field, in evaluation mode.
        canvases: canvases of all slices and times of the subject.
        flips: pixel axes along which each mirror image is flipped.
        most: number of phases worth caching; at least `FEWEST` batches are.
        nbytes: working memory.
    """

    def __init__(
        self, field: ImageField, canvases: Canvases, flips: Sequence[list[int]], most: int, nbytes: int
    ) -> None:
        self.flips, self.device = flips, module_device(field)
        self.encoder, self.exchange = FrozenEncoder(field.encoder), field.image.phase_exchange > 0
        poses: dict[bytes, dict[int, np.ndarray]] = {}
        times = np.unique(canvases.times)
        for phase, time in enumerate(times):
            slices = np.flatnonzero(canvases.times == time)
            key = canvases.maps[torch.from_numpy(slices)].numpy().tobytes()
            poses.setdefault(key, {})[phase] = slices
        self.posed = [_Posed(canvases, slices, flips, self.device) for slices in poses.values()]
        self.where = {phase: pose for pose, posed in enumerate(self.posed) for phase in posed.slices}
        slices_a_phase = -(-len(canvases.times) // len(times))
        fitting = nbytes // (slices_a_phase * len(flips) * encoding_bytes(field.image))
        self.size = max(2, fitting)  # the reference is two phases
        self._kept: Recent[tuple[int, int], dict[int, EncodedPhase]] = Recent(
            max(FEWEST, -(-most // self.size))
        )
        self._shown: dict[int, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, phase: int) -> EncodedPhase:
        """See `nisf.kinds.image.phases.Phases.get`."""
        pose = self.where[phase]
        batch = self._ordered(pose).index(phase) // self.size
        return self._kept.get((pose, batch), self._encode)[phase]

    def clear(self) -> None:
        """See `nisf.kinds.image.phases.Phases.clear`."""
        self._kept = Recent(self._kept.most)

    def _ordered(self, pose: int) -> list[int]:
        return self.posed[pose].ordered if self.exchange else list(self.posed[pose].slices)

    @torch.inference_mode()
    def _encode(self, key: tuple[int, int]) -> dict[int, EncodedPhase]:
        pose, batch = key
        if batch and self.exchange and pose not in self._shown:
            self._kept.get((pose, 0), self._encode)
        with stage("encoding"):
            posed = self.posed[pose]
            phases = self._ordered(pose)[batch * self.size :][: self.size]
            images = posed.images(phases).to(self.device, non_blocking=True).float()
            mirrored = torch.cat([images.flip([2 + axis for axis in axes]) for axes in self.flips])
            coarse, latents, shown = self.encoder.coarse(
                mirrored, posed.sets, self._shown.get(pose) if batch else None, reference=2
            )
            if not batch:
                self._shown[pose] = shown
            each = list(zip(coarse.chunk(len(self.flips)), self.flips, strict=True))
            features = self.encoder.features(each).unflatten(0, (len(phases), -1))
            latent = latents.unflatten(0, (len(self.flips), len(phases), -1)).mean(2).mean(0)
            return {
                phase: EncodedPhase(Scene(features[i], posed.maps, latent[i]))
                for i, phase in enumerate(phases)
            }
