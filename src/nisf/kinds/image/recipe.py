"""The recipe of the image-conditioned field: newly augmented subjects with some of their slices hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from nisf.config.schema import ImageConfig, TrainConfig
from nisf.data.outline import Outline, box_of, chosen
from nisf.errors import CannotFitError
from nisf.kinds.image.measured import measured_stacks
from nisf.kinds.image.model import ImagePrior
from nisf.kinds.image.objective import image_objective
from nisf.kinds.image.resident import Resident, batch_objective
from nisf.kinds.image.samples import Sampler, image_at
from nisf.kinds.image.selection import least_certainty
from nisf.kinds.image.validation import SliceDice, answers, mean_dice, validation_cases
from nisf.kinds.image.views import for_anatomy
from nisf.kinds.pool import pool_of
from nisf.kinds.recipe import Recipe, TrainingSetup
from nisf.networks.image_field import ImageField
from nisf.optimisation.graph import Captured
from nisf.optimisation.loop import Validation
from nisf.optimisation.muon import weight_optimisers
from nisf.optimisation.prefetch import Prefetched, workers_for
from nisf.optimisation.ranks import is_first, refuse_idle, world
from nisf.optimisation.state import State
from nisf.prior.prior import Prior

AVERAGE = 0.998
"""Decay of the running average of the weights, which becomes the prior."""


def running_average(
    averaged: tuple[Tensor, ...] | list[Tensor],
    current: tuple[Tensor, ...] | list[Tensor],
    count: Tensor | int,
) -> None:
    """Move ``averaged`` towards ``current``, in place; the decay is smaller during the first steps."""
    decay = min(AVERAGE, (1 + int(count)) / (10 + int(count)))
    pairs = list(zip(averaged, current, strict=True))
    moving = [(old, new) for old, new in pairs if old.is_floating_point()]
    if moving:
        old, new = zip(*moving, strict=True)
        torch._foreach_lerp_(old, new, 1 - decay)  # as in PyTorch's own averages: one call for all
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def averaged(network: nn.Module, train: TrainConfig) -> tuple[AveragedModel, State]:
    """The running average of a network in training, and the training state with the optimisers."""
    average = AveragedModel(network, multi_avg_fn=running_average, use_buffers=True)
    optimisers = weight_optimisers(network, train, train.weight_l2)
    return average, State({"online": network, "average": average}, optimisers)


@torch.no_grad()
def update_average(average: AveragedModel, network: nn.Module) -> None:
    """`AveragedModel.update_parameters` without a synchronisation with the GPU at each step."""
    if average.n_averaged == 0 or average.n_averaged.device.type != "cpu":
        average.update_parameters(network)
        return
    ours, theirs = ([*module.parameters(), *module.buffers()] for module in (average.module, network))
    running_average(ours, theirs, average.n_averaged)
    average.n_averaged += 1


class CapturedSteps:
    """Training steps whose samples are made on the GPU, each captured as one CUDA graph.

    Args:
        recipe: its network is trained.
        resident: makes the batches.

    Attributes:
        capture: whether steps are captured where that is possible.
    """

    def __init__(self, recipe: ImageRecipe, resident: Resident) -> None:
        self.recipe, self.resident = recipe, resident
        self.capture = True
        self.numbers = torch.empty(0)
        self._image: ImageConfig | None = None
        self._captured: Captured | None = None

    def descend(self, step: int) -> Mapping[str, Tensor]:
        """Do one step; the next step overwrites the terms of the objective that it returns."""
        recipe, numbers = self.recipe, self.resident.numbers(step)
        if len(self.numbers) != len(numbers):
            self.numbers = torch.empty_like(numbers, device=recipe.setup.device)
        self.numbers.copy_(numbers, non_blocking=True)
        image = image_at(recipe.state.place, recipe.config)
        if self._captured is None or image != self._image:
            self._image = image
            self._captured = Captured(self._step, recipe.setup.device, recipe.setup.say)
            self._captured.possible &= self.capture
        return self._captured()

    def _step(self) -> Mapping[str, Tensor]:
        assert self._image is not None
        with torch.no_grad():
            batch = self.resident.batch(self.numbers, self._image)
        loss, terms = batch_objective(self.recipe.online, batch, self.recipe.config.train)
        self.recipe.state.descend(loss)
        return terms


def narrow_canvas(outlines: Sequence[Outline], image: ImageConfig) -> str:
    """A sentence that the labelled structures do not fit onto the canvases; empty if they do.

    Args:
        outlines: of the training cases.
        image: size of the canvases.
    """
    if all(one.half is None for one in outlines):
        return ""
    needed, covered = 2 * float(box_of(outlines, 0.0)[0]), image.pixels * image.pixel_mm
    if needed <= covered:
        return ""
    return (
        f"note: the structures are up to {needed:.0f} mm wide, but canvases of {image.pixels} pixels of "
        f"{image.pixel_mm:g} mm cover {covered:.0f} mm, and nothing beyond is seen; raise image.pixel_mm or "
        "image.pixels"
    )


class ImageRecipe(Recipe):
    """An image-conditioned field in training.

    Raises:
        CannotFitError: no slice is labelled.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        self.setup, self.config, self.anatomy = setup, setup.config, setup.anatomy
        self.cases, self.labels = setup.cases, setup.anatomy.labels
        self.mirrors = self.config.image.mirrors if self.anatomy.turn else 0
        labelled = [i for i, one in enumerate(setup.outlines) if one.labelled_slices]
        if not labelled:
            raise CannotFitError("no slice is labelled; an image-conditioned field needs labels to train on")
        if said := narrow_canvas(setup.outlines, self.config.image):
            setup.say(said)
        regions = setup.regions()
        regions = [regions[i] for i in labelled]
        pool = pool_of(chosen(setup.cases, labelled), regions, measured_stacks(self.config.image.pixel_mm))
        refuse_idle(self.config.train.subjects, len(pool))
        augment = for_anatomy(self.config.augment, self.anatomy)
        workers = workers_for(setup.device) if setup.workers is None else setup.workers
        self.samples = Prefetched(Sampler(pool, self.config, augment), self.config.train.steps, workers)
        # On a GPU samples are made there, except on several ranks or if worker processes are asked for.
        resident = setup.device.type != "cpu" and setup.workers is None and world() == 1
        self.on_device = (
            CapturedSteps(self, Resident(pool, self.config, augment, setup.device)) if resident else None
        )
        validated = setup.validated() if is_first() else ()
        found = [(case, setup.search.find(case)[0]) for case in validated if case.labelled()]
        self.given, self.hidden = validation_cases(found, self.config.image, self.config.train.seed)
        self.online = ImageField(self.config.field, self.config.image).to(setup.device)
        self.average, self.state = averaged(self.online, self.config.train)

    @override
    def begin_with(self, start: Prior) -> None:
        """Load the weights of another prior; exchanges that it lacks are initialised."""
        for module in (self.online, self.field):
            module.load_state_dict({**self.online.state_dict(), **start.field.state_dict()})

    @property
    def field(self) -> ImageField:
        """The averaged network."""
        assert isinstance(self.average.module, ImageField)
        return self.average.module

    @override
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = self.samples(step, image_at(self.state.place, self.config))
        samples = [sample.to(self.setup.device) for phases in drawn for sample in phases]
        return image_objective(self.online, samples, self.config.train, [len(phases) for phases in drawn])

    @override
    def descend(self, step: int) -> Mapping[str, Tensor]:
        return super().descend(step) if self.on_device is None else self.on_device.descend(step)

    @override
    def after_step(self) -> None:
        update_average(self.average, self.online)

    @override
    def close(self) -> None:
        self.samples.close()

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
        """Minimum certainty of each structure's sections, chosen on the validation cases."""
        volumes = [*self.given, *self.hidden]
        found = list(answers(self.field.eval(), volumes, both=self.anatomy.reorder, mirrors=self.mirrors))
        chosen = least_certainty(found, len(self.labels))
        asked = (f"{name} {least:g}" for name, least in zip(self.labels[1:], chosen, strict=True) if least)
        self.setup.say(f"minimum certainty of a section: {', '.join(asked) or 'none required'}")
        return chosen

    @override
    def finish(self, last: Validation | None, card: Mapping[str, Any]) -> ImagePrior:
        config, search = self.config, self.setup.search
        if config.fit.islands == "remove" and self.given:
            config = replace(config, fit=replace(config.fit, certain=self.certain()))
        return ImagePrior(config, self.anatomy, self.field.cpu(), search.half, search.finder, card)
