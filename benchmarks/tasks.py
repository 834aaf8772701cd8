"""Workloads of `speed.py`: fits, training steps, gradients, queries, start-up; the baseline's and nisf's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import plain
from nisf.data.case import UNKNOWN
from nisf.evaluation.metrics import dice_of_structures
from nisf.kinds.latent.model import LatentSubject
from nisf.kinds.latent.recipe import draw_batch, latent_state, objective
from nisf.kinds.latent.validation import step_counts
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask
from nisf.networks.losses import intensity_bce
from nisf.optimisation.compile import can_compile, compiled, in_parts
from nisf.phantom import Scanner, write_cohort
from nisf.prior.fit import fit
from timing import Task, interleaved, summary
from workloads import Workload

say = partial(print, flush=True)
bf16 = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
FEW = 2048
"""Points of a step in bf16: all voxels would take hours where the processor has no units for it."""


@dataclass(frozen=True)
class Plan:
    """Extent of the measurements.

    Attributes:
        steps: number of steps of the baseline's fit; the paper has 672.
        repeats: number of measurements of every rate.
        scanner: scanner of the phantom.
        frames: number of frames queried at twice the resolution; None for all.
        compile: whether to compile what can be.
        clock: function that returns seconds.
    """

    steps: int = 672
    repeats: int = 5
    scanner: Scanner = Scanner()
    frames: int | None = None
    compile: bool = True
    clock: Callable[[], float] = time.perf_counter


QUICK = Plan(
    steps=3, repeats=2, scanner=Scanner(matrix=(64, 64), spacing_mm=3.0, frames=2, beyond=0), frames=1
)


def accuracy(workload: Workload, latent: torch.Tensor) -> dict[str, float]:
    """Intensity loss over all voxels, and mean Dice over structures and labelled voxels."""
    points, prior = workload.points, workload.prior
    every = np.arange(len(points))
    intensity, probability = ask(prior.field, latent, points.coordinates(every))
    clipped = np.clip(intensity, 1e-7, 1 - 1e-7)
    loss = -(points.intensity * np.log(clipped) + (1 - points.intensity) * np.log(1 - clipped)).mean()
    known = points.label != UNKNOWN
    dice = dice_of_structures(probability.argmax(1)[known], points.label[known], probability.shape[1])
    return {"intensity_bce": float(loss), "dice": float(np.nanmean(dice))}


def our_fits(workload: Workload) -> dict[str, Callable[[], LatentSubject]]:
    """The ways to fit that nisf offers: in the baseline's region and orientation, and with both searched."""
    prior = workload.prior
    given = replace(prior, anatomy=replace(prior.anatomy, turn=False, reorder=False))
    own = prior.config.fit
    settings = {"nisf": own, "nisf, second order": replace(own, method="second-order")}
    ways: dict[str, Callable[[], LatentSubject]] = {}
    for name, config in settings.items():
        ways[name] = partial(fit, workload.case, given, region=workload.region, config=config)
        ways[f"{name}, region and orientation searched"] = partial(fit, workload.case, prior, config=config)
    return ways


def fits(workload: Workload, plan: Plan) -> dict[str, Any]:
    """Seconds of a fit: ours, the baseline's, and ours again unless the run is quick."""
    say(f"fit of {workload.case.name}, {len(workload.points):,} voxels in the region:")
    rows: dict[str, Any] = {}

    def ours() -> None:
        for name, run in our_fits(workload).items():
            began = plan.clock()
            subject = run()
            seconds = plan.clock() - began
            row = rows.setdefault(name, {"seconds": [], "complete": True})
            row["seconds"].append(seconds)
            if workload.trained and "searched" not in name:
                row |= accuracy(workload, subject.latent)
            say(f"  {name}: {seconds:.2f} s")

    if plan.steps >= 672:
        ours()
    curve: list[dict[str, float]] = []
    counts = set(step_counts(plan.steps))

    def callback(step: int, latent: torch.Tensor) -> None:
        if workload.trained and step in counts:
            curve.append({"steps": step, **accuracy(workload, latent)})

    network = plain.PlainField(workload.prior.field).requires_grad_(False)
    frames = plain.frames_of(workload.points)
    start = workload.prior.latent_mean
    _, seconds = plain.fit(network, frames, start, steps=plan.steps, callback=callback, clock=plan.clock)
    row: dict[str, Any] = {"seconds": [seconds], "steps": plan.steps, "complete": plan.steps >= 672}
    rows["plain, eager"] = row
    if curve:
        row |= {
            "curve": curve,
            "dice": max(c["dice"] for c in curve),
            "intensity_bce": curve[-1]["intensity_bce"],
        }
    say(f"  plain, eager: {seconds:.1f} s for {plan.steps} steps")
    ours()
    return rows


