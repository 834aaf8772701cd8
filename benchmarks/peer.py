"""The peer: a 2D U-Net (MONAI's) on the same slices, and what interpolation makes of its segmentations.

    python benchmarks/peer.py train DATA PRIOR -o PEER [--validation every-5th] [--steps 5000]
    python benchmarks/peer.py scores DATA PRIOR PEER -o OUT [--only NAMES.txt] [--hide none every-2nd-slice]

``train`` gives the U-Net what the image-conditioned field gets: the same patients, regions, canvases,
augmentation, points, loss, optimiser and schedule, but every slice on its own and none hidden. ``scores``
segments the cases of a cohort with both, in one run, the region found by the prior's finder for both. On
hidden slices the U-Net's segmentations of the seen slices are interpolated: by signed distances (shape-based
interpolation) and from the nearest slice. OUT gets ``peer.csv`` (every score) and ``peer.json`` (the table).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import BasicUNet
from scipy import ndimage
from torch.nn import functional

from nisf.augment import Measured, draw_sample, measured
from nisf.canvas import canvases, plane_of
from nisf.case import UNKNOWN, Case
from nisf.cli.cases import read_cases, split
from nisf.errors import NisfError
from nisf.evaluate import score_case
from nisf.files import read_tensors, replacing, write_tensors
from nisf.fitting import find_region, fit
from nisf.hiding import hide
from nisf.image_training import running_average
from nisf.losses import dice_loss
from nisf.metrics import Score
from nisf.nearby import sample
from nisf.prior import Prior, load_prior
from nisf.readers import only_named, open_cohort, read_case
from nisf.region import Region, region_from_labels
from nisf.state import rate_factor

OURS, SHAPE, NEAREST = "nisf", "unet+shape", "unet+nearest"


def unet(prior: Prior) -> BasicUNet:
    """A plain U-Net with instance normalisation at the canvas's full resolution, 0.9 million parameters."""
    field = prior.config.field
    widths = (16, 32, 64, 96, 128, 16)
    return BasicUNet(2, field.channels, field.classes, widths, norm=("instance", {"affine": True}))


def objective(network: BasicUNet, stacks: list[Measured], prior: Prior, step: int) -> torch.Tensor:
    """Cross-entropy and Dice of a step's points."""
    config = prior.config
    image, augment = config.image, replace(config.augment, hide=0.0)
    if step < augment.coarse * config.train.steps:
        side_mm = image.pixels * image.pixel_mm
        image = replace(image, pixels=augment.coarse_pixels, pixel_mm=side_mm / augment.coarse_pixels)
    logits, labels = [], []
    for slot in range(config.train.subjects):
        rng = np.random.default_rng([1, step, slot])
        drawn = draw_sample(stacks[int(rng.integers(len(stacks)))], image, augment, config.train.points, rng)
        maps = network(drawn.images).permute(0, 2, 3, 1)
        of = torch.arange(len(drawn.images)).repeat_interleave(config.train.points)
        local = torch.einsum("pij,pj->pi", drawn.maps[of][:, :2, :3], drawn.points) + drawn.maps[of][:, :2, 3]
        logits.append(sample(maps, of, local[:, 0], local[:, 1]))
        labels.append(drawn.label)
    out, label = torch.cat(logits), torch.cat(labels)
    return (
        functional.cross_entropy(out, label, ignore_index=UNKNOWN)
        + dice_loss(out[None], label[None], torch.ones(1, len(label))).mean()
    )


