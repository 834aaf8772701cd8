"""Does training with long-axis slices let the field use them?

    python benchmarks/long_axis_training.py phantom PRIOR -o OUT [--train 150] [--cases 12] [--steps 600]
    python benchmarks/long_axis_training.py cohort COHORT PRIOR -o OUT [--only TEST.txt] [--train 40] ...

PRIOR's network is trained further, twice with the same subjects, points and hidden slices: once it sees the
short-axis stack alone, once a 4-chamber and a 2-chamber plane as well, in three of four samples. Both
networks and PRIOR's are then scored on other subjects, with and without these planes, with every 2nd slice
hidden, the basal end hidden, and nothing hidden. Nothing but pose, contrast and hidden slices varies
between samples.

``phantom``: synthetic hearts; targets are the truth at any place. ``cohort``: patients, trained on those
whose number is not divisible by five and scored on the others or on ``--only``; the long-axis planes are
those that PRIOR renders of all their slices, and targets are the labels of slices. OUT gets
``NAME.safetensors`` of both networks, which an interrupted run uses again, and ``long_axis_training.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from common import cases_of, phantom_or_cohort_parser
from long_axis import joined, rendered, scanned
from nisf.data.case import UNKNOWN, Case
from nisf.data.hiding import hide
from nisf.data.region import Region
from nisf.errors import exit_status
from nisf.evaluation.scores import score_case
from nisf.files import read_tensors, write_json, write_tensors
from nisf.io.readers import open_cohort
from nisf.kinds.image.augment import Sample
from nisf.kinds.image.objective import image_objective
from nisf.kinds.image.recipe import averaged, update_average
from nisf.kinds.image.views import given_slices
from nisf.kinds.load import load_prior
from nisf.networks.canvas import Canvases, canvases
from nisf.networks.image_field import ImageField
from nisf.phantom.heart import Heart, pose, shape_at, ventricles
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from train_models import kept_out

FRAMES = 2
POINTS = 6_000
"""Places per sample at which the answer is compared with the target."""
WITH_PLANES = 0.75
"""Fraction of the samples in which the second network sees long-axis planes."""
RATE = 1e-3
WAYS = ("every-2nd-slice", "basal", "none")


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject to train on.

    Attributes:
        seen: canvases of all slices and phases, those of the stack first.
        stack: which of them belong to the short-axis stack (n,).
        places: candidates for points, model mm, phase by phase (t, p, 3).
        labels: classes there (t, p).
        intensities: there, in [0, 1] (t, p).
    """

    seen: Canvases
    stack: np.ndarray
    places: Float[np.ndarray, "t p 3"]
    labels: Int[np.ndarray, "t p"]
    intensities: Float[np.ndarray, "t p"]


