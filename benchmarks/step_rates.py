"""How long a training step of the image field takes on a GPU, by the number of subjects and the precision.

    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT                          on the GPU
    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT --device cpu --quick     a rehearsal

The file is from ``pack.py``. Steps are captured as CUDA graphs. The first steps of each way, in which
libraries choose algorithms, are not counted. OUT gets ``rates.json``.
"""

from __future__ import annotations

import absent  # isort: skip  # noqa: F401

import argparse
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from nisf.config.overrides import override
from nisf.data.anatomy import load_anatomy
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.recipe import ImageRecipe
from pack import unpacked
from together import RECIPES, WIDE, config_of, recipe_of

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
    """Milliseconds of a step of each way that works; what went wrong with the others."""
    cases = unpacked(options.pack, load_anatomy("cardiac-sax").labels)[:CASES]
    found: dict[str, Any] = {}
    base = override(config_of("new80-scanners", options), ["augment.coarse=0"])
    for name, settings in RATES.items():
        try:
            config = override(base, settings.split())
            recipe = recipe_of(RECIPES["new80-scanners"], cases, config, options.device, print)
            found[name] = measured(recipe, options)
        except Exception:  # what fails is told, and the others go on
            found[name] = {"error": traceback.format_exc()[-1500:]}
        print(f"{name}: {found[name]}", flush=True)
        write_json(options.output / "rates.json", found)
    return found


def measured(recipe: ImageRecipe, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a step."""

    def steps(count: int) -> tuple[float, float]:
        """Milliseconds of each of the next steps, and the last one's loss."""
        began = time.perf_counter()
        for _ in range(count):
            terms = recipe.descend(recipe.state.step)
            recipe.after_step()
            recipe.state.step += 1
        loss = float(terms["loss"])  # waits for the device
        return 1000 * (time.perf_counter() - began) / count, loss

    first, _ = steps(NOT_COUNTED)
    ms, loss = steps(3 if options.quick else 40)
    out = {"ms": round(ms, 2), "first_ms": round(first, 1), "loss": round(loss, 4)}
    if options.device == "cuda":
        out["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Time steps; the exit status is 1 if a way failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    options.precision = "fp32"
    torch.backends.cudnn.benchmark = True
    options.output.mkdir(parents=True, exist_ok=True)
    return int(any("error" in one for one in rates(options).values()))


if __name__ == "__main__":
    raise SystemExit(exit_status("step_rates.py", main))
