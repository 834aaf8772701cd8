"""Train a prior: set the cases up, run the recipe that the settings name, write the prior's folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nisf import __version__
from nisf.config.overrides import to_dict
from nisf.config.schema import Config, for_data
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.points import CasePoints
from nisf.data.region import Region, half_size, region_from_labels, whole_region
from nisf.device import CPU
from nisf.errors import NisfError
from nisf.files import check_writable, read_tensors
from nisf.kinds.image.recipe import ImageTraining
from nisf.kinds.latent.fit import find_region
from nisf.kinds.latent.recipe import AutoDecoder
from nisf.kinds.latent.selection import choose_evidence
from nisf.kinds.latent.validation import StepDice, validation_points
from nisf.networks.finder import Finder, finder_of, train_finder
from nisf.networks.image_field import ImageField
from nisf.networks.latent_field import Field
from nisf.optimisation.loop import CHECKPOINT, Report, Validation, run
from nisf.optimisation.prefetch import workers_for
from nisf.prior.prior import Prior, new_field
from nisf.prior.snapshots import keep_stage


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


def _search(
    cases: Sequence[Case], config: Config, say: Callable[[str], None]
) -> tuple[np.ndarray | None, Finder | None]:
    """Half size of the region in mm (3,), and the network that finds it; None for the whole field of view."""
    if config.region.whole:
        return None, None
    try:
        half = half_size(cases, config.region.margin_mm)
    except ValueError:
        say("no case is labelled: the whole field of view is used")
        return None, None
    steps, seed = config.region.finder_steps, config.train.seed
    return half, train_finder(_spread(cases, 400), steps=steps, seed=seed)


def _to_keep(half: np.ndarray | None, finder: Finder | None) -> dict[str, Tensor]:
    """What `_search` found, for the checkpoint: so that a resumed run need not train the finder again."""
    if half is None or finder is None:
        return {}
    found = {f"finder.{name}": tensor for name, tensor in finder.state_dict().items()}
    return {"region.half": torch.from_numpy(np.asarray(half, dtype=np.float64)), **found}


def _kept(checkpoint: Path) -> tuple[np.ndarray, Finder] | None:
    """Back from the checkpoint, strictly; None if it has nothing of `_to_keep`."""
    tensors, _ = read_tensors(checkpoint)
    if not any(name.startswith(("region.", "finder.")) for name in tensors):
        return None
    half = tensors.get("region.half")
    if half is None or half.shape != (3,):
        raise NisfError(f"{checkpoint}: tensor 'region.half' is missing or not of shape (3,)")
    return half.numpy(), finder_of(tensors, checkpoint)


def continued(start: Prior) -> Config:
    """Settings for training on from a prior: its own, without the coarse canvases of a first training."""
    return replace(start.config, augment=replace(start.config.augment, coarse=0.0))


def _check_start(start: Prior, config: Config, anatomy: Anatomy) -> None:
    """Refuse a start whose network or structures are other ones."""
    where = start.folder or "the prior to start from"
    if start.anatomy.labels != anatomy.labels:
        raise NisfError(
            f"{where}: its structures are {', '.join(start.anatomy.labels)}, "
            f"those of the cases {', '.join(anatomy.labels)}"
        )
    # How a trained network is asked may change; slices or moments that do not see each other may begin to.
    image, wanted = start.config.image, config.image
    free = {"mirrors": wanted.mirrors, "time_sigma": wanted.time_sigma}
    for name in ("exchange", "moments"):
        free[name] = max(getattr(image, name), getattr(wanted, name))
    if (start.config.field, replace(image, **free)) != (config.field, wanted):
        raise NisfError(f"{where}: its network has other sizes than the settings or the cases ask for")


def train(
    cases: Sequence[Case],
    validation: Sequence[Case],
    anatomy: Anatomy,
    config: Config,
    folder: str | Path,
    *,
    start: Prior | None = None,
    resume: bool = False,
    stages: Collection[int] = (),
    report: Report | None = None,
    say: Callable[[str], None] = print,
    card: Mapping[str, Any] | None = None,
    device: torch.device = CPU,
    workers: int | None = None,
) -> Prior:
    """Train a prior and write its folder.

    Args:
        cases: training subjects; labels may be missing for pixels, slices, frames or whole subjects.
        validation: subjects on which the number of fitting steps is chosen; may be empty.
        anatomy: label names.
        config: settings; sizes that follow from the data are set here.
        folder: the prior's folder; also gets ``log.jsonl`` and ``checkpoint.safetensors``.
        start: a prior whose network, region and finder are where training begins; ``config`` comes
            from `continued`.
        resume: go on from the folder's checkpoint, if there is one.
        stages: steps at which the prior is kept, for `nisf.prior.snapshots.prior_at`.
        report: called with every record of the log.
        say: called with sentences for the user.
        card: entries for the prior's card, e.g. its licence; without one, that of ``start`` holds on.
        device: where the network is trained. What is written does not depend on
            it but for rounding.
        workers: processes that draw the image recipe's samples ahead, which changes none of them;
            `nisf.optimisation.prefetch.workers_for` says how many if None.

    Raises:
        NisfError: there is nothing to train on, the folder cannot be written, the checkpoint
            belongs to other settings, cases or start, or the data's sizes are not those of ``start``.
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
    if start is not None:
        _check_start(start, config, anatomy)
        half, finder = start.half, start.finder
    else:
        kept = _kept(checkpoint) if checkpoint.is_file() else None
        half, finder = kept or _search(cases, config, say)

    size = config.field.latent
    prior = Prior(config, anatomy, new_field(config), torch.zeros(size), torch.eye(size), half, finder)
    regions = _regions(cases, prior, config)
    torch.manual_seed(settings.seed)
    recipe: AutoDecoder | ImageTraining
    if config.field.kind == "image":
        held = _spread(validation, settings.validate_cases)
        ahead = workers_for(device) if workers is None else workers
        recipe = ImageTraining(cases, regions, held, prior, say, device, ahead)
        names = [case.name for case in cases]
    else:
        pool = [CasePoints(case, region, dimensions) for case, region in zip(cases, regions, strict=True)]
        filled = [i for i, points in enumerate(pool) if len(points)]
        if not filled:
            raise NisfError("no case was measured inside its region; check the folder with 'nisf check'")
        if len(filled) < len(cases):
            say(f"{len(cases) - len(filled)} cases have nothing inside their region and are left out")
            cases, pool = [cases[i] for i in filled], [pool[i] for i in filled]
        points = validation_points(_spread(validation, settings.validate_cases), prior)
        recipe = AutoDecoder(pool, points, config, anatomy.labels, say, device)
        names = [points.name for points in pool]
    identity: dict[str, Any] = {"config": to_dict(config), "cases": names}
    if start is not None:
        recipe.begin_with(start)
        identity["start"] = start.fingerprint

    def after_step(step: int) -> None:
        if step in stages:
            keep_stage(folder, step, recipe.field, recipe.statistics())

    kept = _to_keep(half, finder)
    last = run(recipe, settings, folder, identity, kept, report=report, say=say, after_step=after_step)
    if isinstance(last, StepDice) and isinstance(recipe, AutoDecoder):
        fitting = replace(config.fit, steps=last.best_steps)
        if config.fit.method == "second-order":
            statistics = recipe.statistics()
            fitting = choose_evidence(recipe.field, *statistics, recipe.held, config, anatomy.labels, say)
        prior.config = replace(config, fit=fitting)
    if isinstance(recipe, ImageTraining) and config.fit.islands == "remove" and recipe.given:
        prior.config = replace(config, fit=replace(config.fit, certain=recipe.certain()))
    return _finish(
        prior, recipe.field, recipe.statistics(), last, folder, cases, {**_inherited(start), **(card or {})}
    )


def _inherited(start: Prior | None) -> dict[str, Any]:
    """Entries of the card that another prior's weights bring along."""
    if start is None:
        return {}
    return {"licence": start.card.get("licence", "not stated"), "start": start.fingerprint}


def _finish(
    prior: Prior,
    field: Field | ImageField,
    statistics: tuple[Tensor, Tensor],
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
        "steps": prior.config.train.steps,
    }
    trained = Prior(
        prior.config,
        prior.anatomy,
        field.cpu(),
        statistics[0].cpu(),
        statistics[1].cpu(),
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
