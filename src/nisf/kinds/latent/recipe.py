"""The paper's recipe: an auto-decoder, which trains weights and one latent per subject (section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from nisf.chunks import training_points
from nisf.config.schema import TrainConfig
from nisf.data.case import Case
from nisf.data.outline import chosen
from nisf.data.points import Batch, CasePoints, batch_of
from nisf.data.region import Region
from nisf.device import CPU, module_device
from nisf.errors import BadSettingError, CannotFitError
from nisf.kinds.latent.axes import refuse_more_axes
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.latent.selection import choose_fit
from nisf.kinds.latent.validation import StepDice, validate, validation_points
from nisf.kinds.pool import MappedPool, Prepared, pool_of, some
from nisf.kinds.recipe import Recipe, TrainingSetup
from nisf.networks.latent_field import LatentField
from nisf.networks.losses import class_bce, dice_loss, intensity_bce
from nisf.optimisation.compile import compiled, in_parts
from nisf.optimisation.loop import Validation, subjects_of
from nisf.optimisation.muon import weight_optimisers
from nisf.optimisation.ranks import Rows, counted_once, gathered, is_first, refuse_idle, share, summed, world
from nisf.optimisation.state import State
from nisf.prior.prior import Prior


def latent_state(field: LatentField, config: TrainConfig, subjects: int) -> State:
    """The initial state of an auto-decoder: weights as given, latents drawn at random."""
    # Drawn on the CPU, so that a seed gives the same latents on every device.
    drawn = nn.Embedding(subjects, field.config.latent)
    nn.init.normal_(drawn.weight, std=config.latent_init)
    latents = Rows(drawn.weight.detach(), sparse=config.latent_rows)
    latents.to(module_device(field))
    weights = weight_optimisers(field, config, weight_decay=0.0)  # the objective contains the penalty
    kind = torch.optim.SparseAdam if config.latent_rows else torch.optim.Adam
    optimisers = [*weights, kind(latents.parameters(), lr=config.latent_rate)]
    return State({"field": field, "latents": latents}, optimisers)


def draw_batch(
    pool: Sequence[CasePoints], config: TrainConfig, step: int, device: torch.device = CPU
) -> tuple[Tensor, Batch]:
    """The subjects of a step, and this rank's part of their points, on the device.

    Depends only on seed and step.
    """
    chosen, own, drawn = subjects_of(step, len(pool), config), share(config.subjects), []
    for number in own:
        points = pool[chosen[number]]
        rng = np.random.default_rng([config.seed, 3, step, number])
        index = points.draw(rng, config.points, config.balanced) if config.points else points.frame(rng)
        drawn.append((points, index))
    # Whole frames are padded, so that compiled code sees a single shape.
    pad = 1 if config.points else training_points(len(own), device)
    return torch.tensor(chosen, device=device), batch_of(drawn, pad_to=pad).to(device)


def objective(
    network: Callable[..., tuple[Tensor, Tensor]],
    field: LatentField,
    latent: Tensor,
    batch: Batch,
    config: TrainConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss and its terms (paper, equation 1); on several ranks, that of all ranks' subjects."""
    intensity, classes = in_parts(network, batch.coordinates, latent)
    each = torch.stack(
        [
            class_bce(classes, batch.label, batch.weight),
            dice_loss(classes, batch.label, batch.weight),
            intensity_bce(intensity, batch.intensity, batch.weight),
        ],
        dim=1,
    )
    terms = dict(zip(("class_bce", "dice_loss", "intensity_bce"), gathered(each).mean(0), strict=True))
    penalty = config.weight_l2 * torch.stack([p.square().sum() for p in field.penalised()]).sum()
    penalty = counted_once(penalty) + config.latent_l2 * gathered(latent).square().mean()
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"] + penalty
    return loss, {"loss": loss, **terms}


