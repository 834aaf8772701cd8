"""Time and memory to open a cohort for training, against its number of cases.

    python benchmarks/many_cases.py /tmp/many --cases 5000

Writes small synthetic cases once (an interrupted run resumes), links them under as many names as needed,
and measures, each in its own process: the first opening, a later opening, and the steps of a training.
Prints a table, and an extrapolation to 50,000 cases at the same cost per case.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MANY = 50_000
SHAPE, FRAMES, DISTINCT = (64, 64, 8), 2, 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print the table and return the exit status."""
    parser = argparse.ArgumentParser(description="How long a cohort takes to open, and its memory.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.only:
        print(json.dumps(measured(asked.folder, asked.only, asked.steps)))
        return 0
    write(asked.folder / "data", asked.cases)
    print("| what | cases | wall s | processor s | peak MiB | grown MiB |\n|---|---|---|---|---|---|")
    rows = {}
    for what in ("first", "again", "train"):
        command = [sys.executable, __file__, str(asked.folder), "--only", what, "--steps", str(asked.steps)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        rows[what] = row = json.loads(ended.stdout.splitlines()[-1])
        numbers = [f"{row['cases']}", *(f"{row[name]:.1f}" for name in ("seconds", "cpu", "peak", "grown"))]
        print(f"| {what} | {' | '.join(numbers)} |", flush=True)
    again = rows["again"]
    seconds, cpu, grown = (MANY * again[name] / again["cases"] for name in ("seconds", "cpu", "grown"))
    print(f"{MANY} cases, opened again: {seconds:.0f} s, {cpu:.0f} s of a processor, {grown:.0f} MiB more")
    return 0


def write(folder: Path, count: int) -> None:
    """Write cases of the layout ``ukb``: a few files, and hard links to them."""
    from nisf.phantom import Scanner, write_cohort

    patterns = folder.parent / "patterns"
    if not (patterns / f"phantom{DISTINCT - 1:04d}").is_dir():
        scanner = Scanner(matrix=SHAPE[:2], spacing_mm=3.5, frames=FRAMES)
        write_cohort(patterns, DISTINCT, seed=1, scanner=scanner)
    sources = sorted(path for path in patterns.iterdir() if path.is_dir())
    for number in range(count):
        case = folder / f"case{number:05d}"
        if case.is_dir():
            continue
        draft = folder / f".draft{number}"
        draft.mkdir(parents=True, exist_ok=True)
        for file in sources[number % len(sources)].iterdir():
            if not (draft / file.name).exists():
                os.link(file, draft / file.name)
        draft.rename(case)


def measured(folder: Path, what: str, steps: int) -> dict[str, float]:
    """Open the cohort, train ``steps`` steps, and return time and memory."""
    import torch

    from nisf.config.overrides import override
    from nisf.config.presets import preset
    from nisf.data.anatomy import load_anatomy
    from nisf.io.readers import CaseReader, open_cohort, stored_cases
    from nisf.kinds.image.recipe import ImageRecipe
    from nisf.kinds.recipe import TrainingSetup
    from nisf.prior.region_search import RegionSearch

    torch.set_num_threads(1)
    anatomy = load_anatomy("cardiac-sax")
    before, began, cpu = _resident(), time.perf_counter(), time.process_time()
    reader = CaseReader(open_cohort(folder / "data", anatomy), anatomy, cache=folder / "cache")
    cases = stored_cases(reader)
    assert not reader.failed, next(iter(reader.failed.values()))
    if what == "train":
        small = ["pixels=32", "pixel_mm=5", "width=8", "levels=3", "hidden=8"]
        quick = ["augment.coarse=0", "train.subjects=4", "train.points=64"]
        config = override(preset("image"), [*(f"image.{one}" for one in small), *quick])
        search = RegionSearch(np.array([60.0, 60.0, 60.0]))
        recipe = ImageRecipe(
            TrainingSetup(cases, [], anatomy, config, search, lambda _: None, torch.device("cpu"))
        )
        for step in range(steps):
            recipe.descend(step)
    seconds, cpu, after = time.perf_counter() - began, time.process_time() - cpu, _resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cases": len(cases), "seconds": seconds, "cpu": cpu, "peak": peak, "grown": after - before}


def _resident() -> float:
    """Memory of this process in MiB that is not of mapped files."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    return float(fields["RssAnon"].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
