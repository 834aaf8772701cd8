"""Train a prior: an auto-decoder with one latent per subject (paper, section 2.2).

Every random draw depends on the seed and the step alone, and a checkpoint is one file that is
replaced whole, so a run that was killed and resumed ends where an undisturbed one does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nisf import __version__
from nisf.anatomies import Anatomy
from nisf.case import Case
from nisf.compiled import compiled
from nisf.config import Config, TrainConfig, for_data, to_dict
from nisf.errors import NisfError
from nisf.evidence import choose_evidence
from nisf.field import Field
from nisf.files import check_writable, read_tensors, replacing, write_tensors
from nisf.finder import train_finder
from nisf.fitting import find_region
from nisf.losses import class_bce, dice_loss, intensity_bce
from nisf.points import Batch, CasePoints, batch_of
from nisf.prior import Prior
from nisf.region import Region, half_size, region_from_labels, whole_region
from nisf.state import State, new_state, rate_factor
from nisf.validate import Validation, validate, validation_points

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
LOG_EVERY = 10

Report = Callable[[Mapping[str, Any]], None]
"""Called with every record of the log: ``{"step": ..., "loss": ..., ...}``."""


def draw_batch(pool: Sequence[CasePoints], config: TrainConfig, step: int) -> tuple[Tensor, Batch]:
    """The subjects of a step and their points; depends on seed and step alone.

    Subjects come in shuffled rounds, so that each is seen equally often.
    """
    chosen = []
    for slot in range(step * config.subjects, (step + 1) * config.subjects):
        turn, place = divmod(slot, len(pool))
        chosen.append(int(np.random.default_rng([config.seed, 2, turn]).permutation(len(pool))[place]))
    rng = np.random.default_rng([config.seed, 3, step])
    drawn = [
        (pool[i], pool[i].draw(rng, config.points, config.balanced) if config.points else pool[i].frame(rng))
        for i in chosen
    ]
    return torch.tensor(chosen), batch_of(drawn, pad_to=1 if config.points else 8192)


def objective(
    network: Callable[..., tuple[Tensor, Tensor]],
    field: Field,
    latent: Tensor,
    batch: Batch,
    config: TrainConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss and its terms (paper, equation 1)."""
    of_intensity, of_class = network(batch.coordinates, latent)
    terms = {
        "class_bce": class_bce(of_class, batch.label, batch.weight).mean(),
        "dice_loss": dice_loss(of_class, batch.label, batch.weight).mean(),
        "intensity_bce": intensity_bce(of_intensity, batch.intensity, batch.weight).mean(),
    }
    penalty = config.weight_l2 * torch.stack([p.square().sum() for p in field.penalised()]).sum()
    penalty = penalty + config.latent_l2 * latent.square().mean()
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"] + penalty
    return loss, {"loss": loss, **terms}