def on_slices(case: Case, region: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of the stack's labelled slices in the region: frame, model mm, class, intensity in [0, 1]."""
    found = []
    for item in case.slices:
        if item.stack or item.label is None:
            continue
        i, j = np.indices(item.label.shape)
        place = region.pose(item.affine(np.stack([i, j, np.zeros_like(i)], axis=-1)))
        inside = (np.abs(place) < region.half).all(-1) & (item.label != UNKNOWN)
        image = case.stacks[0].normalise(item.image)[..., 0]
        frame = np.full(int(inside.sum()), item.frame)
        found.append((frame, place[inside], item.label[inside].astype(np.int64), image[inside]))
    frames, places, labels, intensities = (np.concatenate(part) for part in zip(*found, strict=True))
    return frames, places, labels, intensities


def subject_of(
    case: Case,
    planes: Sequence[Case],
    prior: Prior[Any],
    rng: np.random.Generator,
    heart: Heart | None = None,
) -> Subject:
    """A subject to train on; with a heart, targets between the slices as well, where classes are its own."""
    region, both = fit(case, prior).region, joined(case, planes)
    frames, places, labels, intensities = on_slices(case, region)
    parts = []
    for frame in np.unique(frames):
        own = rng.choice(np.flatnonzero(frames == frame), 4 * POINTS)
        place, label = places[own], labels[own]
        if heart is not None:
            # Up to half a slice away; the intensity remains the slice's.
            world = region.pose.inverse(place)
            world = world + rng.uniform(-5, 5, (len(world), 1)) * case.stacks[0].grid.affine.normal()
            shape = shape_at(heart, float(case.stacks[0].grid.times[frame]))
            place, label = region.pose(world), ventricles(shape, pose(heart)(world)).astype(np.int64)
        parts.append((place, label, intensities[own]))
    stack = np.array([item.stack == 0 for item in both.slices])
    seen = canvases(both, both.slices, region, prior.config.image)
    return Subject(seen, stack, *(np.stack(part) for part in zip(*parts, strict=True)))


def sample_of(subject: Subject, step: int, prior: Prior[Any], *, planes: bool) -> Sample:
    """One phase of a subject: some slices of the stack, with or without planes, relit."""
    rng = np.random.default_rng([11, step])
    phase = int(rng.integers(len(subject.places)))
    now = subject.seen.times == np.unique(subject.seen.times)[phase]
    own = np.flatnonzero(now & subject.stack)
    chosen = own[given_slices(len(own), prior.config.augment, rng)]
    gamma, noise = float(np.exp(rng.uniform(-0.4, 0.4))), rng.uniform(0, 0.05)
    # The direction in which slices are counted is random, as in training.
    sign = float(rng.choice((-1.0, 1.0)))
    points = rng.choice(subject.places.shape[1], POINTS)
    if planes and rng.random() < WITH_PLANES:
        chosen = np.concatenate([chosen, np.flatnonzero(now & ~subject.stack)])
    images = subject.seen.images[chosen].float() ** gamma
    images += noise * torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    maps = subject.seen.maps[chosen]
    maps[:, 2] *= sign
    return Sample(
        images.clamp(0, 1),
        maps,
        torch.from_numpy(subject.places[phase][points]).float(),
        torch.from_numpy(subject.intensities[phase][points] ** gamma)[:, None].float(),
        torch.from_numpy(subject.labels[phase][points]),
    )


def train(prior: Prior[Any], subjects: Sequence[Subject], file: Path, steps: int, *, planes: bool) -> None:
    """Train the prior's network further, in place; the weights are taken from the file if it exists."""
    if not file.exists():
        network = prior.field
        assert isinstance(network, ImageField)
        network.train().requires_grad_(True)
        settings = replace(prior.config.train, learning_rate=RATE, precision="fp32")
        average, state = averaged(network, settings)
        rates = state.rates()
        for step in range(steps):
            state.set_rates([rate * min(1.0, 2 * (1 - step / steps)) for rate in rates])
            subject = subjects[int(np.random.default_rng([7, step]).integers(len(subjects)))]
            loss, terms = image_objective(network, [sample_of(subject, step, prior, planes=planes)], settings)
            state.descend(loss)
            update_average(average, network)
            if step % 50 == 0:
                print(f"{file.stem}: step {step}, Dice loss {terms['dice_loss'].item():.3f}", flush=True)
        write_tensors(file, average.module.state_dict())
    prior.field.load_state_dict(read_tensors(file)[0])
    prior.field.eval().requires_grad_(False)


def dice_of(prior: Prior[Any], case: Case, planes: Sequence[Case]) -> dict[str, float]:
    """Mean Dice for each way of hiding slices, with and without the planes."""
    out = {}
    for way in WAYS:
        given, hidden = hide(case, way)
        for words, seen in (("stack", given), ("stack and planes", joined(given, planes))):
            label = fit(seen, prior).render(case.stacks[0].grid).label.astype(np.int16)
            out[f"{way}, {words}"] = float(np.mean([score.dice for score in score_case(label, hidden)]))
    return out


def drawn(options: argparse.Namespace, prior: Prior[Any]) -> tuple[list[Subject], Iterator[tuple[Any, ...]]]:
    """Subjects to train on; cases to score with their planes."""
    rng = np.random.default_rng(5)
    if options.verb == "phantom":
        # Without breath-hold shifts, so that targets are the heart's own shape.
        hearts = partial(scanned, frames=FRAMES, shift_mm=0.0)
        found = (hearts(21, index) for index in range(options.train))
        subjects = [subject_of(short.case, planes, prior, rng, short.heart) for short, planes in found]
        others = (hearts(22, index) for index in range(options.cases))
        return subjects, ((short.case, planes) for short, planes in others)
    names = [case.name for case in open_cohort(options.cohort, prior.anatomy).cases]
    files = [options.output / f"{name}.txt" for name in ("trained-on", "others")]
    apart = kept_out(names)
    for file, chosen in zip(files, ([name for name in names if name not in apart], apart), strict=True):
        file.write_text("".join(f"{name}\n" for name in chosen))
    found = cases_of(options.cohort, prior, files[0], options.train)
    subjects = [subject_of(case, rendered(fit(case, prior), case), prior, rng) for case in found]
    scored = cases_of(options.cohort, prior, options.only or files[1], options.cases)
    return subjects, ((case, rendered(fit(case, prior), case)) for case in scored)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, score, print and write."""
    parser, forms = phantom_or_cohort_parser(__doc__)
    for form, subjects in zip(forms, (150, 40), strict=True):
        form.add_argument("--train", type=int, default=subjects, help="subjects to train on")
        form.add_argument("--cases", type=int, default=12, help="subjects to score")
        form.add_argument("--steps", type=int, default=600)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    prior, alone, both = (load_prior(options.prior) for _ in range(3))
    subjects, scored = drawn(options, prior)
    for network, name in ((alone, "stack"), (both, "planes")):
        file = options.output / f"{name}.safetensors"
        train(network, subjects, file, options.steps, planes=name == "planes")
    networks = {"as it was": prior, "trained with the stack": alone, "trained with planes": both}
    rows = []
    for case, planes in scored:
        row = {words: dice_of(network, case, planes) for words, network in networks.items()}
        means = {words: [round(dice, 3) for dice in found.values()] for words, found in row.items()}
        print(f"{case.name}: {means}", flush=True)
        rows.append({"case": case.name, "dice": row})
    table = {
        words: {way: round(float(np.mean([row["dice"][words][way] for row in rows])), 4) for way in found}
        for words, found in rows[0]["dice"].items()
    }
    print(table)
    written = {"prior": prior.fingerprint, "subjects": len(subjects), "steps": options.steps}
    write_json(options.output / "long_axis_training.json", {**written, "mean Dice": table, "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("long_axis_training.py", main))
