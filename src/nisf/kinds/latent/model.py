"""The paper's prior and its subjects: a field, and one latent per subject (section 2.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from nisf.config.schema import Config, FitConfig
from nisf.data.case import Case
from nisf.data.points import CasePoints
from nisf.data.region import Region
from nisf.device import module_device
from nisf.errors import BadFileError, BadSettingError, CannotFitError
from nisf.kinds.latent.axes import refuse_more_axes
from nisf.kinds.latent.breath_hold import AtBreathHold, BreathHold, breath_hold_of, shifted
from nisf.kinds.latent.correction import corrected_latent
from nisf.kinds.latent.exportable import exportable_field, exportable_subject
from nisf.kinds.latent.fit import fit_latents, orientations, oriented
from nisf.kinds.latent.parametrisation import breath_holds_of, moved_region, parametrisation_of
from nisf.kinds.latent.posterior import draw_latents
from nisf.kinds.latent.second_order import fit_second_order, laplace
from nisf.kinds.latent.steps import Steps
from nisf.kinds.latent.validation import validation_points
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask, ask_samples
from nisf.prior.exportable import Exportable
from nisf.prior.fit_step import OnStep
from nisf.prior.prior import FitCallback, Prior
from nisf.prior.stored import Stored
from nisf.prior.subject_record import SubjectRecord
from nisf.subject.answerer import Answerer, InRegion
from nisf.subject.in_line import SliceBySlice
from nisf.subject.subject import Subject


@dataclass(frozen=True, eq=False, repr=False)
class LatentSubject(Subject):
    """One subject, fitted by a `nisf.kinds.latent.model.LatentPrior`.

    Attributes:
        latent: (l,).
        covariance: covariance of the latent's Laplace posterior (l, l); None in files of format 1.
        breath_holds: the fitted breath-holds; empty if none were fitted.
    """

    prior: LatentPrior
    latent: Tensor = field(kw_only=True)
    covariance: Float[Tensor, "l l"] | None = field(default=None, kw_only=True)
    breath_holds: tuple[BreathHold, ...] = field(default=(), kw_only=True)

    @cached_property
    def field_answers(self) -> Answerer:
        return self._answers_of(self.corrected_latent[None])

    @cached_property
    def corrected_latent(self) -> Float[Tensor, "l"]:
        """The latent that also explains the strokes; without strokes, the latent itself."""
        if not self.strokes:
            return self.latent
        prior = self.prior
        device = module_device(prior.field)
        covariance = prior.latent_covariance if self.covariance is None else self.covariance
        labels = prior.anatomy.labels
        return corrected_latent(
            prior.field, self.latent.to(device), covariance.to(device), self.strokes, labels, self.region
        )

    def _answers_of(self, latents: Float[Tensor, "m l"]) -> Answerer:
        """Answers for one latent, or averaged over several."""
        network, config = self.prior.field, self.prior.config.field
        latents = latents.to(module_device(network))

        def inside(
            scaled: np.ndarray, time: np.ndarray, memory_mb: float
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
            # A field without cyclic time knows one cycle only.
            coordinates = np.c_[scaled, time % 1.0][:, : config.dimensions]
            if len(latents) == 1:
                return *ask(network, latents[0], coordinates, memory_mb=memory_mb), None
            return ask_samples(network, latents, coordinates, memory_mb=memory_mb)

        return InRegion(self.region, config, inside)

    def sample(self, count: int, seed: int = 0) -> Float[Tensor, "m l"]:
        """Draw latents from the Laplace posterior.

        Raises:
            CannotFitError: there is no posterior.
        """
        if self.covariance is None:
            raise CannotFitError(
                f"{self.name}: was fitted by an older nisf and has no posterior; fit it again"
            )
        return draw_latents(self.corrected_latent.to(self.covariance.device), self.covariance, count, seed)

    @override
    def drawn(self, samples: int, seed: int = 0) -> Answerer:
        return self._answers_of(self.sample(samples, seed))

    @override
    def single_draws(self, samples: int, seed: int = 0) -> Sequence[Answerer]:
        return [self._answers_of(latent[None]) for latent in self.sample(samples, seed)]

    @override
    def as_measured(self, answers: Answerer, stack: int) -> Answerer:
        holds = [hold for hold in self.breath_holds if hold.stack == stack]
        if not holds:
            return super().as_measured(answers, stack)
        own, holds = self.stacks[stack], shifted(holds, self.shifts)
        return SliceBySlice(answers, {hold.position: AtBreathHold(answers, hold, own) for hold in holds})

    @override
    def exportable(self, time: float = 0.0) -> Exportable:
        """Its answers at any time; the time is an input."""
        return exportable_subject(self.prior.field, self.corrected_latent.cpu(), self.region)

    @override
    def own_tensors(self) -> dict[str, Tensor]:
        posterior = {} if self.covariance is None else {"covariance": self.covariance}
        return {"latent": self.latent, **posterior}

    @override
    def own_entries(self) -> dict[str, Any]:
        return {"breath_holds": [asdict(hold) for hold in self.breath_holds]}


@dataclass(frozen=True, eq=False, repr=False)
class LatentPrior(Prior[LatentSubject]):
    """A latent field trained on a population (paper, section 2.2).

    Attributes:
        latent_mean: mean of the training subjects' latents (l,).
        latent_covariance: their covariance (l, l).
    """

    field: LatentField
    latent_mean: Tensor = field(kw_only=True)
    latent_covariance: Tensor = field(kw_only=True)

    fit_options = frozenset({"steps", "seed", "method", "shifts", "gains", "pose", "islands", "enclosed"})

    @classmethod
    def new_field(cls, config: Config) -> LatentField:
        return LatentField(config.field)

    @classmethod
    def own_parts(cls, stored: Stored) -> dict[str, Any]:
        size = stored.config.field.latent
        return {
            "latent_mean": stored.tensor("latent.mean", (size,)),
            "latent_covariance": stored.tensor("latent.covariance", (size, size)),
        }

    @override
    def own_tensors(self) -> dict[str, Tensor]:
        return {"latent.mean": self.latent_mean, "latent.covariance": self.latent_covariance}

    @override
    def exportable(self) -> Exportable:
        return exportable_field(self.field, self.latent_mean)

    @override
    def to(self, device: torch.device) -> LatentPrior:
        if module_device(self.field) == device:
            return self
        return replace(
            self,
            field=copy.deepcopy(self.field).to(device),
            latent_mean=self.latent_mean.to(device),
            latent_covariance=self.latent_covariance.to(device),
        )

    @override
    def fit_inside(
        self, case: Case, region: Region, *, config: FitConfig, seed: int, callback: FitCallback | None
    ) -> LatentSubject:
        return self._fitted(case, region, config, seed, lambda _: callback)

    @override
    def fit_seen(
        self, case: Case, region: Region, *, config: FitConfig, seed: int, see: OnStep
    ) -> LatentSubject:
        def follow(points: CasePoints) -> FitCallback:
            def subject_of(latent: Tensor) -> LatentSubject:
                return LatentSubject(case.name, self, points.region, case.stacks, latent=latent)

            return Steps(self.field, points, config, seed, subject_of, see)

        return self._fitted(case, region, config, seed, follow)

    def _fitted(
        self,
        case: Case,
        region: Region,
        config: FitConfig,
        seed: int,
        follow: Callable[[CasePoints], FitCallback | None],
    ) -> LatentSubject:
        """See `fit_inside`; ``follow`` makes the callback, once the orientation of the case is known."""
        refuse_more_axes(case, self.config.field.dimensions, self.anatomy)
        points = CasePoints(case, region, self.config.field.dimensions)
        points, orientation = oriented(
            points, orientations(case, self.anatomy), self.field, self.latent_mean, self.config.fit, seed
        )
        model = parametrisation_of(self.field, self.latent_mean, self.latent_covariance, config, [points])
        callback = follow(points)
        summary: dict[str, Any] = {"method": config.method, "orientation": orientation}
        region, holds = points.region, ()
        if config.method == "second-order":
            found = fit_second_order(model, [points], config, seed=seed, callback=callback)
            latent, covariance, loss = found.latent, found.covariance, found.loss
            steps, holds = int(found.iterations[0]), breath_holds_of(model, found.unknowns, [points])[0]
            region = moved_region(model, found.unknowns, region)
            summary["converged"] = bool(found.converged[0])
        else:
            if sum(model.sizes[1:]):
                raise BadSettingError(
                    f"{case.name}: only the second-order method fits shifts, gains and pose; choose it",
                    options=("method",),
                )
            latent, loss = fit_latents(
                self.field, [points], self.latent_mean[None], config, seed=seed, callback=callback
            )
            steps = config.steps
            covariance = laplace(model, [points], latent, config, seed=seed)
        summary |= {"steps": steps, "intensity_bce": float(loss[0]) if steps else None}
        return LatentSubject(
            case.name,
            self,
            region,
            case.stacks,
            summary,
            latent=latent[0].cpu(),
            covariance=covariance[0].cpu(),
            breath_holds=holds,
        )

    def validation_points(self, cases: Sequence[Case]) -> list[CasePoints]:
        """Validation cases as users give them; see `nisf.kinds.latent.validation.validation_points`."""
        return validation_points(cases, self.search, self.anatomy, self.config.field.dimensions)

    @override
    def subject_of(self, record: SubjectRecord) -> LatentSubject:
        latent = record.tensors["latent"]
        size = self.config.field.latent
        if latent.shape != (size,) or not torch.isfinite(latent).all():
            raise BadFileError(
                f"{record.path}: latent of shape {tuple(latent.shape)} does not fit the prior; fit it again"
            )
        covariance = record.tensors.get("covariance")
        if covariance is not None and covariance.shape != (size, size):
            raise BadFileError(
                f"{record.path}: covariance of shape {tuple(covariance.shape)} does not fit the latent; "
                "fit it again"
            )
        # Format 2 used other names, and format 1 had no breath-holds.
        holds = record.entries.get("breath_holds", record.entries.get("held", []))
        return LatentSubject(
            prior=self,
            latent=latent,
            covariance=covariance,
            breath_holds=tuple(breath_hold_of(hold) for hold in holds),
            **record.common(),
        )

    @override
    def accepts(self, config: Config) -> bool:
        return config.field == self.config.field