def train(arguments: argparse.Namespace) -> int:
    """Train the U-Net; killed, it goes on from its last checkpoint."""
    prior = load_prior(arguments.prior)
    train_ = replace(prior.config.train, steps=arguments.steps)
    prior = replace(prior, config=replace(prior.config, train=train_))
    cohort = open_cohort(arguments.data, prior.anatomy)
    files, _ = split(cohort, arguments.validation, prior.anatomy, "auto")
    cases, _ = read_cases(files, cohort, prior.anatomy, arguments.output / ".cache")
    assert prior.half is not None
    stacks = []
    for case in cases:
        region = region_from_labels(case, prior.half, order=False)
        if region is not None:
            stacks += measured(case, region.centre(), prior.config.image.pixel_mm)
    torch.manual_seed(0)
    network, average = unet(prior), unet(prior)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=train_.learning_rate, weight_decay=1e-4)
    first, path, began = 0, arguments.output / "checkpoint.pt", time.perf_counter()
    if path.is_file():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    for step in range(first, train_.steps):
        for group in optimiser.param_groups:
            group["lr"] = train_.learning_rate * rate_factor(train_, step)
        loss = objective(network, stacks, prior, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            running_average(list(average.state_dict().values()), list(network.state_dict().values()), step)
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: {float(loss):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == train_.steps:
            parts = {"network": network, "average": average, "optimiser": optimiser}
            with replacing(path) as temporary:
                torch.save({"step": step + 1, **{n: p.state_dict() for n, p in parts.items()}}, temporary)
    write_tensors(arguments.output / "unet.safetensors", average.state_dict())
    return 0


@torch.inference_mode()
def segment_slices(
    network: BasicUNet, case: Case, region: Region, prior: Prior
) -> dict[tuple[int, int], np.ndarray]:
    """Class per pixel of every slice, by its position and frame; background outside the region."""
    out = {}
    for first in range(0, len(case.slices), 16):
        chosen = case.slices[first : first + 16]
        seen = canvases(case, chosen, region, prior.config.image)
        maps = network(seen.images.float()).permute(0, 2, 3, 1)
        for index, item in enumerate(chosen):
            nx, ny = item.image.shape[:2]
            places = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), [0], indexing="ij"), -1)[:, :, 0]
            world = item.affine(places)
            model = torch.tensor(region.pose(world).reshape(-1, 3), dtype=torch.float32)
            u, v = (seen.maps[index, :2, :3] @ model.T + seen.maps[index, :2, 3:]).unbind()
            of = torch.full_like(u, index, dtype=torch.long)
            label = sample(maps, of, u, v).argmax(1).numpy().reshape(nx, ny)
            label[~region.contains(world)] = 0
            out[item.position, item.frame] = label.astype(np.int16)
    return out


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the outline: positive inside, minus a large number everywhere where there is none."""
    if not mask.any():
        return np.full(mask.shape, -1e3)
    return ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)


def between(below: np.ndarray, above: np.ndarray, share: float, classes: int) -> np.ndarray:
    """Shape-based interpolation (Raya and Udupa 1990) of two slices' classes at ``share`` of the way."""
    # A structure that ends between two slices fades with a slice of its own size, not at once.
    distances = np.zeros((classes, *below.shape))
    for k in range(1, classes):
        a, b = signed_distance(below == k), signed_distance(above == k)
        a, b = np.maximum(a, -20.0), np.maximum(b, -20.0)
        distances[k] = (1 - share) * a + share * b
    return distances.argmax(0).astype(np.int16)


def interpolated(
    seen: dict[tuple[int, int], np.ndarray], case: Case, hidden: Case, classes: int, how: str
) -> np.ndarray:
    """Classes on the whole grid: U-Net's on seen slices, interpolated ones on hidden slices."""
    grid = case.stacks[0].grid
    volume = np.zeros((*grid.shape, len(grid.times)), dtype=np.int16)
    for (position, frame), label in seen.items():
        volume[:, :, position, frame] = label
    z = {s.position: float(plane_of(case.slices[0])(s.affine.origin)[2]) for s in case.slices}
    for item in hidden.slices:
        have = sorted(position for position, frame in seen if frame == item.frame)
        if item.position in have:
            continue
        before = [p for p in have if p < item.position]
        after = [p for p in have if p > item.position]
        if before and after and how == SHAPE:
            a, b = before[-1], after[0]
            share = (z[item.position] - z[a]) / (z[b] - z[a])
            label = between(seen[a, item.frame], seen[b, item.frame], share, classes)
        else:
            label = seen[min(have, key=lambda p: abs(z[p] - z[item.position])), item.frame]
        volume[:, :, item.position, item.frame] = label
    return volume


