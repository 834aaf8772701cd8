"""How long the experiments will take: a few seconds of measuring, then multiplication."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nisf.config.schema import Config, FieldConfig
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import LatentField
from nisf.paper import EXPERIMENTS
from nisf.paper.needs import Effort, Need
from nisf.paper.study import Study


@dataclass(frozen=True)
class Job:
    """A part of the work.

    Attributes:
        group: ``priors``, or the experiment that it is first needed for.
        what: in words.
        seconds: estimate of what is left of it; 0 if its outcome is there already.
    """

    group: str
    what: str
    seconds: float


def _clock(work: Callable[[], object]) -> float:
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Rates:
    """Seconds of the work's units on this machine, each measured when first asked for."""

    def __init__(self) -> None:
        self._points: dict[tuple[FieldConfig, bool], float] = {}
        self._images: dict[Config, float] = {}

    def point(self, config: FieldConfig, *, frozen: bool = True) -> float:
        """A point forward and backward through the latent field; frozen weights get no gradient."""
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
        """A slice forward and backward through the encoder."""
        if config not in self._images:
            field, pixels = ImageField(config.field, config.image), config.image.pixels
            images, maps = (
                torch.rand(4, config.field.channels, pixels, pixels),
                torch.eye(3, 4).repeat(4, 1, 1),
            )
            self._images[config] = _clock(lambda: field.encode(images, maps).features.sum().backward()) / 4
        return self._images[config]

    def seconds(self, effort: Effort) -> float:
        """Of all units of an effort; only those that it has are measured."""
        config, seconds = effort.config, effort.seconds
        if effort.points:
            seconds += effort.points * self.point(config.field)
        if effort.training_points:
            seconds += effort.training_points * self.point(config.field, frozen=False)
        if effort.slices:
            seconds += effort.slices * self.slice(config)
        return seconds


def jobs(study: Study, experiments: Sequence[str]) -> list[Job]:
    """The work of some experiments, in the order of its doing."""
    rates = Rates()
    found: dict[Need, Job] = {}
    for name in experiments:
        for need in EXPERIMENTS[name].needs(study):
            if need not in found:
                seconds = need.left * rates.seconds(need.each) if need.left else 0.0
                found[need] = Job("priors" if need.trained else name, need.what, seconds)
    return list(found.values())
