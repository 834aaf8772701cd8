"""The baseline: MONAI's 2D U-Net, trained on the same data as the image-conditioned field.

Patients, regions, canvases, augmentation, points, loss, optimiser and schedule are the same, but every slice
is processed alone and none is hidden. Interpolation of its segmentations is in `nisf.paper.interpolation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config.overrides import to_dict
from nisf.config.schema import AugmentConfig, Config, ImageConfig
from nisf.data.case import Case
from nisf.data.region import Region, pixel_positions, region_from_labels
from nisf.device import CPU, autocast
from nisf.errors import BadFileError, BadSettingError
from nisf.files import read_tensors, write_tensors
from nisf.kinds.image.augment import PhaseStack, Sample, draw_sample, phase_stacks
from nisf.kinds.image.objective import class_terms
from nisf.kinds.image.recipe import averaged
from nisf.kinds.image.samples import image_at
from nisf.kinds.image.views import for_anatomy
from nisf.networks.canvas import canvases
from nisf.networks.lookup import interpolate
from nisf.optimisation.loop import Validation, run
from nisf.optimisation.prefetch import Prefetched, workers_for
from nisf.prior.prior import Prior

WIDTHS = (16, 32, 64, 96, 128, 16)
"""Channels of the levels and of the last layer: 0.9 million parameters, as in our own network."""
WEIGHTS = "unet.safetensors"


def unet(prior: Prior) -> nn.Module:
    """A plain U-Net with instance normalisation at the canvas's full resolution.

    Raises:
        BadSettingError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.basic_unet import BasicUNet
    except ImportError as error:
        raise BadSettingError("the U-Net is MONAI's: pip install 'nisf[paper]'") from error
    field = prior.config.field
    return BasicUNet(2, field.channels, field.classes, WIDTHS, norm=("instance", {"affine": True}))


@dataclass(frozen=True, eq=False)
class SliceSampler:
    """The samples of each training step: as many volumes as for the field, with all their slices.

    Attributes:
        stacks: labelled stacks of all subjects and phases.
        config: settings, those of the field.
        augment: strength of the augmentation.
    """

    stacks: Sequence[PhaseStack]
    config: Config
    augment: AugmentConfig

    def __call__(self, step: int, image: ImageConfig) -> list[Sample]:
        """The samples of a step on canvases of the given sizes; they depend on nothing else but the seed."""
        train, out = self.config.train, []
        # The field may see two phases of a subject together.
        for slot in range(train.subjects * (2 if self.config.image.phase_exchange else 1)):
            rng = np.random.default_rng([train.seed, 3, step, slot])
            stack = self.stacks[int(rng.integers(len(self.stacks)))]
            out.append(draw_sample(stack, image, self.augment, train.points, rng))
        return out


class UNetTraining:
    """The U-Net in training; a `nisf.optimisation.loop.Recipe`.

    Args:
        cases: labelled cases.
        prior: prior of the image-conditioned field; its settings and region are shared.
        device: where the network is trained.
        workers: number of processes that draw samples in advance.
    """

    def __init__(
        self, cases: Sequence[Case], prior: Prior, device: torch.device = CPU, workers: int = 0
    ) -> None:
        assert prior.half is not None, "the image-conditioned prior has a region"
        self.config, self.device = prior.config, device
        stacks: list[PhaseStack] = []
        for case in cases:
            region = region_from_labels(case, prior.half, order=False)
            if region is not None:
                stacks += phase_stacks(case, region.centre(), prior.config.image.pixel_mm)
        augment = replace(for_anatomy(prior.config.augment, prior.anatomy), hide=0.0)
        self.drawn = Prefetched(SliceSampler(stacks, self.config, augment), self.config.train.steps, workers)
        torch.manual_seed(self.config.train.seed)
        self.online = unet(prior).to(device)
        self.average, self.state = averaged(self.online, self.config.train)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        train, image = self.config.train, image_at(self.state.place, self.config)
        drawn = [one.to(self.device) for one in self.drawn(step, image)]
        images, points = torch.cat([one.images for one in drawn]), torch.cat([one.points for one in drawn])
        with autocast(self.device, train.precision):
            maps = self.online(images).permute(0, 2, 3, 1)
        slice_index = torch.arange(len(images), device=self.device).repeat_interleave(train.points)
        pixel = _pixels(torch.cat([one.maps for one in drawn])[slice_index], points)
        out, label = (
            interpolate(maps, slice_index, pixel[:, 0], pixel[:, 1]),
            torch.cat([one.label for one in drawn]),
        )
        terms = class_terms(out, label)
        loss = terms["class_bce"] + terms["dice_loss"]
        return loss, {"loss": loss, **terms}

    def descend(self, step: int) -> dict[str, Tensor]:
        loss, terms = self.loss(step)
        self.state.descend(loss)
        return terms

    def after_step(self) -> None:
        self.average.update_parameters(self.online)

    def close(self) -> None:
        self.drawn.close()

    def validate(self) -> Validation | None:
        return None


