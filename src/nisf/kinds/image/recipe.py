"""The recipe of the image-conditioned field: freshly augmented subjects, some of their slices hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from nisf.config.schema import TrainConfig
from nisf.data.case import UNKNOWN
from nisf.device import autocast
from nisf.errors import CannotFitError
from nisf.kinds.image.augment import Sample, for_anatomy, measured
from nisf.kinds.image.model import ImagePrior
from nisf.kinds.image.samples import Sampler
from nisf.kinds.image.selection import least_certainty
from nisf.kinds.image.validation import SliceDice, answers, mean_dice, validation_cases
from nisf.kinds.recipe import Recipe, TrainingSetup
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.losses import dice_loss
from nisf.optimisation.loop import Validation
from nisf.optimisation.muon import weight_optimisers
from nisf.optimisation.prefetch import Prefetched, workers_for
from nisf.optimisation.state import State
from nisf.prior.prior import Prior

AVERAGE = 0.998
"""Decay of the running average of the weights that becomes the prior."""


def running_average(
    averaged: tuple[Tensor, ...] | list[Tensor],
    current: tuple[Tensor, ...] | list[Tensor],
    count: Tensor | int,
) -> None:
    """Move ``averaged`` towards ``current``, in place; the first steps count for little and are forgotten."""
    decay = min(AVERAGE, (1 + int(count)) / (10 + int(count)))
    pairs = list(zip(averaged, current, strict=True))
    moving = [(old, new) for old, new in pairs if old.is_floating_point()]
    if moving:
        old, new = zip(*moving, strict=True)
        torch._foreach_lerp_(old, new, 1 - decay)  # as PyTorch's own averages do: one call for all
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def class_terms(logits: Float[Tensor, "p k"], label: Int[Tensor, "p"]) -> dict[str, Tensor]:
    """Cross-entropy and Dice loss of the classes over all points with a known label together."""
    known = (label != UNKNOWN).sum().clamp_min(1)
    bce = functional.cross_entropy(logits, label, ignore_index=UNKNOWN, reduction="sum") / known
    return {
        "class_bce": bce,
        "dice_loss": dice_loss(logits[None], label[None], logits.new_ones(1, len(label))).mean(),
    }


def averaged(network: nn.Module, train: TrainConfig) -> tuple[AveragedModel, State]:
    """The running average of a network in training, and the state of both with their optimisers."""
    average = AveragedModel(network, multi_avg_fn=running_average, use_buffers=True)
    optimisers = weight_optimisers(network, train, train.weight_l2)
    return average, State({"online": network, "average": average}, optimisers)


def image_objective(
    field: ImageField,
    samples: Sequence[Sample],
    config: TrainConfig,
    together: Sequence[int] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy and Dice of the classes, and the intensities' cross-entropy, over all samples' points.

    The slices of all samples are encoded in one batch; ``together`` says how many samples in turn are phases
    of one subject, each its own if None.
    """
    counts = [len(sample.images) for sample in samples]
    images, maps = torch.cat([sample.images for sample in samples]), [sample.maps for sample in samples]
    values, classes = [], []
    with autocast(images.device, config.precision):
        features, latents = field.encoder(images, maps, together)
        for sample, own, latent in zip(samples, features.split(counts), latents.split(counts), strict=True):
            intensity, class_logits = field(Scene(own, sample.maps, latent.mean(0)), sample.points)
            values.append(intensity)
            classes.append(class_logits)
    logits, label = torch.cat(classes).float(), torch.cat([sample.label for sample in samples])
    target = torch.cat([sample.intensity for sample in samples])
    intensity_bce = functional.binary_cross_entropy_with_logits(torch.cat(values).float(), target)
    terms = {**class_terms(logits, label), "intensity_bce": intensity_bce}
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"]
    return loss, {"loss": loss, **terms}


class ImageRecipe(Recipe):
    """An image-conditioned field in training.

    Raises:
        CannotFitError: no slice is labelled.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup, self.config, self.anatomy = setup, setup.config, setup.anatomy
        self.cases, self.labels = setup.cases, setup.anatomy.labels
        self.mirrors = self.config.image.mirrors if self.anatomy.turn else 0
        pixel_mm = self.config.image.pixel_mm
        pool = [
            measured(case, region.centre(), pixel_mm)
            for case, region in zip(setup.cases, setup.regions(), strict=True)
        ]
        pool = [stacks for stacks in pool if stacks]
        if not pool:
            raise CannotFitError("no slice is labelled: an image-conditioned field learns from labels")
        sampler = Sampler(pool, self.config, for_anatomy(self.config.augment, self.anatomy))
        workers = workers_for(setup.device) if setup.workers is None else setup.workers
        self.samples = Prefetched(sampler, self.config.train.steps, workers)
        found = [(case, setup.search.find(case)[0]) for case in setup.validated() if case.labelled()]
        self.given, self.hidden = validation_cases(found, self.config.image, self.config.train.seed)
        self.online = ImageField(self.config.field, self.config.image).to(setup.device)
        self.average, self.state = averaged(self.online, self.config.train)

    @override
    def begin_with(self, start: Prior) -> None:
        """Weights of another prior; an exchange between slices that it lacks starts anew."""
        for module in (self.online, self.field):
            module.load_state_dict({**self.online.state_dict(), **start.field.state_dict()})

    @property
    def field(self) -> ImageField:
        """The averaged network."""
        assert isinstance(self.average.module, ImageField)
        return self.average.module

    @override
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = self.samples(step)
        samples = [sample.to(self.setup.device) for phases in drawn for sample in phases]
        return image_objective(self.online, samples, self.config.train, [len(phases) for phases in drawn])

    @override
    def after_step(self) -> None:
        self.average.update_parameters(self.online)

    @override
    def validate(self) -> SliceDice | None:
        if not self.given:
            return None
        field, both = self.field.eval(), self.anatomy.reorder
        found = SliceDice(*(mean_dice(field, c, self.labels, both=both) for c in (self.given, self.hidden)))
        self.setup.say(f"validation: {found}")
        return found

    @override
    def weights(self) -> dict[str, Tensor]:
        return {f"field.{name}": tensor for name, tensor in self.field.state_dict().items()}

    def certain(self) -> tuple[float, ...]:
        """How sure each structure's section has to be, chosen on the validation cases."""
        volumes = [*self.given, *self.hidden]
        found = list(answers(self.field.eval(), volumes, both=self.anatomy.reorder, mirrors=self.mirrors))
        chosen = least_certainty(found, len(self.labels))
        asked = (f"{name} {least:g}" for name, least in zip(self.labels[1:], chosen, strict=True) if least)
        self.setup.say(f"least certainty of a section: {', '.join(asked) or 'none is asked for'}")
        return chosen

    @override
    def finish(self, last: Validation | None, card: Mapping[str, Any]) -> ImagePrior:
        config, search = self.config, self.setup.search
        if config.fit.islands == "remove" and self.given:
            config = replace(config, fit=replace(config.fit, certain=self.certain()))
        return ImagePrior(config, self.anatomy, self.field.cpu(), search.half, search.finder, card)
