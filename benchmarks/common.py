"""What the benchmarks share: arguments, cohorts and priors, workloads, timing, the machine."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from nisf import __version__
from nisf.config.overrides import override
from nisf.config.presets import preset
from nisf.config.schema import Config, FieldConfig, FitConfig, for_data
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.outline import box_of, outlines_of
from nisf.data.points import Batch, CasePoints
from nisf.data.region import Region, region_from_labels
from nisf.device import CPU, bf16_units
from nisf.errors import BadFileError, BadSettingError, CannotFitError, NisfError
from nisf.files import replacing
from nisf.io.readers import CaseReader, only_named, open_cohort, read_case
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.load import load_prior
from nisf.kinds.registry import KINDS
from nisf.networks.latent_field import LatentField
from nisf.phantom import Scanner, cohort
from nisf.prior.prior import Prior

FIT = FitConfig(steps=672, points=1024)
"""How nisf fits where no prior says so."""

PriorType = TypeVar("PriorType", bound=Prior)


def new_parser(text: str | None) -> argparse.ArgumentParser:
    """An argument parser that prints ``text`` without re-wrapping it."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def prior_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser of ``PRIOR --data DATA -o OUT``.

    Args:
        text: text of the help.
    """
    parser = new_parser(text)
    parser.add_argument("prior", help="folder, or name of a model that comes with nisf")
    parser.add_argument("--data", type=Path, required=True, help="cohort with labels")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser


def cohort_parser(text: str | None, cases: int | None = 8) -> argparse.ArgumentParser:
    """A parser of ``COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]``.

    Args:
        text: text of the help.
        cases: default of ``--cases``; None for all.
    """
    parser = new_parser(text)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("prior", help="folder, or name of a model that comes with nisf")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--cases", type=int, default=cases)
    return parser


def device_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser of ``-o OUT [--device cuda] [--quick]``, for benchmarks without a cohort."""
    parser = new_parser(text)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    return parser


def cases_of(folder: Path, prior: Prior, only: Path | None, count: int | None = None) -> Iterator[Case]:
    """Yield the first ``count`` cases that ``only`` names; cases that cannot be read are reported at the end.

    Raises:
        NisfError: none of them can be read.
    """
    found = open_cohort(folder, prior.anatomy)
    reader = CaseReader(found, prior.anatomy, only_named(found.cases, only)[:count])
    yield from (case for _, case in reader if isinstance(case, Case))
    for line in reader.lines():
        print(line, file=sys.stderr)
    if len(reader.failed) == len(reader):
        raise NisfError(f"{folder}: none of {len(reader)} cases can be read")


@dataclass(frozen=True)
class Refused:
    """Items that could not be processed; the benchmark goes on without them.

    Attributes:
        sentences: the error messages, by name of the item.
    """

    sentences: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def go_on(self, name: str) -> Generator[None]:
        """Record a `NisfError` of the block instead of passing it on."""
        try:
            yield
        except NisfError as error:
            self.sentences[name] = str(error)
            print(f"refused: {name}: {error}", file=sys.stderr, flush=True)

    def status(self) -> int:
        """Exit status of the benchmark; prints which items its numbers leave out."""
        if self.sentences:
            print(f"refused, not in these numbers: {', '.join(self.sentences)}")
        return 1 if self.sentences else 0

    def check_any(self, done: Collection[Any]) -> None:
        """Raise if nothing was processed.

        Raises:
            NisfError: every item failed; the message is that of the first.
        """
        if not done:
            raise NisfError(f"nothing could be measured ({next(iter(self.sentences.values()), 'no case')})")


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


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file, completely or not at all; the keys of the first row are the columns."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


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


Task = Callable[[], float]
"""Does the work once; returns how many points it was."""


def cpu_seconds() -> float:
    """CPU seconds of this process and of its finished children.

    With one thread, about what `time.perf_counter` would measure on an idle machine.
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
    """Points per second of each task in each of ``repeats`` rounds over all tasks, after a warm-up round."""
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


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median and range of repeated measurements."""
    every = list(values)
    return {"median": statistics.median(every), "least": min(every), "most": max(every), "all": every}


def run_nisf(
    checkout: Path, arguments: Sequence[str], folder: Path, threads: int = 1
) -> tuple[dict[str, float], str]:
    """Run `nisf` from a checkout; returns the seconds by each of `CLOCKS`, and its output.

    Args:
        checkout: root of the repository.
        arguments: arguments of the command.
        folder: working directory.
        threads: number of threads of the numerical libraries.

    Raises:
        BadFileError: there is no package in the checkout.
        NisfError: the command failed.
    """
    source = (checkout / "src").resolve()
    if not (source / "nisf").is_dir():
        raise BadFileError(f"{checkout}: has no src/nisf; give the root of a checkout")
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "nisf", *arguments]
    began = {name: clock() for name, clock in CLOCKS.items()}
    done = subprocess.run(
        command,
        env={**os.environ, **counts, "PYTHONPATH": str(source)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = {name: clock() - began[name] for name, clock in CLOCKS.items()}
    if done.returncode:
        raise NisfError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def forward_flop(config: FieldConfig) -> int:
    """Floating-point operations of the matrix products per point, without parts that all points share."""
    rows = config.width * (2 if config.activation == "gabor" else 1)
    layers = config.inputs * rows + (config.layers - 1) * config.width * rows
    return 2 * (layers + config.width * (config.channels + config.classes))


def product(rows: int, inner: int, columns: int) -> Task:
    """A task that multiplies fp32 matrices; its points are floating-point operations."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    times = max(1, int(2e9 / (2 * rows * inner * columns)))

    def task() -> float:
        for _ in range(times):
            torch.mm(a, b, out=out)
        return 2.0 * rows * inner * columns * times

    return task


def ceilings() -> dict[str, Task]:
    """Matrix products whose best rate is the attainable peak of this machine."""
    return {
        "product 1024 x 1024 x 1024": product(1024, 1024, 1024),
        "product 1024 x 128 x 256": product(1024, 128, 256),
    }


def load_average() -> float | None:
    """Load average of the last minute; None where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine() -> dict[str, Any]:
    """Hardware and versions that the numbers depend on, and the load by other processes."""
    model = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_units(),
        "load_before": load_average(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "nisf": __version__,
    }
