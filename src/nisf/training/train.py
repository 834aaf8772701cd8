"""Train a prior: prepare the cases, run the recipe of its kind, write the prior's folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nisf import __version__
from nisf.config.overrides import to_dict
from nisf.config.schema import Config, for_data
from nisf.data.anatomy import Anatomy, to_json
from nisf.data.case import Case
from nisf.data.outline import Outline, content_of_all, contents_of, names_of, outlines_of
from nisf.data.wording import counted, first_few
from nisf.device import CPU
from nisf.errors import BadSettingError
from nisf.files import check_writable
from nisf.kinds.load import load_prior
from nisf.kinds.recipe import TrainingSetup
from nisf.kinds.registry import kind_of
from nisf.optimisation.checkpoint import CHECKPOINT
from nisf.optimisation.loop import LOG, LogCallback, Validation, run
from nisf.optimisation.ranks import from_first, is_first, wait
from nisf.outputs import Made, recorded
from nisf.prior.prior import Prior
from nisf.prior.region_search import RegionSearch
from nisf.prior.snapshots import write_snapshot
from nisf.prior.stored import SPECIFICATION, WEIGHTS
from nisf.subject.subject import Subject
from nisf.training.search import FinderCheckpoint, Progress, least_certain, search_for, search_tensors

PART, FILES = "train", (CHECKPOINT, LOG, SPECIFICATION, WEIGHTS)
"""Name of a training's part in the folder's record, and the files that it writes."""


@dataclass(frozen=True, eq=False)
class TrainOptions:
    """Options of a training run; except for `start`, they change the prior by no more than rounding.

    Attributes:
        start: a prior whose network, region and finder are where training begins; the settings come from
            its `Prior.continued`.
        resume: go on from the folder's checkpoint, if there is one.
        snapshots: steps at which the prior is kept, for `nisf.prior.snapshots.prior_at`.
        report: called with every log record.
        say: called with messages for the user.
        progress: called during preparations before the first step.
        card: entries for the prior's card, e.g. its licence; by default that of `start`.
        device: device to train on.
        workers: processes that prepare samples in advance; results do not depend on it. None lets the
            recipe choose.
    """

    start: Prior | None = None
    resume: bool = False
    snapshots: Collection[int] = ()
    report: LogCallback | None = None
    say: Callable[[str], None] = print
    progress: Progress | None = None
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

    With several ranks (`nisf.optimisation.ranks`), call it with the same arguments on each; the first one
    writes.

    Args:
        cases: training subjects; labels may be missing for pixels, slices, frames or whole subjects.
        validation: subjects used to choose the number of fitting steps; may be empty.
        anatomy: label names.
        config: settings; sizes that depend on the data are filled in.
        folder: the prior's folder; also gets ``log.jsonl`` and ``checkpoint.safetensors``.
        options: options of the run.

    Raises:
        BadSettingError: there is nothing to train on, the folder already holds a run, or the sizes differ
            from those of the prior to start from.
        BusyError: another process is training in this folder.
        BadFileError: a file that nisf did not write would be replaced, the folder cannot be written, or the
            checkpoint is damaged or belongs to other settings, cases or starting weights.
    """
    options = options or TrainOptions()
    if not cases:
        raise BadSettingError("there are no cases to train on; check the folder with 'nisf check'")
    if not is_first():
        silent = replace(options, say=lambda _: None, report=None, progress=None)
        return _trained(cases, validation, anatomy, config, Path(folder), silent)
    folder = _run_folder(folder, options)
    _tell_of_shared(cases, validation, options.say)
    _tell_of_unlabelled(validation, anatomy, options.say)
    ours = FILES if options.resume else ()
    made = Made(options=_asked(config, options))
    with recorded(folder, "", PART, made, planned=FILES, ours=ours, goes_on=options.resume):
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
    # Training cases must not be refused, however unlike the others they are.
    everywhere = replace(search, certain=0.0)
    setup = TrainingSetup(cases, validation, anatomy, config, everywhere, options.say, *where)
    recipe = kind.recipe(setup)
    identity = _identity(config, anatomy, recipe.cases)
    if options.start is not None:
        recipe.begin_with(options.start)
        identity["start"] = options.start.fingerprint

    def after_step(step: int) -> None:
        if step in options.snapshots:
            weights = recipe.weights()
            if is_first():
                write_snapshot(folder, step, weights)

    last = run(
        recipe,
        config.train,
        folder,
        identity,
        search_tensors(search),
        report=options.report,
        say=options.say,
        after_step=after_step,
    )
    outlines = outlines_of(recipe.cases, order=anatomy.reorder)
    prior = recipe.finish(last, _card(outlines, config, last, options))
    region = replace(config.region, certain=search.certain)
    if is_first():
        prior = replace(prior, config=replace(prior.config, region=region)).save(folder)
    wait()
    return prior if is_first() else load_prior(folder)


