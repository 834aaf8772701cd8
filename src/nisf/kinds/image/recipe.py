"""The recipe of the image-conditioned field: freshly augmented subjects, some of their slices hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from nisf.config.schema import TrainConfig
from nisf.data.case import UNKNOWN, Case
from nisf.data.region import Region
from nisf.device import CPU, precision
from nisf.errors import NisfError
from nisf.kinds.image.augment import Sample, for_anatomy, measured
from nisf.kinds.image.samples import Sampler
from nisf.kinds.image.validation import SliceDice, answers, held_cases, mean_dice
from nisf.kinds.latent.fit import find_region
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.losses import dice_loss
from nisf.optimisation.muon import weight_optimisers
from nisf.optimisation.prefetch import Ahead
from nisf.optimisation.state import State
from nisf.prior.prior import Prior
from nisf.subject.sections import least_certainty

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

    The slices of all samples are encoded in one batch; ``together`` says how many samples in turn are moments
    of one subject, each its own if None.
    """
    counts = [len(sample.images) for sample in samples]
    images, maps = torch.cat([sample.images for sample in samples]), [sample.maps for sample in samples]
    values, classes = [], []
    with precision(images.device, config.precision):
        features, latents = field.encoder(images, maps, together)
        for sample, own, latent in zip(samples, features.split(counts), latents.split(counts), strict=True):
            of_intensity, of_class = field(Scene(own, sample.maps, latent.mean(0)), sample.points)
            values.append(of_intensity)
            classes.append(of_class)
    logits, label = torch.cat(classes).float(), torch.cat([sample.label for sample in samples])
    target = torch.cat([sample.intensity for sample in samples])
    of_intensities = functional.binary_cross_entropy_with_logits(torch.cat(values).float(), target)
    terms = {**class_terms(logits, label), "intensity_bce": of_intensities}
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"]
    return loss, {"loss": loss, **terms}


class ImageTraining:
    """An image-conditioned field in training; a `nisf.optimisation.loop.Recipe`.

    Args:
        cases: training cases; at least one labelled slice among them.
        regions: where each is looked at.
        held: validation cases.
        prior: everything but the trained weights.
        say: called with sentences for the user.
        device: where the network is trained.
        workers: processes that draw samples ahead.

    Raises:
        NisfError: no slice is labelled.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        regions: Sequence[Region],
        held: Sequence[Case],
        prior: Prior,
        say: Callable[[str], None],
        device: torch.device = CPU,
        workers: int = 0,
    ) -> None:
        self.config, self.anatomy, self.say = prior.config, prior.anatomy, say
        self.device, self.mirrors = device, prior.mirrors
        self.labels = self.anatomy.labels
        pixel_mm = self.config.image.pixel_mm
        pool = [
            measured(case, region.centre(), pixel_mm) for case, region in zip(cases, regions, strict=True)
        ]
        pool = [stacks for stacks in pool if stacks]
        if not pool:
            raise NisfError("no slice is labelled: an image-conditioned field learns from labels")
        sampler = Sampler(pool, self.config, for_anatomy(self.config.augment, self.anatomy))
        self.drawn = Ahead(sampler, self.config.train.steps, workers)
        found = [(case, find_region(case, prior)[0]) for case in held if case.labelled()]
        self.given, self.hidden = held_cases(found, self.config.image, self.config.train.seed)
        self.online = ImageField(self.config.field, self.config.image).to(self.device)
        self.average, self.state = averaged(self.online, self.config.train)

    def begin_with(self, start: Prior) -> None:
        """Weights of another prior; an exchange between slices that it lacks starts anew."""
        for module in (self.online, self.field):
            module.load_state_dict({**self.online.state_dict(), **start.field.state_dict()})

    @property
    def field(self) -> ImageField:
        """The averaged network."""
        assert isinstance(self.average.module, ImageField)
        return self.average.module

    def statistics(self) -> tuple[Tensor, Tensor]:
        """No latents are stored: nothing, in the shapes that a prior's statistics have."""
        size = self.config.field.latent
        return torch.zeros(size), torch.eye(size)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = self.drawn(step)
        samples = [sample.to(self.device) for moments in drawn for sample in moments]
        return image_objective(self.online, samples, self.config.train, [len(moments) for moments in drawn])

    def after_step(self) -> None:
        self.average.update_parameters(self.online)

    def certain(self) -> tuple[float, ...]:
        """How sure each structure's section has to be, chosen on the validation cases; empty without them."""
        if not self.given:
            return ()
        held = [*self.given, *self.hidden]
        found = list(answers(self.field.eval(), held, both=self.anatomy.reorder, mirrors=self.mirrors))
        chosen = least_certainty(found, len(self.labels))
        asked = (f"{name} {least:g}" for name, least in zip(self.labels[1:], chosen, strict=True) if least)
        self.say(f"least certainty of a section: {', '.join(asked) or 'none is asked for'}")
        return chosen

    def validate(self) -> SliceDice | None:
        if not self.given:
            return None
        field, both = self.field.eval(), self.anatomy.reorder
        found = SliceDice(*(mean_dice(field, c, self.labels, both=both) for c in (self.given, self.hidden)))
        self.say(f"validation: {found}")
        return found
