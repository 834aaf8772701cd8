"""Estimate the run time of experiments on this machine: unit costs are measured, then multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nisf.config.schema import Config, FieldConfig
from nisf.kinds.latent.fit import TRIAL_POINTS, TRIAL_STEPS
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import LatentField
from nisf.paper.methods import FROZEN, OURS, SECOND, UNET_NEAREST, UNET_SHAPE, UNFROZEN
from nisf.paper.study import Study

FRAME_POINTS = 30_000
"""Approximate number of voxels of a frame inside a region; the size of a step that uses 'all voxels'."""
ANSWERED = 60_000
"""Approximate number of points queried for one volume."""


def _clock(work: Callable[[], object]) -> float:
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Costs:
    """Estimates for one study; each unit cost is measured on first use."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._points: dict[tuple[FieldConfig, bool], float] = {}
        self._images: dict[Config, float] = {}

    def point(self, config: FieldConfig, *, frozen: bool = True) -> float:
        """Forward and backward pass of a point through the latent field; frozen weights get no gradient."""
        if (config, frozen) not in self._points:
            field, count = LatentField(config).requires_grad_(not frozen), 2048
            places = torch.rand(1, count, config.dimensions) * 2 - 1
            latent = torch.zeros(1, config.latent, requires_grad=True)

            def step() -> None:
                intensity, classes = field(places, latent)
                (intensity.sum() + classes.sum()).backward()

            self._points[config, frozen] = _clock(step) / count
        return self._points[config, frozen]

    def slice(self, config: Config) -> float:
        """Forward and backward pass of a slice through the encoder."""
        if config not in self._images:
            field, pixels = ImageField(config.field, config.image), config.image.pixels
            images, maps = (
                torch.rand(4, config.field.channels, pixels, pixels),
                torch.eye(3, 4).repeat(4, 1, 1),
            )
            self._images[config] = _clock(lambda: field.encode(images, maps).features.sum().backward()) / 4
        return self._images[config]

    def latent_training(self, config: Config) -> float:
        """Training of a prior with fitted latents, including validation."""
        train = config.train
        points = train.subjects * (train.points or FRAME_POINTS)
        validation = config.fit.steps * train.validate_points * train.validate_cases
        rounds = 1 + (train.steps - 1) // train.validate_every if train.validate_every else 1
        fits = rounds * validation * self.point(config.field)
        return train.steps * points * self.point(config.field, frozen=False) + fits

    def image_training(self, config: Config) -> float:
        """Training of an image-conditioned prior."""
        train, augment = config.train, config.augment
        slices = train.subjects * augment.window
        share = 1 - augment.coarse * (1 - (augment.coarse_pixels / config.image.pixels) ** 2)
        return 1.2 * train.steps * slices * share * self.slice(config)

    def network_training(self) -> float:
        """Training of the U-Net; at full resolution it costs more per slice than the encoder."""
        config = self._study.image.config
        return 2.5 * self.image_training(config) * self._study.budget.unet_steps / config.train.steps

    def latent_fit(self, config: Config, orientations: int, *, second: bool = False) -> float:
        """Fit of one subject, trying this many orientations, and query of its volumes."""
        points = config.fit.steps * (config.fit.points or FRAME_POINTS)
        if second:
            points = 1.5 * config.fit.growth * config.fit.points_last
        trials = orientations * TRIAL_STEPS * TRIAL_POINTS
        return (points + trials + 2 * ANSWERED / 3) * self.point(config.field)

    def subject(self, method: str) -> float:
        """One subject with one of the compared methods."""
        if method in (OURS, UNET_SHAPE, UNET_NEAREST):
            return 0.4 * 24 * self.slice(self._study.image.config) + 1.0
        anatomy, config = self._study.anatomy, self._study.paper.config
        orientations = (8 if anatomy.turn else 1) * (2 if anatomy.reorder else 1)
        factor = {FROZEN: 1.0, SECOND: 1.0, UNFROZEN: 1.5}[method]
        return factor * self.latent_fit(config, orientations, second=method == SECOND)
