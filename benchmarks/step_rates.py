"""How long a training step of the image field takes on a GPU, by the number of subjects and the precision.

    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT                          on the GPU
    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT --device cpu --quick     a rehearsal

The file is from ``pack.py``. Steps are captured as CUDA graphs. The first steps of each way, in which
libraries choose algorithms, are not counted. OUT gets ``rates.json``.
"""

from __future__ import annotations

import absent  # isort: skip  # noqa: F401

import argparse
import traceback
from pathlib import Path
from typing import Any

import torch

from common import device_parser
from nisf.config.overrides import override
from nisf.data.anatomy import load_anatomy
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.recipe import ImageRecipe
from pack import unpacked
from together import RECIPES, WIDE, config_of, recipe_of, timed_steps

RATES = {
    "2 subjects": "",
    "8 subjects": "train.subjects=8",
    "8 subjects, bf16": "train.subjects=8 train.precision=bf16",
    "8 subjects, wide": f"train.subjects=8 {WIDE}",
}
"""Settings by name."""
CASES = 12
"""Number of subjects on the device; the time of a step does not depend on it."""
NOT_COUNTED = 6


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds per step of each way that works; the errors of the others."""
    cases = unpacked(options.pack, load_anatomy("cardiac-sax").labels)[:CASES]
    found: dict[str, Any] = {}
    base = override(config_of("new80-scanners", options), ["augment.coarse=0"])
    for name, settings in RATES.items():
        try:
            config = override(base, settings.split())
            recipe = recipe_of(RECIPES["new80-scanners"], cases, config, options.device, print)
            found[name] = measured(recipe, options)
        except Exception:  # its error is recorded, and the others go on
            found[name] = {"error": traceback.format_exc()[-1500:]}
        print(f"{name}: {found[name]}", flush=True)
        write_json(options.output / "rates.json", found)
    return found


def measured(recipe: ImageRecipe, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per step of a recipe."""
    losses: list[float] = []
    first = timed_steps(recipe, NOT_COUNTED, losses)
    ms = timed_steps(recipe, 3 if options.quick else 40, losses)
    out = {"ms": round(ms, 2), "first_ms": round(first, 1), "loss": round(losses[-1], 4)}
    if options.device == "cuda":
        out["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and time the steps; the exit status is 1 if a way failed."""
    parser = device_parser(__doc__)
    parser.add_argument("pack", type=Path)
    options = parser.parse_args(arguments)
    options.precision = "fp32"
    torch.backends.cudnn.benchmark = True
    options.output.mkdir(parents=True, exist_ok=True)
    return int(any("error" in one for one in rates(options).values()))


if __name__ == "__main__":
    raise SystemExit(exit_status("step_rates.py", main))
