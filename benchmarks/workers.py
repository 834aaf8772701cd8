"""How many cases per hour do workers process? One process and several, over the same cases, alternately.

    python benchmarks/workers.py COHORT PRIOR -o OUT.json [--cases 8] [--workers 2] [--repeats 3]

Prints wall-clock and CPU seconds of both (use the latter on a busy machine), their ratio, the cost per
volume besides the networks, and whether all output files are identical. A warm-up round is not counted.
On idle cores, N workers process N times as many cases as one process if a case costs the same CPU
seconds.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common import cohort_parser
from nisf.engines import Begin, Engine, InProcess, Work, Workers
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.io.readers import CaseFiles, only_named, open_cohort
from nisf.kinds.load import load_prior
from nisf.outputs.names import file_stem
from timing import load_average, machine, summary

COMPUTING = {"encoding", "rendering", "measuring", "judging", "error bars", "islands"}
"""Stages whose time is the networks' and the integrals', not what surrounds them."""

say = partial(print, flush=True)


def run_once(engine: Engine, cases: Sequence[CaseFiles], volumes: int) -> dict[str, float]:
    """Seconds of one run by clock; ``around`` are the CPU seconds per volume spent outside the networks."""
    began = time.perf_counter()
    results = [result for _, result in engine.run(cases, lambda *_: None)]
    wall = time.perf_counter() - began
    around = 0.0
    for result in results:
        computing = sum(seconds for name, seconds in result.stages.items() if name in COMPUTING)
        around += (result.seconds - computing) * result.cpu_s / result.seconds
    return {"wall": wall, "cpu": sum(result.cpu_s for result in results), "around": around / volumes}


def hashes(folder: Path, cases: Sequence[CaseFiles]) -> dict[str, str]:
    """Hashes of all output that must not depend on the number of workers."""
    out = {}
    for files in cases:
        for path in sorted(folder.glob(f"{file_stem(files.name)}*")):
            if path.name.endswith((".nii.gz", ".measures.json")):
                out[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = cohort_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    prior = load_prior(options.prior)
    cohort = open_cohort(options.cohort, prior.anatomy, labels=False)
    cases = only_named(cohort.cases, options.only)[: options.cases]
    volumes = sum(max(len(stack.images), 1) for files in cases for stack in files.stacks)
    begin = Begin(str(prior.source), prior.digest)
    found: dict[str, list[dict[str, float]]] = {"one process": [], f"{options.workers} workers": []}
    written: dict[str, dict[str, str]] = {}
    for turn in range(options.repeats + 1):
        for name in found if turn % 2 else reversed(found):
            with tempfile.TemporaryDirectory() as folder:
                work = Work(Path(folder), memory_mb=256.0)
                alone = name == "one process"
                engine = InProcess(prior, work) if alone else Workers(begin, work, options.workers)
                seconds = run_once(engine, cases, volumes)
                written[name] = hashes(Path(folder), cases)
            if turn:
                found[name].append(seconds)
                say(f"  {name}: " + ", ".join(f"{clock} {value:.2f} s" for clock, value in seconds.items()))
    clocks: dict[str, Any] = {
        name: {clock: summary([run[clock] for run in runs]) for clock in runs[0]}
        for name, runs in found.items()
    }
    one, several = clocks.values()
    same = len({str(sorted(content.items())) for content in written.values()}) == 1
    ratio = {clock: one[clock]["median"] / several[clock]["median"] for clock in ("wall", "cpu")}
    say(f"{len(cases)} cases, {volumes} volumes; files {'are the same' if same else 'DIFFER'}")
    say(f"one process / {options.workers} workers: wall {ratio['wall']:.2f}, cpu {ratio['cpu']:.2f}")
    say(f"around the networks: {one['around']['median']:.2f} CPU s a volume")
    about = {"machine": {**machine(), "load_after": load_average()}, "cases": len(cases), "volumes": volumes}
    write_json(options.output, {**about, "clocks": clocks, "ratio": ratio, "same": same})
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("workers.py", main))
