"""Train a prior: set the cases up, run the recipe that the settings name, write the prior's folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from nisf.data.region import half_size
from nisf.device import CPU
from nisf.errors import BadFileError, BadSettingError
from nisf.files import check_writable, read_tensors
from nisf.kinds.recipe import TrainingSetup, spread
from nisf.kinds.registry import kind_of
from nisf.networks.finder import Finder, finder_certainty, finder_of, look
from nisf.networks.finder_training import train_finder
from nisf.optimisation.loop import CHECKPOINT, LOG, LogCallback, Validation, run
from nisf.outputs import recorded
from nisf.prior.prior import Prior
from nisf.prior.region_search import RegionSearch
from nisf.prior.snapshots import write_snapshot
from nisf.prior.stored import SPECIFICATION, WEIGHTS
from nisf.subject.subject import Subject

PART, FILES = "train", (CHECKPOINT, LOG, SPECIFICATION, WEIGHTS)
"""What a training is called in the folder's record, and what it writes."""

FINDER_CASES = 400
"""Cases that the finder is trained on at most, evenly spread over all."""


@dataclass(frozen=True, eq=False)
class TrainOptions:
    """How a training is run; none of it changes the prior but for rounding, except `start`.

    Attributes:
        start: a prior whose network, region and finder are where training begins; the settings come from
            its `Prior.continued`.
        resume: go on from the folder's checkpoint, if there is one.
        snapshots: steps at which the prior is kept, for `nisf.prior.snapshots.prior_at`.
        report: called with every record of the log.
        say: called with sentences for the user.
        card: entries for the prior's card, e.g. its licence; without one, that of `start` holds on.
        device: where the network is trained.
        workers: processes that prepare the coming steps, which changes none of them; the recipe's choice
            if None.
    """

    start: Prior | None = None
    resume: bool = False
    snapshots: Collection[int] = ()
    report: LogCallback | None = None
    say: Callable[[str], None] = print
    card: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = CPU
    workers: int | None = None


def train(
    cases: Sequence[Case],
    validation: Sequence[Case],
    anatomy: Anatomy,
    config: Config,
    folder: str | Path,
    options: TrainOptions | None = None,
) -> Prior[Subject]:
    """Train a prior and write its folder.

    Args:
        cases: training subjects; labels may be missing for pixels, slices, frames or whole subjects.
        validation: subjects on which the number of fitting steps is chosen; may be empty.
        anatomy: label names.
        config: settings; sizes that follow from the data are set here.
        folder: the prior's folder; also gets ``log.jsonl`` and ``checkpoint.safetensors``.
        options: how to run it.

    Raises:
        BadSettingError: there is nothing to train on, the folder holds a run already, or the sizes are not
            those of the start.
        BusyError: another process trains there.
        BadFileError: a file is in the way that nisf did not write, the folder cannot be written, or the
            checkpoint is damaged or belongs to other settings, cases or start.
    """
    options = options or TrainOptions()
    if not cases:
        raise BadSettingError("there are no cases to train on; check the folder with 'nisf check'")
    folder = _run_folder(folder, options)
    ours = FILES if options.resume else ()
    with recorded(folder, "", PART, planned=FILES, ours=ours, goes_on=options.resume):
        return _trained(cases, validation, anatomy, config, folder, options)


def _trained(
    cases: Sequence[Case],
    validation: Sequence[Case],
    anatomy: Anatomy,
    config: Config,
    folder: Path,
    options: TrainOptions,
) -> Prior[Subject]:
    """Train a prior and write its files; see `train`."""
    sizes = {"channels": cases[0].channels, "classes": len(anatomy.labels)}
    config = for_data(config, dimensions=config.field.dimensions, **sizes)
    kind = kind_of(config)
    search = _search(cases, anatomy, config, folder / CHECKPOINT, options)
    torch.manual_seed(config.train.seed)
    where = options.device, options.workers
    # Whatever is trained on is looked at, however unlike other cases it is.
    everywhere = replace(search, certain=0.0)
    setup = TrainingSetup(cases, validation, anatomy, config, everywhere, options.say, *where)
    recipe = kind.recipe(setup)
    identity: dict[str, Any] = {"config": to_dict(config), "cases": [case.name for case in recipe.cases]}
    if options.start is not None:
        recipe.begin_with(options.start)
        identity["start"] = options.start.fingerprint

    def after_step(step: int) -> None:
        if step in options.snapshots:
            write_snapshot(folder, step, recipe.weights())

    last = run(
        recipe,
        config.train,
        folder,
        identity,
        _search_tensors(search),
        report=options.report,
        say=options.say,
        after_step=after_step,
    )
    prior = recipe.finish(last, _card(recipe.cases, config, last, options))
    region = replace(config.region, certain=search.certain)
    return replace(prior, config=replace(prior.config, region=region)).save(folder)


