"""Report the steps of a latent's fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nisf.config.schema import FitConfig
from nisf.data.points import Batch, CasePoints, batch_of
from nisf.networks.latent_field import LatentField
from nisf.networks.losses import intensity_bce
from nisf.prior.fit_step import FitStep, OnStep
from nisf.subject.subject import Subject

LOSS_POINTS = 4096
"""Number of points on which the reported loss is computed."""


@dataclass(frozen=True, eq=False)
class Steps:
    """The callback of a fit that reports its steps.

    Attributes:
        field: the network.
        points: points of the case, in the orientation that is fitted.
        config: settings of the fit.
        seed: seed of the points on which the loss is computed.
        subject_of: makes a subject from a latent.
        see: called with each step.
    """

    field: LatentField
    points: CasePoints
    config: FitConfig
    seed: int
    subject_of: Callable[[Tensor], Subject]
    see: OnStep

    @cached_property
    def _batch(self) -> Batch:
        index = self.points.spread(np.random.default_rng([self.seed, 20]), LOSS_POINTS)
        return batch_of([(self.points, index)])

    def _loss(self, latent: Tensor) -> float:
        """Mean cross-entropy of the intensities."""
        batch, device = self._batch, latent.device
        with torch.no_grad():
            logits = self.field.intensity(batch.coordinates.to(device), latent)
            return float(intensity_bce(logits, batch.intensity.to(device), batch.weight.to(device))[0])

    def __call__(self, step: int, latents: Tensor) -> None:
        """See `nisf.prior.prior.FitCallback`."""
        second = self.config.method == "second-order"
        latent = latents.detach().clone()
        self.see(
            FitStep(
                step,
                self.config.iterations if second else self.config.steps,
                lambda: self.subject_of(latent[0].cpu()),
                lambda: self._loss(latent),
            )
        )