def _mean_and_covariance(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the rows of all ranks without gathering them; each has at least one row."""
    count = summed(rows.new_tensor(float(len(rows))))
    mean = summed(rows.sum(0)) / count
    apart = rows - mean
    return mean, summed(apart.T @ apart) / (count - 1)


def case_points(dimensions: int) -> Prepared[CasePoints]:
    """How the points of a case are prepared and stored.

    Args:
        dimensions: number of dimensions of the field's coordinates.
    """
    options = {"dimensions": dimensions}
    make = partial(_points, dimensions=dimensions)
    return Prepared("points-1", options, make, CasePoints.arrays, CasePoints.of_arrays)


def _points(case: Case, region: Region, *, dimensions: int) -> CasePoints:
    return CasePoints(case, region, dimensions)


class LatentRecipe(Recipe):
    """Weights and latents of all subjects, optimised together.

    Raises:
        BadSettingError: worker processes are asked for.
        CannotFitError: no case was measured inside its region, or the first one has an axis (slices, frames)
            that the field does not have.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        if setup.workers:
            raise BadSettingError(
                "this kind of field draws its points in the training process; leave the worker processes out",
                options=("workers",),
            )
        self.setup, self.config, self.labels = setup, setup.config, setup.anatomy.labels
        dimensions = self.config.field.dimensions
        if dimensions < 4:
            refuse_more_axes(setup.cases[0], dimensions, setup.anatomy)
        regions, outlines = setup.regions(), setup.outlines
        every = pool_of(setup.cases, regions, case_points(dimensions))
        # Stored points are not read here: a box around labels is never empty.
        known = [isinstance(every, MappedPool) and one.pose is not None for one in outlines]
        filled = [i for i, sure in enumerate(known) if sure or len(every[i])]
        if not filled:
            raise CannotFitError("no case was measured inside its region; check the folder with 'nisf check'")
        if len(filled) < len(every):
            setup.say(f"left out {len(every) - len(filled)} cases without measurements inside their region")
        self.cases, self.pool = chosen(setup.cases, filled), some(every, filled)
        refuse_idle(self.config.train.subjects, len(self.pool))
        validated = setup.validated() if is_first() else ()
        self.validation = validation_points(validated, setup.search, setup.anatomy, dimensions)
        self.field = LatentField(self.config.field).to(setup.device)
        self.state = latent_state(self.field, self.config.train, len(self.pool))
        self.network = compiled(self.field, setup.say) if self.config.train.compile else self.field

    @property
    def latents(self) -> Tensor:
        """Latents of this rank's subjects (s, l)."""
        embedding = self.state.modules["latents"]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight

    @override
    def begin_with(self, start: Prior) -> None:
        """Load the weights of another prior; every latent starts near that prior's mean."""
        assert isinstance(start, LatentPrior)
        self.field.load_state_dict(start.field.state_dict())
        with torch.no_grad():
            self.latents.add_(start.latent_mean.to(self.setup.device))

    @override
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, batch = draw_batch(self.pool, self.config.train, step, self.setup.device)
        own = share(self.config.train.subjects)
        latent = self.state.modules["latents"](chosen)[own.start : own.stop]
        return objective(self.network, self.field, latent, batch, self.config.train)

    @override
    def validate(self) -> StepDice | None:
        statistics = self.statistics()  # every rank contributes to them
        if not self.validation:
            return None
        return validate(self.field, *statistics, self.validation, self.config, self.labels, self.setup.say)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean (l,) and covariance (l, l) of the training latents."""
        latents = self.latents.detach()
        if world() > 1:
            return _mean_and_covariance(latents)
        if len(latents) > 1:
            return latents.mean(0), torch.cov(latents.T)
        return latents.mean(0), torch.eye(latents.shape[1], device=latents.device) * 1e-4

    @override
    def weights(self) -> dict[str, Tensor]:
        mean, covariance = self.statistics()
        network = {f"field.{name}": tensor for name, tensor in self.field.state_dict().items()}
        return {**network, "latent.mean": mean, "latent.covariance": covariance}

    @override
    def finish(self, last: Validation | None, card: Mapping[str, Any]) -> LatentPrior:
        setup, config = self.setup, self.config
        mean, covariance = self.statistics()
        if isinstance(last, StepDice):
            fitting = replace(config.fit, steps=last.best_steps)
            if config.fit.method == "second-order":
                fitting = choose_fit(
                    self.field, mean, covariance, self.validation, config, self.labels, setup.say
                )
            config = replace(config, fit=fitting)
        return LatentPrior(
            config,
            setup.anatomy,
            self.field.cpu(),
            setup.search.half,
            setup.search.finder,
            card,
            latent_mean=mean.cpu(),
            latent_covariance=covariance.cpu(),
        )
