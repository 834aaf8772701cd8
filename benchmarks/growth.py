"""How do time and memory grow with points, subjects in a batch, and frames?

    python benchmarks/growth.py -o OUT [--quick] [--clock cpu]

Each measurement runs in its own process, so that peaks of memory are separate; the memory of Python and
PyTorch before any work is subtracted. OUT gets ``growth.json`` and ``growth.png``. The network is the
paper's, with random weights. The baseline is `plain.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import plain
from common import new_parser
from nisf.config.schema import FitConfig
from nisf.data.geometry import Grid
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.latent.fit import fit_latents
from nisf.kinds.latent.model import LatentSubject
from nisf.networks.latent_inference import ask
from nisf.phantom import Scanner
from timing import CLOCKS, machine
from workloads import Workload, phantom_workload

SCANNER = Scanner(matrix=(64, 64), spacing_mm=3.0, frames=2, beyond=0)
MEMORY_MB = 64.0
"""Budget given to queries."""

SIZES = {
    "points of a query": [1 << k for k in range(14, 21)],
    "points of a query, plain": [1 << k for k in range(14, 19)],
    "subjects in a fit": [1, 2, 4, 8, 16],
    "frames rendered": [1, 2, 4, 8, 16],
}
QUICK = {name: sizes[:3] for name, sizes in SIZES.items()}
LABELS = {name: name.removesuffix(", plain") for name in SIZES}


def fresh_peak() -> float:
    """Return free memory to the system, reset the peak (Linux), and return the memory in use, MiB."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """Peak memory of this process since `fresh_peak`, MiB."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@functools.cache
def phantom() -> Workload:
    """The phantom and prior that all measurements use."""
    return phantom_workload(SCANNER)


def prepared(kind: str, size: int) -> Callable[[], Any]:
    """The work of one measurement as a function, with its inputs prepared."""
    workload = phantom()
    prior, rng = workload.prior, np.random.default_rng(0)
    latent = prior.latent_mean
    if kind.startswith("points of a query"):
        coordinates = rng.uniform(-1, 1, (size, 4)).astype(np.float32)
        if kind.endswith("plain"):
            network = plain.PlainField(prior.field).requires_grad_(False)
            return partial(network, torch.from_numpy(coordinates), latent)
        return partial(ask, prior.field, latent, coordinates, memory_mb=MEMORY_MB)
    if kind == "subjects in a fit":
        config = FitConfig(steps=5, points=1024)
        start = latent[None].repeat(size, 1)
        return partial(fit_latents, prior.field, [workload.points] * size, start, config)
    stacks = workload.case.stacks
    own = stacks[0].grid
    grid = Grid((own.shape[0], own.shape[1], 4), own.affine).with_frames(size)
    subject = LatentSubject("x", prior, workload.region, stacks, latent=latent)
    return partial(subject.render, grid, memory_mb=MEMORY_MB)


def measure_here(kind: str, size: int, clock: str) -> dict[str, float]:
    """Seconds and MiB of one measurement in this process."""
    work = prepared(kind, size)
    small = prepared(kind, 1 if "points" not in kind else 256)
    with torch.no_grad() if "plain" in kind else torch.enable_grad():
        small()  # what PyTorch sets up on first use is not the work's
        now = CLOCKS[clock]
        before, began = fresh_peak(), now()
        work()
        return {"size": size, "seconds": now() - began, "mb": peak_mib() - before}


def measure(kind: str, size: int, clock: str) -> dict[str, float]:
    """Seconds and MiB of one measurement in a new process."""
    command = [sys.executable, __file__, "--one", kind, str(size), "--clock", clock]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(rows: list[dict[str, float]]) -> float:
    """Slope of log time against log size: 1 is linear growth."""
    size, seconds = (np.log([row[name] for row in rows]) for name in ("size", "seconds"))
    return float(np.polyfit(size, seconds, 1)[0])


def draw(result: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw seconds (top) and memory (bottom), one column per quantity, the baseline in grey."""
    import matplotlib as mpl

    from nisf.picture import STYLE, new_figure, save_figure

    columns = sorted(set(LABELS.values()), key=list(LABELS.values()).index)
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(8.0, 4.4)
        axes = figure.subplots(2, len(columns), sharex="col")
        for kind, rows in sorted(result.items(), key=lambda item: item[0].endswith("plain")):
            column = columns.index(LABELS[kind])
            colour = "#9a9a9a" if kind.endswith("plain") else "#30638e"
            size = [row["size"] for row in rows]
            label = "plain, eager" if kind.endswith("plain") else "nisf"
            axes[0, column].loglog(size, [row["seconds"] for row in rows], "o-", color=colour, label=label)
            axes[1, column].loglog(size, [max(row["mb"], 0.1) for row in rows], "o-", color=colour)
            axes[1, column].set_xlabel(LABELS[kind])
            for axis in axes[:, column]:
                names = [f"{n // 1024}k" if n >= 1024 else str(n) for n in size]
                axis.set_xticks(size, names)
                axis.minorticks_off()
        for axis in axes.flat:  # at least a decade, so that next to nothing does not look like growth
            low, high = axis.get_ylim()
            axis.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
        axes[0, 0].set_ylabel("seconds")
        axes[1, 0].set_ylabel("MiB beyond the start")
        axes[0, 0].legend()
        save_figure(figure, path)


def main(arguments: list[str] | None = None, sizes: dict[str, list[int]] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = new_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "SIZE"), help=argparse.SUPPRESS)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure_here(options.one[0], int(options.one[1]), options.clock)))
        return 0
    if options.output is None:
        parser.error("-o OUT: say where to write")
    result: dict[str, list[dict[str, float]]] = {}
    for kind, chosen in (sizes or (QUICK if options.quick else SIZES)).items():
        result[kind] = [measure(kind, size, options.clock) for size in chosen]
        for row in result[kind]:
            print(f"{kind}: {row['size']:>9,} {row['seconds']:9.3f} s {row['mb']:9.1f} MiB", flush=True)
        if len(chosen) > 1:
            print(f"{kind}: time grows with the power {exponent(result[kind]):.2f}")
    write_json(options.output / "growth.json", {"machine": machine(), "clock": options.clock, **result})
    draw(result, options.output / "growth.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("growth.py", main))