def _run_folder(folder: str | Path, options: TrainOptions) -> Path:
    """The folder of the run, made if need be.

    Raises:
        BadFileError: it cannot be written.
        BadSettingError: it holds a run that is not to be resumed.
    """
    folder = check_writable(folder)
    if (folder / CHECKPOINT).is_file() and not options.resume:
        raise BadSettingError(
            f"{folder}: holds a run already; resume it, or choose another folder", options=("resume",)
        )
    return folder


def _search(
    cases: Sequence[Case], anatomy: Anatomy, config: Config, checkpoint: Path, options: TrainOptions
) -> RegionSearch:
    """Where cases are looked at: as the start does, as the checkpoint says, or found anew.

    Raises:
        BadSettingError: the start's network or structures are other ones.
        BadFileError: the checkpoint is damaged.
    """
    if options.start is not None:
        _check_start(options.start, config, anatomy)
        search = options.start.search
        # What is trained on must not be refused by the prior that comes of it.
        return replace(search, certain=min(search.certain, _least_certain(cases, search.finder)))
    kept = _search_in(checkpoint) if checkpoint.is_file() else None
    return kept or _search_for(cases, config, options.say)


def _search_for(cases: Sequence[Case], config: Config, say: Callable[[str], None]) -> RegionSearch:
    """The box around the cases' structures, and a network that finds it, trained."""
    if config.region.whole:
        return RegionSearch(None)
    try:
        half = half_size(cases, config.region.margin_mm)
    except ValueError:
        say("no case is labelled: the whole field of view is used")
        return RegionSearch(None)
    chosen = spread(cases, FINDER_CASES)
    finder = train_finder(chosen, steps=config.region.finder_steps, seed=config.train.seed)
    if finder is None:
        return RegionSearch(half)
    return RegionSearch(half, finder, _least_certain(chosen, finder))


def _least_certain(cases: Sequence[Case], finder: Finder | None) -> float:
    """The certainty to ask for: half of the finder's least on labelled cases."""
    if finder is None:
        return 0.0
    sure = (finder_certainty(look(case, finder)) for case in spread(cases, FINDER_CASES) if case.labelled())
    return round(0.5 * min(sure, default=0.0), 3)


def _search_tensors(search: RegionSearch) -> dict[str, Tensor]:
    """The search for the checkpoint: a resumed run need not train the finder again."""
    if search.half is None or search.finder is None:
        return {}
    found = {f"finder.{name}": tensor for name, tensor in search.finder.state_dict().items()}
    half = torch.from_numpy(np.asarray(search.half, dtype=np.float64))
    return {"region.half": half, "region.certain": torch.tensor(search.certain).double(), **found}


def _search_in(checkpoint: Path) -> RegionSearch | None:
    """Back from the checkpoint, strictly; None if it has nothing of `_search_tensors`."""
    tensors, _ = read_tensors(checkpoint)
    if not any(name.startswith(("region.", "finder.")) for name in tensors):
        return None
    half = tensors.get("region.half")
    if half is None or half.shape != (3,):
        raise BadFileError(f"{checkpoint}: tensor 'region.half' is missing or not of shape (3,)")
    # Older checkpoints know no least certainty.
    certain = float(tensors.get("region.certain", torch.tensor(0.0)))
    return RegionSearch(half.numpy(), finder_of(tensors, checkpoint), certain)


def _check_start(start: Prior, config: Config, anatomy: Anatomy) -> None:
    """Refuse a start whose network or structures are other ones."""
    where = start.folder or "the prior to start from"
    if start.anatomy.labels != anatomy.labels:
        raise BadSettingError(
            f"{where}: its structures are {', '.join(start.anatomy.labels)}, "
            f"those of the cases {', '.join(anatomy.labels)}"
        )
    if start.kind != config.field.kind or not start.accepts(config):
        raise BadSettingError(f"{where}: its network has other sizes than the settings or the cases ask for")


def _card(
    cases: Sequence[Case], config: Config, last: Validation | None, options: TrainOptions
) -> dict[str, Any]:
    """The prior's card; a licence holds on from the prior that training began with."""
    start = options.start
    inherited = {} if start is None else {"start": start.fingerprint}
    return {
        "licence": "not stated" if start is None else start.card.get("licence", "not stated"),
        **inherited,
        **options.card,
        "training": _summary(cases, config),
        "validation": None if last is None else last.to_dict(),
        "versions": {"nisf": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _summary(cases: Sequence[Case], config: Config) -> dict[str, Any]:
    """What was trained on, for the card."""
    spacing = np.array([stack.grid.spacing for case in cases for stack in case.stacks])
    return {
        "subjects": len(cases),
        "slices": sum(len(case.slices) for case in cases),
        "labelled_slices": sum(len(case.labelled()) for case in cases),
        "spacing_mm": {"smallest": spacing.min(0).tolist(), "largest": spacing.max(0).tolist()}
        if len(spacing)
        else None,
        "steps": config.train.steps,
    }