def scores(arguments: argparse.Namespace) -> int:
    """Score both on the same cases."""
    prior = load_prior(arguments.prior)
    network = unet(prior)
    network.load_state_dict(read_tensors(arguments.peer / "unet.safetensors")[0])
    network.eval()
    cohort, classes = open_cohort(arguments.data, prior.anatomy), prior.config.field.classes
    found: dict[tuple[str, str], list[Score]] = {}
    seconds: dict[str, list[float]] = {OURS: [], SHAPE: []}
    for files in only_named(cohort.cases, arguments.only):
        case = read_case(files, prior.anatomy, cohort.notes)
        for protocol in arguments.hide:
            try:
                seen, hidden = hide(case, protocol)
            except NisfError as error:
                print(error)
                continue
            part = protocol != "none"
            began = time.perf_counter()
            label = fit(seen, prior).render().label.astype(np.int16)
            seconds[OURS].append(time.perf_counter() - began)
            found.setdefault((protocol, OURS), []).extend(score_case(label, hidden, outlines=part))
            began = time.perf_counter()
            region, _ = find_region(seen, prior)
            slices = segment_slices(network, seen, region, prior)
            seconds[SHAPE].append(time.perf_counter() - began)
            for how in (SHAPE, NEAREST) if part else (SHAPE,):
                volume = interpolated(slices, case, hidden, classes, how)
                found.setdefault((protocol, how), []).extend(score_case(volume, hidden, outlines=part))
        ours = [s.dice for s in found[arguments.hide[0], OURS] if s.case == case.name]
        peer = [s.dice for s in found[arguments.hide[0], SHAPE] if s.case == case.name]
        print(f"{case.name}: nisf {np.mean(ours):.3f}, U-Net {np.mean(peer):.3f}", flush=True)
    table = []
    for (protocol, method), rows in found.items():
        entry = {"protocol": protocol, "method": method, "scores": len(rows)}
        entry["dice"] = float(np.mean([s.dice for s in rows]))
        entry["hd95_mm"] = float(np.nanmean([s.hd95_mm for s in rows]))
        for label in prior.anatomy.labels[1:]:
            entry[label] = float(np.mean([s.dice for s in rows if s.label == label]))
        table.append(entry)
        print(
            f"{protocol:16s} {method:13s} Dice {entry['dice']:.3f}  HD95 {entry['hd95_mm']:5.1f} mm  "
            + "  ".join(f"{label} {entry[label]:.3f}" for label in prior.anatomy.labels[1:])
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    times = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"seconds a case, both phases: {times}")
    with replacing(arguments.output / "peer.json") as path:
        path.write_text(json.dumps({"table": table, "seconds_a_case": times}, indent=2))
    with replacing(arguments.output / "peer.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["protocol", "method", *Score.__dataclass_fields__])
        for (protocol, method), rows in found.items():
            writer.writerows([protocol, method, *vars(s).values()] for s in rows)
    return 0


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train")
    verb.set_defaults(run=train)
    verb.add_argument("data", type=Path)
    verb.add_argument("prior", type=Path)
    verb.add_argument("-o", "--output", type=Path, required=True)
    verb.add_argument("--validation", default="every-5th")
    verb.add_argument("--steps", type=int, default=5000)
    verb = verbs.add_parser("scores")
    verb.set_defaults(run=scores)
    verb.add_argument("data", type=Path)
    verb.add_argument("prior", type=Path)
    verb.add_argument("peer", type=Path)
    verb.add_argument("-o", "--output", type=Path, required=True)
    verb.add_argument("--only", type=Path)
    verb.add_argument(
        "--hide", nargs="+", default=["none", "every-2nd-slice", "basal", "apical", "all-but-3"]
    )
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
