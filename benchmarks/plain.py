"""The baseline: the paper's procedure, implemented literally in eager PyTorch.

Two linear maps per layer, the latent concatenated to every point, all voxels of a frame in every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nisf.config.schema import TrainConfig
from nisf.data.geometry import Grid
from nisf.data.points import Batch, CasePoints, batch_of
from nisf.errors import BadSettingError
from nisf.kinds.latent.model import LatentSubject
from nisf.networks.latent_field import Backbone, LatentField
from nisf.networks.losses import class_bce, dice_loss

Context = Callable[[], AbstractContextManager]


class PlainField(nn.Module):
    """The paper's network with the weights of ``field``."""

    def __init__(self, field: LatentField) -> None:
        super().__init__()
        config = field.config
        backbone = field.backbones[0]
        assert isinstance(backbone, Backbone)
        if set(backbone.activations) != {"gabor"} or len(field.backbones) > 1:
            raise BadSettingError("the baseline is the paper's network: Gabor wavelets, one backbone")
        if config.latent != config.width or config.cyclic_time or config.coordinate_scale != 1:
            raise BadSettingError("the baseline is the paper's network: give a prior of the preset 'paper'")
        self.omega, self.sigma = config.gabor_omega, config.gabor_sigma
        self.waves, self.scales = nn.ModuleList(), nn.ModuleList()
        for linear in backbone.layers:
            assert isinstance(linear, nn.Linear)
            parts = zip(linear.weight.chunk(2), linear.bias.chunk(2), strict=True)
            for (weight, bias), layers in zip(parts, (self.waves, self.scales), strict=True):
                layer = nn.Linear(weight.shape[1], weight.shape[0])
                layer.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
                layers.append(layer)
        self.intensity_head = nn.Linear(config.width, config.channels)
        self.intensity_head.load_state_dict(field.intensity_head.state_dict())
        self.class_head = nn.Linear(config.width, config.classes)
        self.class_head.load_state_dict(field.class_head.state_dict())

    def forward(self, coordinates: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Intensity in [0, 1] and class logits at ``(n, d)`` coordinates for one latent ``(l,)``."""
        stream = latent.expand(len(coordinates), -1)
        x = torch.cat([coordinates, stream], dim=-1)
        for wave, scale in zip(self.waves, self.scales, strict=True):
            stream = torch.cos(self.omega * wave(x)) * torch.exp(-((self.sigma * scale(x)) ** 2)) + stream
            x = stream
        return torch.sigmoid(self.intensity_head(stream)), self.class_head(stream)


def frames_of(points: CasePoints) -> list[Batch]:
    """All voxels of each measured frame, one batch per frame."""
    measured = points.frames[points.slice]
    return [batch_of([(points, np.flatnonzero(measured == frame))]) for frame in np.unique(measured)]


def fit(
    network: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    frames: Sequence[Batch],
    start: Tensor,
    *,
    steps: int,
    rate: float = 1e-3,
    penalty: float = 1e-4,
    context: Context = nullcontext,
    callback: Callable[[int, Tensor], None] = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Tensor, float]:
    """The latent after ``steps`` Adam steps, each on a random frame, and the seconds without ``callback``."""
    latent = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([latent], lr=rate)
    rng, seconds = np.random.default_rng(0), 0.0
    for step in range(steps):
        began = clock()
        batch = frames[int(rng.integers(len(frames)))]
        with context():
            intensity, _ = network(batch.coordinates[0], latent)
        loss = functional.binary_cross_entropy(intensity.float(), batch.intensity[0])
        optimiser.zero_grad()
        (loss + penalty * latent.square().mean()).backward()
        optimiser.step()
        seconds += clock() - began
        callback(step + 1, latent.detach())
    return latent.detach(), seconds


def training_step(
    network: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    weights: Sequence[Tensor],
    latents: Tensor,
    optimiser: torch.optim.Optimizer,
    subject: int,
    batch: Batch,
    config: TrainConfig,
    context: Context = nullcontext,
) -> None:
    """One step of the auto-decoder on one frame of one subject (paper, equation 1)."""
    with context():
        intensity, classes = network(batch.coordinates[0], latents[subject])
    loss = class_bce(classes.float()[None], batch.label, batch.weight).mean()
    loss = loss + dice_loss(classes.float()[None], batch.label, batch.weight).mean()
    loss = loss + config.alpha * functional.binary_cross_entropy(intensity.float(), batch.intensity[0])
    loss = loss + config.weight_l2 * torch.stack([w.square().sum() for w in weights]).sum()
    loss = loss + config.latent_l2 * latents[subject].square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@torch.no_grad()
def render(
    network: PlainField, subject: LatentSubject, grid: Grid, *, planes: bool = False
) -> tuple[np.ndarray, np.ndarray, int]:
    """Intensities and labels on a grid, and the number of query points.

    Queries all voxels of a frame at once, as in the paper, or with ``planes`` those of one plane.
    """
    shape = (*grid.shape, len(grid.times))
    image, label, asked = np.zeros(shape, np.float32), np.zeros(shape, np.uint8), 0
    scaled = subject.region.coordinates(grid.points())
    inside = subject.region.contains(grid.points())
    slabs = [slice(k, k + 1) for k in range(shape[2])] if planes else [slice(None)]
    for t, when in enumerate(grid.times):
        for k in slabs:
            mask = inside[:, :, k]
            if not mask.any():
                continue
            coordinates = np.c_[scaled[:, :, k][mask], np.full(mask.sum(), when)].astype(np.float32)
            values, classes = network(torch.from_numpy(coordinates), subject.latent)
            image[:, :, k, t][mask] = subject.stacks[0].denormalise(values.numpy())[:, 0]
            label[:, :, k, t][mask] = torch.softmax(classes, -1).argmax(-1).numpy()
            asked += int(mask.sum())
    return image, label, asked