def training(workload: Workload, plan: Plan) -> dict[str, list[float]]:
    """Points per second of a training step on whole frames of one subject."""
    config = replace(workload.prior.config.train, points=0, subjects=1)
    frames = plain.frames_of(workload.points)
    start = workload.prior.field

    def theirs(context: plain.Context, few: int | None, wrap: Callable[[Any], Any]) -> Task:
        module = plain.PlainField(start)
        latents = torch.zeros(2, start.config.latent, requires_grad=True)
        optimiser = torch.optim.Adam([*module.parameters(), latents], lr=config.learning_rate)
        weights = [*module.waves.parameters(), *module.scales.parameters()]
        batch = frames[0]
        if few:
            batch = replace(batch, **{f.name: getattr(batch, f.name)[:, :few] for f in fields(batch)})
        network = wrap(module)

        def task() -> float:
            plain.training_step(network, weights, latents, optimiser, 0, batch, config, context)
            return batch.weight.sum().item()

        return task

    def ours(wrap: Callable[[Any], Any]) -> Task:
        field = LatentField(workload.prior.config.field)
        state = latent_state(field, config, 2)
        chosen, batch = draw_batch([workload.points], config, 0)
        network = wrap(field)

        def task() -> float:
            loss, _ = objective(network, field, state.modules["latents"](chosen), batch, config)
            state.descend(loss)
            return batch.weight.sum().item()

        return task

    def alone(module: Any) -> Any:
        return module

    def fast(module: Any) -> Any:
        return compiled(module, say)

    tasks = {
        "plain, eager": theirs(plain.nullcontext, None, alone),
        f"plain, eager, {FEW} points": theirs(plain.nullcontext, FEW, alone),
        f"plain, bf16, {FEW} points": theirs(bf16, FEW, alone),
        "nisf, not compiled": ours(alone),
    }
    if plan.compile and can_compile():
        tasks["plain, compiled"] = theirs(plain.nullcontext, None, fast)
        tasks[f"plain, compiled, bf16, {FEW} points"] = theirs(bf16, FEW, fast)
        tasks["nisf"] = ours(fast)
    say("training, points a second:")
    return interleaved(tasks, plan.repeats, say, plan.clock)


def fit_rates(workload: Workload, plan: Plan) -> dict[str, list[float]]:
    """Points per second of a fitting step, forward and backward to the latent alone."""
    network = plain.PlainField(workload.prior.field).requires_grad_(False)
    frames = plain.frames_of(workload.points)[:1]
    field, batch = workload.prior.field, frames[0]
    start = workload.prior.latent_mean

    def theirs() -> float:
        plain.fit(network, frames, start, steps=1)
        return float(batch.coordinates.shape[1])

    def ours() -> float:
        latent = start.clone()[None].requires_grad_(True)
        logits, _ = in_parts(field, batch.coordinates, latent)
        intensity_bce(logits, batch.intensity, batch.weight).sum().backward()
        return float(batch.coordinates.shape[1])

    say("gradient of the latent, points a second:")
    return interleaved({"plain, eager": theirs, "nisf, not compiled": ours}, plan.repeats, say, plan.clock)


def queries(workload: Workload, plan: Plan) -> dict[str, list[float]]:
    """Points per second of queries at twice the spatial resolution."""
    prior, stacks = workload.prior, workload.case.stacks
    subject = LatentSubject("x", prior, workload.region, stacks, latent=prior.latent_mean)
    grid = stacks[0].grid
    grid = grid.at_spacing(grid.spacing / 2)
    grid = grid.at_times(grid.times[: plan.frames])
    network = plain.PlainField(workload.prior.field)
    image, label, asked = plain.render(network, subject, grid)
    ours = subject.render(grid)
    same = float((ours.label == label).mean())
    scale = float(np.abs(image).max()) or 1.0
    apart = float(np.abs(ours.image[..., 0] - image).max()) / scale
    say(
        f"query, points a second ({asked:,} points; labels the same in {same:.4%}, image within {apart:.1e}):"
    )

    def theirs(planes: bool) -> float:
        plain.render(network, subject, grid, planes=planes)
        return float(asked)

    def render() -> float:
        subject.render(grid)
        return float(asked)

    ways = {
        "plain, eager": partial(theirs, False),
        "plain, eager, a plane at a time": partial(theirs, True),
        "nisf": render,
    }
    return interleaved(ways, plan.repeats, say, plan.clock)


def start_up(workload: Workload, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Seconds of a second run of `nisf segment` without fitting and writing, and of importing torch."""
    rows: dict[str, list[float]] = {"torch": [], "second run": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = write_cohort(folder / "data", 1, seed=0, scanner=QUICK.scanner)[0]
        config = replace(workload.prior.config.fit, steps=1, points=64)
        prior = replace(workload.prior, config=replace(workload.prior.config, fit=config))
        prior.save(folder / "prior")
        command = ["-m", "nisf", "segment", str(case / "sa.nii.gz"), "--prior", str(folder / "prior")]
        command += ["-o", str(folder / "out"), "--region", "centre"]
        for turn in range(repeats + 1):
            for kind, arguments in (("torch", ["-c", "import torch"]), ("second run", command)):
                began = clock()
                done = subprocess.run(
                    [sys.executable, *arguments], capture_output=True, text=True, check=True
                )
                if turn:  # the first run fits and writes; later ones find that done
                    assert kind == "torch" or "done already" in done.stdout
                    rows[kind].append(clock() - began)
    beyond = [b - a for a, b in zip(rows["torch"], rows["second run"], strict=True)]
    return {**{name: summary(values) for name, values in rows.items()}, "beyond torch": summary(beyond)}
