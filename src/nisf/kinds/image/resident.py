"""Make training samples on the GPU: all stacks stay there, and the samples of a step form one batch.

All batches have the same sizes: each scene has as many slots as the longest window, and empty slots have no
weight. A whole step, from random numbers to new weights, can therefore be captured as a CUDA graph. The
samples follow the distribution of `nisf.kinds.image.samples.Sampler`; only points and noise are drawn
differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import AugmentConfig, Config, ImageConfig, TrainConfig
from nisf.data.case import UNKNOWN
from nisf.device import autocast
from nisf.kinds.image.augment import PhaseStack, Stacked, canvas_maps, draw_window, show
from nisf.kinds.image.lighting import degraded
from nisf.kinds.image.objective import class_terms
from nisf.kinds.image.samples import choose
from nisf.kinds.image.views import View, padded
from nisf.networks.canvas import canvas_mm
from nisf.networks.image_field import ImageField
from nisf.networks.lookup import AWAY

KEPT_MM = 140.0
"""Distance up to which slices are kept around the region's centre, along both axes. Views reach farther only
in corners."""
BANK = 1 << 22
"""Size of the bank of random numbers on the GPU; noise and points of each scene start somewhere in it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The batch of a training step: s subjects with p phases each, b = s p scenes of n slots.

    Attributes:
        images: canvases (b n, c, h, w).
        maps: their poses (b, n, 3, 4).
        given: 1 for slots with a slice that the field sees, else 0 (b, n).
        mix: weight of each phase of a subject in what is passed to each phase (s, p, p).
        points: mm (b, q, 3), on given and hidden slices.
        intensity: at the points, without noise (b q, c).
        label: at the points (b q); `UNKNOWN` for empty slots.
        weight: 0 for empty slots, else 1 (b q).
    """

    images: Float[Tensor, "bn c h w"]
    maps: Float[Tensor, "b n 3 4"]
    given: Float[Tensor, "b n"]
    mix: Float[Tensor, "s p p"]
    points: Float[Tensor, "b q 3"]
    intensity: Float[Tensor, "bq c"]
    label: Int[Tensor, "bq"]
    weight: Float[Tensor, "bq"]


class Resident:
    """A pool of stacks on a device, which makes the batch of each step.

    Args:
        pool: for each subject, its labelled stacks phase by phase.
        config: all settings.
        augment: strength of the augmentation.
        device: where the pool and the batches are.
    """

    def __init__(
        self,
        pool: Sequence[Sequence[PhaseStack]],
        config: Config,
        augment: AugmentConfig,
        device: torch.device,
    ) -> None:
        self.pool, self.config, self.augment, self.device = pool, config, augment, device
        stacks = [_cropped(stack) for subject in pool for stack in subject]
        self.slots = min(augment.window, max(map(len, stacks)))
        self.phases = 2 if config.image.phase_exchange else 1
        self.subjects = config.train.subjects
        width, height = (max(s.labels.shape[axis] for s in stacks) for axis in (1, 2))
        total, channels = sum(map(len, stacks)), stacks[0].images.shape[1]
        self.images = torch.zeros(total, channels, width, height, dtype=torch.float16, device=device)
        self.labels = torch.full((total, width, height), UNKNOWN, dtype=torch.int8, device=device)
        self.first, start = [], 0
        for stack in stacks:
            end, (x, y) = start + len(stack), stack.labels.shape[1:]
            self.images[start:end, :, :x, :y] = stack.images.to(device)
            self.labels[start:end, :x, :y] = stack.labels.to(device)
            self.first.append(start)
            start = end
        self.spacing = torch.cat([s.spacing.expand(len(s), 2) for s in stacks]).to(device)
        self.middle = torch.cat([s.middle for s in stacks]).to(device)
        self.z = torch.cat([s.z for s in stacks]).to(device)
        sizes = [len(subject) for subject in pool]
        self.stack_of = np.cumsum([0, *sizes])[:-1]
        generator = torch.Generator().manual_seed(config.train.seed)
        self.normal = torch.randn(BANK, generator=generator).to(device)
        self.uniform = torch.rand(BANK, generator=generator).to(device)
        self._shapes: dict[str, torch.Size] = {}

    def numbers(self, step: int) -> Float[Tensor, "m"]:
        """All random numbers that a step's batch depends on; equally many at each step."""
        b, slots = self.subjects * self.phases, self.slots
        slices, given = np.zeros((b, slots)), np.zeros((b, slots))
        valid, mix, offsets, views = np.zeros((b, slots)), [], np.zeros((b, 2)), []
        for number, one in enumerate(choose(step, self.pool, self.config)):
            stacks = [self.stack_of[one.subject] + k for k in one.stacks]
            own = self.pool[one.subject][one.stacks[0]]
            window, seen, view = draw_window(len(own), self.augment, one.rng)
            count, alone = len(seen), len(stacks) < self.phases
            even = np.full((self.phases, self.phases), 1 / self.phases)
            mix.append(np.eye(self.phases) if alone else even)
            places = one.rng.integers(BANK)
            for phase in range(self.phases):
                row = number * self.phases + phase
                start = self.first[stacks[min(phase, len(stacks) - 1)]] + window.start
                slices[row, :count] = np.arange(start, start + count)
                valid[row, :count], given[row, :count] = 1, seen
                offsets[row] = one.rng.integers(BANK), places
                views.append(view)
        batch = padded(views, slots)
        parts = {
            "slices": slices, "valid": valid, "given": given, "mix": np.array(mix), "offsets": offsets,
            **vars(batch),
        }  # fmt: skip
        tensors = {name: torch.as_tensor(part, dtype=torch.float32) for name, part in parts.items()}
        self._shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return torch.cat([tensor.flatten() for tensor in tensors.values()])

    def batch(self, numbers: Float[Tensor, "m"], image: ImageConfig) -> Batch:
        """Compute the batch on the device of the numbers.

        Args:
            numbers: see `numbers`, which must have been called before.
            image: sizes of the canvases.
        """
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = dict(zip(self._shapes, numbers.split(sizes), strict=True))
        part = {name: parts[name].reshape(shape) for name, shape in self._shapes.items()}
        view = View(*(part[name] for name in View.__dataclass_fields__))
        slices, valid, given = part["slices"].long(), part["valid"], part["given"]
        b, n = slices.shape
        flat = slices.flatten()
        stacked = Stacked(
            self.images[flat].float().reshape(b, n, *self.images.shape[1:]),
            self.labels[flat].reshape(b, n, *self.labels.shape[1:]),
            self.spacing[slices[:, 0]],
            self.middle[flat].reshape(b, n, 2),
            self.z[flat].reshape(b, n),
        )
        offsets = part["offsets"].long()
        place = self._places(offsets[:, 1], image)
        shown = show(stacked, view, place, image, self.augment)
        grains = self._taken(self.normal, offsets[:, 0], shown.canvas[0].numel()).reshape(shown.canvas.shape)
        where = canvas_mm(image, numbers.device)
        images = degraded(shown.canvas, view, grains, where, shown.z, self.augment)
        seen = given[:, :, None, None] > 0
        away = torch.zeros_like(given[..., None]).repeat(1, 1, 4)
        for axis, value in enumerate(AWAY):
            away[..., axis] = value
        maps = canvas_maps(shown.z, image)
        maps[:, :, 2] = torch.where(seen[..., 0], maps[:, :, 2], away)
        label = shown.label.masked_fill(valid[..., None] == 0, UNKNOWN)
        return Batch(
            (images * seen[..., None]).flatten(0, 1),
            maps,
            given,
            part["mix"],
            shown.points.flatten(1, 2),
            shown.intensity.flatten(0, 2),
            label.flatten(),
            valid[..., None].expand(label.shape).flatten(),
        )

    def _taken(self, bank: Tensor, start: Int[Tensor, "b"], count: int) -> Float[Tensor, "b m"]:
        """Consecutive numbers of a circular bank."""
        index = (start[:, None] + torch.arange(count, device=bank.device)) % len(bank)
        return bank[index]

    def _places(self, start: Int[Tensor, "b"], image: ImageConfig) -> Float[Tensor, "b n p 2"]:
        """Positions on each slot, mm from the centre, half of them near it."""
        points, half_mm = self.config.train.points, image.pixels * image.pixel_mm / 2
        shape = (len(start), self.slots, points, 2)
        wide = self._taken(self.uniform, start, math.prod(shape[1:])).reshape(shape)
        close = self._taken(self.normal, start, math.prod(shape[1:])).reshape(shape)
        near = points // 2
        return torch.cat(
            [
                (close[:, :, :near] * 0.35).clamp(-0.95, 0.95) * half_mm,
                (2 * wide[:, :, near:] - 1) * (half_mm - image.pixel_mm),
            ],
            dim=2,
        )


