"""Timing: rates of tasks side by side, ceilings, and the machine that the numbers depend on."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nisf import __version__
from nisf.config.schema import FieldConfig
from nisf.device import bf16_units
from nisf.errors import BadFileError, NisfError

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
