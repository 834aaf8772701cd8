"""How long the experiments will take: a few seconds of measuring, then multiplication."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from nisf.config.schema import Config, FieldConfig
from nisf.kinds.latent.fit import TRIAL_POINTS, TRIAL_STEPS
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import LatentField
from nisf.paper import ablations, fig4, resolution, slices, sparse
from nisf.paper.methods import (
    FROZEN,
    OURS,
    SECOND,
    UNET_NEAREST,
    UNET_SHAPE,
    UNFROZEN,
    path_name,
)
from nisf.paper.study import Study, Variant
from nisf.paper.unet import WEIGHTS
from nisf.paper.variants import base

FRAME_POINTS = 30_000
"""Voxels of a frame inside a region, about; what a step of 'all voxels' costs."""
ANSWERED = 60_000
"""Places answered for one volume."""


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


def _training(config: Config, rates: Rates) -> float:
    """Seconds to train a prior."""
    train = config.train
    if config.field.kind == "image":
        slices = train.subjects * config.augment.window
        share = 1 - config.augment.coarse * (1 - (config.augment.coarse_pixels / config.image.pixels) ** 2)
        return 1.2 * train.steps * slices * share * rates.slice(config)
    points = train.subjects * (train.points or FRAME_POINTS)
    validation = config.fit.steps * train.validate_points * train.validate_cases
    rounds = 1 + (train.steps - 1) // train.validate_every if train.validate_every else 1
    fits = rounds * validation * rates.point(config.field)
    return train.steps * points * rates.point(config.field, frozen=False) + fits


def _fit(config: Config, rates: Rates, views: int, *, second: bool = False) -> float:
    """Seconds to fit one subject and to answer its volumes."""
    if config.field.kind == "image":
        return 0.4 * 24 * rates.slice(config) + 1.0
    points = config.fit.steps * (config.fit.points or FRAME_POINTS)
    if second:
        points = 1.5 * config.fit.growth * config.fit.points_last
    trials = views * TRIAL_STEPS * TRIAL_POINTS
    return (points + trials + 2 * ANSWERED / 3) * rates.point(config.field)


def jobs(study: Study, experiments: Collection[str]) -> list[Job]:
    """The work of some experiments, in the order of its doing."""
    rates, budget, tests = Rates(), study.budget, len(study.files["test"])
    paper, image = study.paper, study.image
    views = (8 if study.anatomy.turn else 1) * (2 if study.anatomy.reorder else 1)

    def train(variant: Variant) -> Job:
        seconds = 0.0 if study.trained(variant.name) else _training(variant.config, rates)
        return Job("priors", variant.name, seconds)

    def scores(group: str, method: str, way: str, seconds: float) -> Job:
        folder = study.output / "work" / "scores" / path_name(method) / way
        left = max(0, tests - len(list(folder.glob("*.json"))))
        return Job(group, f"{method}, {way}", left * seconds)

    def once(group: str, what: str, file: str, seconds: float) -> Job:
        there = (study.output / "work" / f"{file}.json").is_file()
        return Job(group, what, 0.0 if there else seconds)

    adam, second = _fit(paper.config, rates, views), _fit(paper.config, rates, views, second=True)
    look = _fit(image.config, rates, views)
    common = {FROZEN: adam, SECOND: second, OURS: look}
    shape, nearest = {UNET_SHAPE: look}, {UNET_NEAREST: look}
    out: list[Job] = []
    if set(experiments) - {"slices", "sparse", "ablations"}:
        out.append(train(paper))
    if set(experiments) & {"table1", "fig4", "slices", "planes", "resolution"}:
        out.append(train(image))
    if set(experiments) & {"table1", "fig4", "slices", "resolution"}:
        there = (study.folder("unet") / WEIGHTS).is_file()
        # At full resolution it costs more a slice than an encoder that halves it first.
        seconds = 2.5 * _training(image.config, rates) * budget.unet_steps / image.config.train.steps
        out.append(Job("priors", "U-Net", 0.0 if there else seconds))
    ways: list[tuple[str, str, dict[str, float]]] = []
    if "table1" in experiments:
        search = budget.unfrozen_cases * adam
        out.append(once("table1", "step count of fits with free weights", "unfrozen-steps", search))
        ways.append(("table1", "none", {**common, UNFROZEN: 1.5 * adam, **shape}))
    if "fig2" in experiments:
        points = budget.curve_steps * (paper.config.fit.points or FRAME_POINTS)
        points += 1.5 * budget.curve_iterations * paper.config.fit.points_last
        seconds = budget.curve_cases * points * rates.point(paper.config.field)
        out.append(once("fig2", "curves", "curves", seconds))
    if "fig3" in experiments:
        there = len(list((study.output / "work" / "snapshots").glob("*.json")))
        out.append(Job("fig3", "stages of training", max(0, len(budget.snapshots) - there) * adam))
    if "fig4" in experiments:
        ways += [("fig4", way, {**common, **shape, **nearest}) for way in fig4.PROTOCOLS]
    if "slices" in experiments:
        seen = {OURS: look, **shape, **nearest}
        ways += [("slices", slices.protocol(given), seen) for given in slices.GIVEN if given != 3]
    if "planes" in experiments:
        for name, seconds in ((FROZEN, adam), (OURS, look)):
            there = len(list((study.output / "work" / "planes" / path_name(name)).glob("*.json")))
            out.append(Job("planes", f"{name}, views", max(0, tests - there) * seconds))
    if "resolution" in experiments:
        factors = [f"pixels-{factor:g}x" for factor in resolution.FACTORS if factor != 1.0]
        ways += [("resolution", way, {**common, **shape}) for way in factors]
    out += [scores(group, method, way, s) for group, way, of in ways for method, s in of.items()]
    done: set[str] = set()
    for group, found in (("sparse", sparse.variants), ("ablations", ablations.variants)):
        if group in experiments:
            for variant in [base(study), *found(study).values()]:
                if variant.name not in done:
                    seconds = budget.curve_cases * _fit(variant.config, rates, 0)
                    out.append(train(variant))
                    out.append(once(group, f"fits with {variant.name}", f"variants/{variant.name}", seconds))
                    done.add(variant.name)
    return out
