"""What the benchmarks share: subjects, interleaved timing, the machine and its ceiling."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nisf import __version__
from nisf.config.presets import preset
from nisf.config.schema import FieldConfig, FitConfig, for_data
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.points import CasePoints
from nisf.data.region import Region, half_size, region_from_labels
from nisf.device import bf16_units
from nisf.errors import BadSettingError, CannotFitError
from nisf.io.readers import open_cohort, read_case
from nisf.kinds.load import load_prior
from nisf.networks.latent_field import LatentField
from nisf.phantom import Scanner, cohort
from nisf.prior.prior import Prior

FIT = FitConfig(steps=672, points=1024)
"""How nisf fits where no prior says so."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is measured on: a labelled case in its region, and a prior of the paper's network."""

    case: Case
    prior: Prior
    region: Region
    trained: bool

    @property
    def points(self) -> CasePoints:
        return CasePoints(self.case, self.region, self.prior.config.field.dimensions)


def phantom_subject(scanner: Scanner) -> Measured:
    """A phantom, and the paper's network with random weights: as fast as a trained one, not as good."""
    case = next(iter(cohort(1, seed=0, scanner=scanner))).case
    anatomy = load_anatomy("cardiac-sax")
    config = for_data(preset("paper"), dimensions=4, channels=1, classes=len(anatomy.labels))
    config = replace(config, fit=FIT)
    torch.manual_seed(0)
    half = half_size([case], config.region.margin_mm)
    latent = torch.zeros(config.field.latent)
    prior = Prior(config, anatomy, LatentField(config.field), latent, torch.eye(len(latent)) * 1e-4, half)
    region = region_from_labels(case, half, order=True)
    assert region is not None
    return Measured(case, prior, region, trained=False)


def real_subject(data: Path, folder: Path, name: str | None) -> Measured:
    """A case of a cohort (its first if not named) and a trained prior."""
    prior = load_prior(folder)
    files = open_cohort(data, prior.anatomy).cases
    chosen = [f for f in files if f.name == name] if name else files[:1]
    if not chosen:
        raise BadSettingError(f"{data}: holds no case {name}")
    case = read_case(chosen[0], prior.anatomy)
    if prior.half is None:
        raise BadSettingError(
            f"{folder}: looks at the whole field of view; train one with region.whole=false"
        )
    region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
    if region is None:
        raise CannotFitError(f"{case.name}: has no labels, which the comparison needs")
    return Measured(case, prior, region, trained=True)


Task = Callable[[], float]
"""Does the work once; returns how many points it was."""


def cpu_seconds() -> float:
    """Of this process and of those it waited for. On a busy machine, with one thread, about what
    `time.perf_counter` would count if the machine were idle.
    """
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": cpu_seconds}


def interleaved(
    tasks: Mapping[str, Task],
    repeats: int,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Points per second of each task, ``repeats`` times, taking turns; one round before is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            began = clock()
            points = task()
            rate = points / max(clock() - began, 1e-9)
            if turn:
                rates[name].append(rate)
                say(f"  {name}: {rate:,.0f} a second")
    return rates


def summary(values: list[float]) -> dict[str, Any]:
    """Median and range of repeated measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "all": values}


def forward_flop(config: FieldConfig) -> int:
    """Floating-point operations of the matrix products of one point's answer, shared parts left out."""
    rows = config.width * (2 if config.activation == "gabor" else 1)
    layers = config.inputs * rows + (config.layers - 1) * config.width * rows
    return 2 * (layers + config.width * (config.channels + config.classes))


def product(rows: int, inner: int, columns: int) -> Task:
    """A task that multiplies fp32 matrices for a while; its points are floating-point operations."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    times = max(1, int(2e9 / (2 * rows * inner * columns)))

    def task() -> float:
        for _ in range(times):
            torch.mm(a, b, out=out)
        return 2.0 * rows * inner * columns * times

    return task


def ceilings() -> dict[str, Task]:
    """Matrix products whose best rate is what this machine can do."""
    return {
        "product 1024 x 1024 x 1024": product(1024, 1024, 1024),
        "product 1024 x 128 x 256": product(1024, 128, 256),
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on. The load says how busy the machine was with other things."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_units(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "nisf": __version__,
    }