def _pixels(maps: Float[Tensor, "p 3 4"], points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 2"]:
    """Positions of points on their own canvases."""
    return torch.einsum("pij,pj->pi", maps[:, :2, :3], points) + maps[:, :2, 3]


def trained_unet(
    cases: Callable[[], Sequence[Case]],
    prior: Prior,
    steps: int,
    folder: Path,
    say: Callable[[str], None],
    device: torch.device = CPU,
    start: Path | None = None,
) -> nn.Module:
    """The U-Net in ``folder``, trained if it does not exist; resumes from its last checkpoint.

    Args:
        cases: returns the training cases.
        prior: prior of the image-conditioned field.
        steps: optimiser steps.
        folder: gets `WEIGHTS`.
        say: called with sentences for the user.
        device: where it is trained; it is returned on the CPU.
        start: folder of a trained U-Net to start from, if any.

    Raises:
        BadSettingError: MONAI is not installed.
        BadFileError: the weights are those of another network.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        config = replace(prior.config, train=replace(prior.config.train, steps=steps))
        chosen = cases()
        recipe = UNetTraining(chosen, replace(prior, config=config), device, workers_for(device))
        identity: dict[str, Any] = {"config": to_dict(config), "cases": [case.name for case in chosen]}
        if start is not None:
            for network in (recipe.online, recipe.average.module):
                _load(network, start / WEIGHTS)
            identity["start"] = str(start)
        folder.mkdir(parents=True, exist_ok=True)
        run(recipe, config.train, folder, identity, {}, report=None, say=say)
        write_tensors(path, recipe.average.module.state_dict())
    network = unet(prior)
    _load(network, path)
    return network.eval().requires_grad_(False)


def _load(network: nn.Module, path: Path) -> None:
    """Load weights from a file.

    Raises:
        BadFileError: they are those of another network.
    """
    try:
        network.load_state_dict(read_tensors(path)[0])
    except RuntimeError as error:
        raise BadFileError(f"{path}: contains the weights of another network") from error


@torch.inference_mode()
def segment_slices(
    network: nn.Module, case: Case, region: Region, prior: Prior
) -> dict[tuple[int, int], np.ndarray]:
    """Class per pixel (x, y) of every slice, by position and frame; background outside the region."""
    out = {}
    for first in range(0, len(case.slices), 16):
        chosen = case.slices[first : first + 16]
        seen = canvases(case, chosen, region, prior.config.image)
        maps = network(seen.images.float()).permute(0, 2, 3, 1)
        for index, item in enumerate(chosen):
            world = pixel_positions(item)
            model = torch.tensor(region.pose(world).reshape(-1, 3), dtype=torch.float32)
            pixel = _pixels(seen.maps[index].expand(len(model), 3, 4), model)
            slice_index = torch.full((len(model),), index, dtype=torch.long)
            label = (
                interpolate(maps, slice_index, pixel[:, 0], pixel[:, 1])
                .argmax(1)
                .numpy()
                .reshape(world.shape[:2])
            )
            label[~region.contains(world)] = 0
            out[item.position, item.frame] = label.astype(np.int16)
    return out