def _open_log(folder: Path, step: int) -> None:
    """Keep the log's lines up to ``step``: what a killed run did after its checkpoint happens again."""
    path = folder / LOG
    kept = []
    if step and path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                break  # the line that the kill cut off
            if record["step"] <= step:
                kept.append(line + "\n")
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _regions(cases: Sequence[Case], prior: Prior, config: Config) -> list[Region]:
    """Where each training case is looked at: from its labels, else as at test."""
    regions = []
    for case in cases:
        region = None
        if config.region.whole or prior.half is None:
            region = whole_region(case)
        else:
            region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
        regions.append(region or find_region(case, prior)[0])
    return regions


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, evenly spread over the list."""
    indices = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[i] for i in indices]


def train(
    cases: Sequence[Case],
    validation: Sequence[Case],
    anatomy: Anatomy,
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    report: Report | None = None,
    say: Callable[[str], None] = print,
    card: Mapping[str, Any] | None = None,
) -> Prior:
    """Train a prior and write its folder.

    Args:
        cases: training subjects; labels may be missing for pixels, slices, frames or whole subjects.
        validation: subjects on which the number of fitting steps is chosen; may be empty.
        anatomy: label names.
        config: settings; sizes that follow from the data are set here.
        folder: the prior's folder; also gets ``log.jsonl`` and ``checkpoint.safetensors``.
        resume: go on from the folder's checkpoint, if there is one.
        report: called with every record of the log.
        say: called with sentences for the user.
        card: entries for the prior's card, e.g. its licence.

    Raises:
        NisfError: there is nothing to train on, the folder cannot be written, or the checkpoint
            belongs to other settings or subjects.
    """
    if not cases:
        raise NisfError("there are no cases to train on; check the folder with 'nisf check'")
    folder = check_writable(folder)
    checkpoint = folder / CHECKPOINT
    if checkpoint.is_file() and not resume:
        raise NisfError(f"{folder}: holds a run already; give --resume to go on with it, or another folder")
    dimensions = config.field.dimensions
    config = for_data(config, dimensions=dimensions, channels=cases[0].channels, classes=len(anatomy.labels))
    settings = config.train
    half = None
    if not config.region.whole:
        try:
            half = half_size(cases, config.region.margin_mm)
        except ValueError:
            say("no case is labelled: the whole field of view is used")
    finder = (
        train_finder(_spread(cases, 400), steps=config.region.finder_steps, seed=settings.seed)
        if half is not None
        else None
    )

    empty, size = torch.zeros(config.field.latent), config.field.latent
    prior = Prior(config, anatomy, Field(config.field), empty, torch.eye(size), half, finder)
    regions = _regions(cases, prior, config)
    pool = [CasePoints(case, region, dimensions) for case, region in zip(cases, regions, strict=True)]
    kept = [i for i, points in enumerate(pool) if len(points)]
    if not kept:
        raise NisfError("no case was measured inside its region; check the folder with 'nisf check'")
    if len(kept) < len(cases):
        say(f"{len(cases) - len(kept)} cases have nothing inside their region and are left out")
        cases, pool = [cases[i] for i in kept], [pool[i] for i in kept]
    held = validation_points(_spread(validation, settings.validate_cases), prior)

    identity = {"config": to_dict(config), "cases": [points.name for points in pool]}
    state = new_state(config, len(pool))
    if checkpoint.is_file():
        tensors, metadata = read_tensors(checkpoint)
        if _decisive(json.loads(metadata["identity"])) != _decisive(identity):
            raise NisfError(f"{checkpoint}: was made with other settings or cases; train into another folder")
        state.load(tensors, int(metadata["step"]))
        say(f"resuming at step {state.step} of {settings.steps}")
    _open_log(folder, state.step)

    def save_checkpoint() -> None:
        write_tensors(
            checkpoint, state.tensors(), {"identity": json.dumps(identity), "step": str(state.step)}
        )

    network = compiled(state.field, say) if settings.compile else state.field
    bases = [group["lr"] for optimiser in state.optimisers for group in optimiser.param_groups]
    last: Validation | None = None
    with (folder / LOG).open("a", encoding="utf-8") as log:

        def note(record: dict[str, Any]) -> None:
            log.write(json.dumps(record, allow_nan=False) + "\n")
            log.flush()
            if report:
                report(record)

        while state.step < settings.steps:
            factor = rate_factor(settings, state.step)
            groups = [g for optimiser in state.optimisers for g in optimiser.param_groups]
            for group, base in zip(groups, bases, strict=True):
                group["lr"] = base * factor
            chosen, batch = draw_batch(pool, settings, state.step)
            loss, terms = objective(network, state.field, state.latents(chosen), batch, settings)
            for optimiser in state.optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in state.optimisers:
                optimiser.step()
            state.step += 1
            step, final = state.step, state.step == settings.steps
            if step % LOG_EVERY == 0 or final:
                values = {name: float(term.detach()) for name, term in terms.items()}
                if not math.isfinite(values["loss"]):
                    raise NisfError(f"the loss is {values['loss']} at step {step}; lower the learning rate")
                note({"step": step, **{name: round(v, 6) for name, v in values.items()}})
            due = settings.validate_every and step % settings.validate_every == 0
            if held and (final or due):
                last = validate(state.field, *_statistics(state), held, config, anatomy.labels, say)
                note({"step": step, "validation": last.to_dict()})
            if step % settings.checkpoint_every == 0 or final:
                save_checkpoint()

    if held and last is None:  # a finished run, resumed: only the prior was not written
        last = validate(state.field, *_statistics(state), held, config, anatomy.labels, say)
    if last is not None:
        prior.config = replace(config, fit=replace(config.fit, steps=last.best_steps))
        if config.fit.method == "second-order":
            chosen = choose_evidence(state.field, *_statistics(state), held, config, anatomy.labels, say)
            prior.config = replace(config, fit=chosen)
    return _finish(prior, state, last, folder, cases, card or {})


def _statistics(state: State) -> tuple[Tensor, Tensor]:
    """Mean (l,) and covariance (l, l) of the training latents."""
    latents = state.latents.weight.detach()
    if len(latents) > 1:
        return latents.mean(0), torch.cov(latents.T)
    return latents.mean(0), torch.eye(latents.shape[1]) * 1e-4


def _decisive(identity: dict[str, Any]) -> dict[str, Any]:
    """What the weights depend on. How subjects are fitted may change: it is validated anew."""
    config = {name: part for name, part in identity["config"].items() if name != "fit"}
    return {**identity, "config": config}


def _finish(
    prior: Prior,
    state: State,
    last: Validation | None,
    folder: Path,
    cases: Sequence[Case],
    card: Mapping[str, Any],
) -> Prior:
    """Put the trained parts into the prior and write it."""
    spacing = np.array([stack.grid.spacing for case in cases for stack in case.stacks])
    summary = {
        "subjects": len(cases),
        "slices": sum(len(case.slices) for case in cases),
        "labelled_slices": sum(len(case.labelled()) for case in cases),
        "spacing_mm": {"smallest": spacing.min(0).tolist(), "largest": spacing.max(0).tolist()}
        if len(spacing)
        else None,
        "steps": state.step,
    }
    trained = Prior(
        prior.config,
        prior.anatomy,
        state.field,
        *_statistics(state),
        prior.half,
        prior.finder,
        {
            "licence": "not stated",
            **card,
            "training": summary,
            "validation": None if last is None else last.to_dict(),
            "versions": {"nisf": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
        },
    )
    trained.save(folder)
    return trained