def _cropped(stack: PhaseStack) -> PhaseStack:
    """The part of a stack around the region's centre."""
    size = torch.tensor(stack.labels.shape[1:])
    low = ((stack.middle.amin(0) - KEPT_MM) / stack.spacing).floor().long()
    high = ((stack.middle.amax(0) + KEPT_MM) / stack.spacing).ceil().long() + 1
    low, high = torch.minimum(low.clamp_min(0), size - 1), torch.minimum(high.clamp_min(1), size)
    x, y = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return PhaseStack(
        stack.images[:, :, x, y],
        stack.labels[:, x, y],
        stack.spacing,
        stack.middle - low * stack.spacing,
        stack.z,
    )


def batch_objective(field: ImageField, batch: Batch, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """`nisf.kinds.image.objective.image_objective` of a batch, without reading any tensor's value back."""
    b, n = batch.given.shape
    with autocast(batch.images.device, config.precision):
        features, latents = field.encoder(batch.images, batch.maps, batch.mix)
        counts = batch.given.sum(1, keepdim=True)
        latent = (latents.reshape(b, n, -1) * batch.given[..., None]).sum(1) / counts
        values, classes = field.of_scenes(features, batch.maps, latent, batch.points)
    terms = class_terms(classes.float(), batch.label)
    weight = batch.weight[:, None].expand_as(batch.intensity)
    intensity_bce = functional.binary_cross_entropy_with_logits(
        values.float(), batch.intensity, weight, reduction="sum"
    )
    terms["intensity_bce"] = intensity_bce / weight.sum()
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"]
    return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}
