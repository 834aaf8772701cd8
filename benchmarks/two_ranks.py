"""Training throughput of several ranks on this machine, compared with one process, alternately.

    python benchmarks/two_ranks.py [--ranks 2] [--steps 20] [--repeats 3]

Both train the same image-conditioned field on the same phantoms, with the same subjects in a step and one
thread per process. Prints steps per second of each run and the ratio of the medians. GPUs are used if
there is one per rank.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

WARM_UP = 3
SETTINGS = (
    "train.subjects=8 train.points=256 augment.coarse=0 image.pixels=64 image.pixel_mm=2.5 image.width=16"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and return the exit status."""
    parser = argparse.ArgumentParser(description="Throughput of training on several ranks, beside one.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", default=SETTINGS, help="settings, separated by spaces")
    parser.add_argument("--rank", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.rank:
        measure(asked.rank, asked.steps, asked.set.split())
        return 0
    found: dict[int, list[float]] = {1: [], asked.ranks: []}
    for _ in range(asked.repeats):
        for ranks, rates in found.items():
            rates.append(rate(ranks, asked.steps, asked.set))
            print(f"{ranks} rank(s): {rates[-1]:.2f} steps/s", flush=True)
    one, several = (statistics.median(rates) for rates in found.values())
    print(f"median {one:.2f} and {several:.2f} steps/s: {several / one:.2f} times on {asked.ranks} ranks")
    return 0


def rate(ranks: int, steps: int, settings: str) -> float:
    """Steps per second on ``ranks`` ranks."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rate"
        launch = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
        own = [__file__, "--rank", str(out), "--steps", str(steps), "--set", settings]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launch, *own], check=True, env=environment, capture_output=True)
        return float(out.read_text())


def measure(out: Path, steps: int, settings: Sequence[str]) -> None:
    """Train on one rank; the first writes its steps per second."""
    import numpy as np
    import torch

    from nisf.config.overrides import override
    from nisf.config.presets import preset
    from nisf.data.anatomy import load_anatomy
    from nisf.kinds.image.recipe import ImageRecipe
    from nisf.kinds.recipe import TrainingSetup
    from nisf.optimisation import ranks
    from nisf.phantom import Scanner, cohort
    from nisf.prior.region_search import RegionSearch

    cards = torch.cuda.device_count()
    device = torch.device("cuda" if cards >= int(os.environ.get("WORLD_SIZE", "1")) else "cpu")
    with ranks.joined(device) as own:
        cases = [scan.case for scan in cohort(8, seed=1, scanner=Scanner(frames=2))]
        config = override(preset("image"), settings)
        search = RegionSearch(np.array([60.0, 60.0, 60.0]))
        anatomy = load_anatomy("cardiac-sax")
        recipe = ImageRecipe(TrainingSetup(cases, [], anatomy, config, search, print, own, workers=0))
        for step in range(WARM_UP):
            recipe.descend(step)
        ranks.wait()
        began = time.perf_counter()
        for step in range(WARM_UP, WARM_UP + steps):
            loss = float(recipe.descend(step)["loss"])  # waits for a GPU
            recipe.after_step()
        if ranks.is_first():
            assert np.isfinite(loss)
            out.write_text(str(steps / (time.perf_counter() - began)))


if __name__ == "__main__":
    sys.exit(main())
