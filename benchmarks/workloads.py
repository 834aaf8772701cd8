"""Workloads of the benchmarks: a prior and a case, a configuration, points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from common import cases_of
from nisf.config.overrides import override
from nisf.config.presets import preset
from nisf.config.schema import Config, FitConfig, for_data
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.outline import box_of, outlines_of
from nisf.data.points import Batch, CasePoints
from nisf.data.region import Region, region_from_labels
from nisf.device import CPU
from nisf.errors import BadSettingError, CannotFitError
from nisf.io.readers import open_cohort, read_case
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.load import load_prior
from nisf.kinds.registry import KINDS
from nisf.networks.latent_field import LatentField
from nisf.phantom import Scanner, cohort
from nisf.prior.prior import Prior

FIT = FitConfig(steps=672, points=1024)
"""How nisf fits where no prior says so."""

PriorType = TypeVar("PriorType", bound=Prior)


def points_of(folder: Path, prior: LatentPrior, only: Path | None, count: int | None) -> list[CasePoints]:
    """Points of the labelled cases, in the region that the prior finds.

    Raises:
        NisfError: none of the cases can be read.
        CannotFitError: none of them has labels.
    """
    points = prior.validation_points(list(cases_of(folder, prior, only, count)))
    if not points:
        raise CannotFitError(f"{folder}: no case has labels, which are compared with")
    return points


def prior_of_kind(folder: str | Path, kind: type[PriorType]) -> PriorType:
    """Load a prior by its folder or the name of a model, and check its kind.

    Raises:
        BadSettingError: it is of another kind than the benchmark is about.
    """
    prior = load_prior(folder)
    if not isinstance(prior, kind):
        wanted = next(name for name, found in KINDS.items() if found.prior is kind)
        raise BadSettingError(f"{folder}: of the kind '{prior.kind}'; give a prior of the kind '{wanted}'")
    return prior


@dataclass(frozen=True, eq=False)
class Workload:
    """The data of a measurement: a labelled case, its region, and a prior with the paper's network."""

    case: Case
    prior: LatentPrior
    region: Region
    trained: bool

    @property
    def points(self) -> CasePoints:
        return CasePoints(self.case, self.region, self.prior.config.field.dimensions)


def phantom_workload(scanner: Scanner) -> Workload:
    """A phantom and the paper's network with random weights, which is as fast as a trained one."""
    case = next(iter(cohort(1, seed=0, scanner=scanner))).case
    anatomy = load_anatomy("cardiac-sax")
    config = for_data(preset("paper"), dimensions=4, channels=1, classes=len(anatomy.labels))
    config = replace(config, fit=FIT)
    torch.manual_seed(0)
    half = box_of(outlines_of([case], order=anatomy.reorder), config.region.margin_mm)
    latent = torch.zeros(config.field.latent)
    prior = LatentPrior(
        config,
        anatomy,
        LatentField(config.field),
        half,
        latent_mean=latent,
        latent_covariance=torch.eye(len(latent)) * 1e-4,
    )
    region = region_from_labels(case, half, order=True)
    assert region is not None
    return Workload(case, prior, region, trained=False)


def real_workload(folder: Path, prior_folder: Path, name: str | None) -> Workload:
    """A case of a cohort (its first if not named) and a trained prior."""
    prior = prior_of_kind(prior_folder, LatentPrior)
    files = open_cohort(folder, prior.anatomy).cases
    chosen = [f for f in files if f.name == name] if name else files[:1]
    if not chosen:
        raise BadSettingError(f"{folder}: holds no case {name}")
    case = read_case(chosen[0], prior.anatomy)
    if prior.half is None:
        raise BadSettingError(
            f"{prior_folder}: looks at the whole field of view; train one with region.whole=false"
        )
    region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
    if region is None:
        raise CannotFitError(f"{case.name}: has no labels, which the comparison needs")
    return Workload(case, prior, region, trained=True)


def image_config(*settings: str) -> Config:
    """The preset `image` for a heart's cine, with full canvases from the first step, and more settings."""
    chosen = override(preset("image"), ["augment.coarse=0", *settings])
    return for_data(chosen, dimensions=4, channels=1, classes=4)


def random_batch(points: int, device: torch.device = CPU) -> Batch:
    """Random points of one subject; their cost is that of real ones."""
    return Batch(
        torch.rand(1, points, 4) * 2 - 1,
        torch.rand(1, points, 1),
        torch.randint(0, 4, (1, points)),
        torch.ones(1, points),
    ).to(device)
