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

import measuring
from held import device_parser
from nisf.config.overrides import override
from nisf.config.presets import preset
from nisf.config.schema import for_data
from nisf.data.case import Case
from nisf.data.region import region_from_labels
from nisf.device import CPU, named_device
from nisf.errors import exit_status
from nisf.files import write_json
from nisf.kinds.image.recipe import ImageTraining
from nisf.kinds.load import load_prior
from nisf.paper.unet import UNetTraining
from nisf.phantom import Scanner, cohort
from nisf.prior.bundled import DEFAULT
from nisf.prior.fit import fit
from nisf.prior.prior import Prior

STEPS = 4


def segmented(cases: list[Case], device: torch.device) -> tuple[list[np.ndarray], list[float]]:
    """Classes of each case, and seconds; on a GPU one case before is not counted."""
    prior = load_prior(DEFAULT).to(device)
    labels, seconds = [], []
    for case in [*cases[: device.type == "cuda"], *cases]:
        began = time.perf_counter()
        labels.append(fit(case, prior).render().label)
        seconds.append(round(time.perf_counter() - began, 3))
    return labels[-len(cases) :], seconds[-len(cases) :]


def losses(recipe: ImageTraining | UNetTraining) -> list[float]:
    """Of the first steps."""
    found = []
    for step in range(STEPS):
        loss, _ = recipe.loss(step)
        recipe.state.descend(loss)
        recipe.after_step()
        found.append(float(loss.detach()))
    return found


def recipes(cases: list[Case], prior: Prior, device: torch.device) -> dict[str, list[float]]:
    """Losses of each recipe, begun from the same weights."""
    assert prior.half is not None
    regions = [r for case in cases if (r := region_from_labels(case, prior.half, order=True))]
    torch.manual_seed(0)
    image = losses(ImageTraining(cases, regions, [], prior, print, device))
    return {"image recipe": image, "U-Net": losses(UNetTraining(cases, prior, device))}


def main(arguments: list[str] | None = None) -> int:
    """Compare; the exit status."""
    chosen = device_parser(__doc__).parse_args(arguments)
    device = named_device(chosen.device)
    # Convolutions in TF32, PyTorch's default on a GPU, would hide what else differs.
    torch.backends.cudnn.allow_tf32 = False
    scanner = Scanner(matrix=(64, 64), spacing_mm=3.0, frames=2) if chosen.quick else Scanner(frames=10)
    cases = [subject.case for subject in cohort(1 if chosen.quick else 2, seed=3, scanner=scanner)]
    result: dict[str, Any] = {"machine": measuring.machine(), "device": str(device)}
    (ours, slow), (theirs, fast) = segmented(cases, CPU), segmented(cases, device)
    result["seconds"] = {"cpu": slow, str(device): fast}
    result["voxels"] = [
        {"drawn": int((a > 0).sum()), "differ": int((a != b).sum())}
        for a, b in zip(ours, theirs, strict=True)
    ]
    settings = ["train.precision=fp32", "image.phase_exchange=3", "train.subjects=1", "augment.coarse=0"]
    config = for_data(override(preset("image"), settings), dimensions=4, channels=1, classes=4)
    if chosen.quick:
        config = replace(config, image=replace(config.image, pixels=32, pixel_mm=5.0, width=8))
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