def _tell_of_shared(cases: Sequence[Case], validation: Sequence[Case], say: Callable[[str], None]) -> None:
    """Say which validation cases are also trained on, whatever they are called."""
    trained = set(contents_of(cases))
    named = zip(names_of(validation), contents_of(validation), strict=True)
    if shared := [name for name, content in named if content in trained]:
        say(
            f"{len(shared)} of {counted(len(validation), 'validation case')} also in training "
            f"({first_few(shared)}): the validation says little about new cases; validate on others"
        )


def _tell_of_unlabelled(validation: Sequence[Case], anatomy: Anatomy, say: Callable[[str], None]) -> None:
    """Say which validation cases have no labels, since nothing is scored or chosen on them."""
    outlines = outlines_of(validation, order=anatomy.reorder)
    named = zip(names_of(validation), outlines, strict=True)
    if missing := [name for name, one in named if not one.labelled_slices]:
        say(
            f"{len(missing)} of {counted(len(validation), 'validation case')} without labels "
            f"({first_few(missing)}): nothing is scored on those"
        )


def _asked(config: Config, options: TrainOptions) -> dict[str, Any]:
    """Everything besides the cases that affects the prior, for the folder's record."""
    start = {} if options.start is None else {"start": options.start.fingerprint}
    return {"settings": to_dict(config), "seed": config.train.seed, **start}


def _run_folder(folder: str | Path, options: TrainOptions) -> Path:
    """The folder of the run, created if necessary.

    Raises:
        BadFileError: it cannot be written.
        BadSettingError: it contains a run that should not be resumed.
    """
    folder = check_writable(folder)
    if (folder / CHECKPOINT).is_file() and not options.resume:
        raise BadSettingError(
            f"{folder}: already contains a run; resume it, or choose another folder", options=("resume",)
        )
    return folder


def _search(
    cases: Sequence[Case], anatomy: Anatomy, config: Config, checkpoint: Path, options: TrainOptions
) -> RegionSearch:
    """The search for regions: of the prior to start from, from the checkpoint, or made by the first rank.

    Raises:
        BadSettingError: the start has another network or other structures.
        BadFileError: the checkpoint is damaged, or belongs to other settings or cases.
    """
    if options.start is not None:
        _check_start(options.start, config, anatomy)
        search = options.start.search
        # The resulting prior must not refuse its training cases.
        certain = from_first(lambda: min(search.certain, least_certain(cases, search.finder)))
        return replace(search, certain=certain)

    def found() -> RegionSearch:
        keeper = FinderCheckpoint(
            checkpoint, _identity(config, anatomy, cases), options.say, options.progress
        )
        return search_for(cases, config, keeper, order=anatomy.reorder)

    return from_first(found)


def _identity(config: Config, anatomy: Anatomy, cases: Sequence[Case]) -> dict[str, Any]:
    """What makes a training this one, for its checkpoint, except its start."""
    return {"config": to_dict(config), "anatomy": to_json(anatomy), **data_of(cases)}


def data_of(cases: Sequence[Case]) -> dict[str, Any]:
    """Identity of the training data for a checkpoint: names, and a hash of the contents of all cases."""
    return {"cases": names_of(cases), "data": content_of_all(cases)}


def _check_start(start: Prior, config: Config, anatomy: Anatomy) -> None:
    """Reject a start that has another network or other structures."""
    where = start.folder or "the prior to start from"
    if start.anatomy.labels != anatomy.labels:
        raise BadSettingError(
            f"{where}: its structures are {', '.join(start.anatomy.labels)}, "
            f"those of the cases {', '.join(anatomy.labels)}"
        )
    if start.kind != config.field.kind or not start.accepts(config):
        raise BadSettingError(f"{where}: the settings or the cases need a network of other sizes")


def _card(
    outlines: Sequence[Outline], config: Config, last: Validation | None, options: TrainOptions
) -> dict[str, Any]:
    """The prior's card; by default, the licence is that of the prior that training started from."""
    start = options.start
    inherited = {} if start is None else {"start": start.fingerprint}
    return {
        "licence": "not stated" if start is None else start.card.get("licence", "not stated"),
        **inherited,
        **options.card,
        "training": _summary(outlines, config),
        "validation": None if last is None else last.to_dict(),
        "versions": {"nisf": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _summary(outlines: Sequence[Outline], config: Config) -> dict[str, Any]:
    """Summary of the training data, for the card."""
    spacing = np.concatenate([one.spacing for one in outlines])
    return {
        "subjects": len(outlines),
        "slices": sum(one.slices for one in outlines),
        "labelled_slices": sum(one.labelled_slices for one in outlines),
        "spacing_mm": {"smallest": spacing.min(0).tolist(), "largest": spacing.max(0).tolist()}
        if len(spacing)
        else None,
        "steps": config.train.steps,
    }
