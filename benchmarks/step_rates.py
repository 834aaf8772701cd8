"""How long a training step of the image field takes on a GPU: with more subjects, and several at once.

    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT                          on the GPU
    python benchmarks/step_rates.py build/gpu/acdc.npz -o OUT --device cpu --quick     a rehearsal

The file is from ``pack.py``. Steps are captured as CUDA graphs; trainings at once have a stream each, as in
``together.py``. OUT gets ``rates.json``.
"""

from __future__ import annotations

import absent  # isort: skip  # noqa: F401

import argparse
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from nisf.config.overrides import override
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.recipe import ImageRecipe
from together import RECIPES, WIDE, Launched, Outlined, config_of, outlined_cases, own_stream, recipe_of

RATES = {
    "2 subjects": ("train.subjects=2 train.precision=fp32",),
    "8 subjects": ("train.precision=fp32",),
    "8 subjects, bf16": ("train.precision=bf16",),
    "8 subjects, wide": (WIDE,),
    "two at once": ("train.precision=fp32",) * 2,
    "four at once": ("train.precision=fp32",) * 4,
    "four at once, bf16": ("train.precision=bf16",) * 4,
}
"""Settings of each training that is run at once."""


def rates(cases: list[Outlined], options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step by itself, with more subjects, and of several at once."""
    found: dict[str, Any] = {}
    base = override(config_of("new80", options), ["augment.coarse=0"])
    for name, settings in RATES.items():
        if time.monotonic() > options.until:
            break
        try:
            configs = [override(base, one.split()) for one in settings]
            recipes = [recipe_of(RECIPES["new80"], cases, one, options.device, print) for one in configs]
            found[name] = measured(recipes, options)
        except Exception:  # what fails is told, and the others go on
            found[name] = {"error": traceback.format_exc()[-1500:]}
        print(f"[rates] {name}: {found[name]}", flush=True)
    return found


def measured(recipes: list[ImageRecipe], options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds until each of some recipes has done one more step, all at once."""
    first, count = 6, 3 if options.quick else 40
    losses: list[float] = []

    def steps(recipe: ImageRecipe, start: int, end: int) -> None:
        launched = Launched(recipe)
        for step in range(start, end):
            terms = launched.descend(step)
            launched.after_step()
            recipe.state.step += 1
        losses.append(float(terms["loss"]))

    def all_of_them(start: int, end: int) -> float:
        began = time.perf_counter()
        threads = [threading.Thread(target=in_stream, args=(r, start, end)) for r in recipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 1000 * (time.perf_counter() - began) / (end - start)

    streams = [own_stream(options.device) for _ in recipes]

    def in_stream(recipe: ImageRecipe, start: int, end: int) -> None:
        with streams[recipes.index(recipe)]:
            steps(recipe, start, end)

    warm_up = all_of_them(0, first)
    ms = all_of_them(first, first + count)
    out = {"ms": round(ms, 2), "first_ms": round(warm_up, 1), "loss": round(losses[-1], 4)}
    if options.device == "cuda":
        out["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return out


def main(arguments: list[str] | None = None) -> int:
    """Time steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which nothing more is begun")
    options = parser.parse_args(arguments)
    options.until = time.monotonic() + options.seconds
    torch.backends.cudnn.benchmark = True
    options.output.mkdir(parents=True, exist_ok=True)
    cases = outlined_cases(options.pack)[:12]  # as many as a few steps see
    write_json(options.output / "rates.json", rates(cases, options))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("step_rates.py", main))
