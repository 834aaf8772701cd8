"""Does a GPU answer and learn as the processor does?

    python benchmarks/devices.py -o OUT                           a GPU against the processor
    python benchmarks/devices.py -o OUT --device cpu --quick      a rehearsal

Phantom cines segmented by `cardiac-sax` on both: seconds a case, and voxels that differ. Then the losses of
the first steps of the image recipe and of the U-Net of `nisf paper`, on both, in fp32, with the same samples.
OUT gets ``devices.json``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from common import device_parser
from nisf.data.case import Case
from nisf.data.region import region_from_labels
from nisf.device import CPU, named_device
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.recipe import ImageRecipe
from nisf.kinds.load import load_prior
from nisf.kinds.recipe import TrainingSetup
from nisf.paper.unet import UNetTraining
from nisf.phantom import Scanner, cohort
from nisf.prior.bundled import DEFAULT
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from timing import machine
from workloads import image_config

STEPS = 4
QUICK = ("image.pixels=32", "image.pixel_mm=5", "image.width=8")
"""Settings of a rehearsal."""


def segmented(cases: list[Case], device: torch.device) -> tuple[list[np.ndarray], list[float]]:
    """Classes of each case in its known region, and seconds, after a warm-up case on a GPU."""
    prior = load_prior(DEFAULT).to(device)
    assert prior.half is not None
    labels, seconds = [], []
    for case in [*cases[: device.type == "cuda"], *cases]:
        region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
        began = time.perf_counter()
        labels.append(fit(case, prior, region=region).render().label)
        seconds.append(round(time.perf_counter() - began, 3))
    return labels[-len(cases) :], seconds[-len(cases) :]


def losses(recipe: ImageRecipe | UNetTraining) -> list[float]:
    """Losses of the first training steps."""
    found = []
    for step in range(STEPS):
        loss, _ = recipe.loss(step)
        recipe.state.descend(loss)
        recipe.after_step()
        found.append(float(loss.detach()))
    return found


def recipes(cases: list[Case], prior: Prior, device: torch.device) -> dict[str, list[float]]:
    """Losses of each recipe, from the same initial weights."""
    setup = TrainingSetup(cases, [], prior.anatomy, prior.config, prior.search, print, device)
    torch.manual_seed(0)
    image = losses(ImageRecipe(setup))
    return {"image recipe": image, "U-Net": losses(UNetTraining(cases, prior, device))}


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, compare the devices and return the exit status."""
    chosen = device_parser(__doc__).parse_args(arguments)
    device = named_device(chosen.device)
    # Convolutions in TF32, PyTorch's default on a GPU, would hide what else differs.
    torch.backends.cudnn.allow_tf32 = False
    scanner = Scanner(matrix=(64, 64), spacing_mm=3.0, frames=2) if chosen.quick else Scanner(frames=10)
    cases = [one.case for one in cohort(1 if chosen.quick else 2, seed=3, scanner=scanner)]
    result: dict[str, Any] = {"machine": machine(), "device": str(device)}
    (ours, slow), (theirs, fast) = segmented(cases, CPU), segmented(cases, device)
    result["seconds"] = {"cpu": slow, str(device): fast}
    result["voxels"] = [
        {"drawn": int((a > 0).sum()), "differ": int((a != b).sum())}
        for a, b in zip(ours, theirs, strict=True)
    ]
    settings = ["train.precision=fp32", "image.phase_exchange=3", "train.subjects=1"]
    config = image_config(*settings, *(QUICK if chosen.quick else ()))
    prior = replace(load_prior(DEFAULT), config=config)
    compare = partial(recipes, cases, prior)
    result["losses"] = {"cpu": compare(CPU), str(device): compare(device)}
    for part in ("seconds", "voxels", "losses"):
        print(f"{part}: {result[part]}")
    chosen.output.mkdir(parents=True, exist_ok=True)
    write_json(chosen.output / "devices.json", result)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("devices.py", main))
