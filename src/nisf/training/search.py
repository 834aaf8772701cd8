"""The search for regions in training: from a checkpoint, or with a newly trained finder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nisf.config.schema import Config
from nisf.data.case import Case
from nisf.data.outline import box_of, outlines_of
from nisf.errors import BadFileError
from nisf.files import read_metadata, read_tensors
from nisf.kinds.recipe import spread
from nisf.networks.finder import Finder, finder_certainty, finder_of, look
from nisf.networks.finder_state import FinderState
from nisf.networks.finder_training import train_finder
from nisf.optimisation.checkpoint import has_begun, refuse_other, write_checkpoint
from nisf.prior.region_search import RegionSearch

FINDER_CASES = 400
"""Maximum number of cases for the finder's training, evenly spread over all."""
KEEP_SECONDS = 10.0
"""Seconds between checkpoints of the finder's training."""
UNFINISHED = "unfinished."
"""Prefix of tensors of an unfinished finder in a checkpoint."""

Progress = Callable[[str, int, int], None]
"""Called with what is being prepared, the number of finished steps, and their total."""


class FinderCheckpoint:
    """Saves the training of a finder, or of a similar network, in a checkpoint.

    Args:
        path: path of the checkpoint.
        identity: settings and cases, which must be those of the checkpoint.
        say: called with sentences for the user.
        progress: called after each step.
        name: name of the network.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        say: Callable[[str], None],
        progress: Progress | None = None,
        name: str = "finder",
    ) -> None:
        self.path, self.identity, self.say, self.progress, self.name = path, identity, say, progress, name
        self._saved = time.monotonic()

    def begin(self, state: FinderState) -> None:
        """Resume from the checkpoint, if there is one.

        Raises:
            BadFileError: it is damaged, or belongs to other settings or cases.
        """
        if not self.path.is_file() or has_begun(self.path):
            return
        tensors, metadata = read_tensors(self.path)
        refuse_other(self.path, metadata, self.identity)
        kept = {n.removeprefix(UNFINISHED): t for n, t in tensors.items() if n.startswith(UNFINISHED)}
        if not kept:
            return
        try:
            state.load(kept)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise BadFileError(
                f"{self.path}: not a checkpoint of this training ({type(error).__name__}); train elsewhere"
            ) from error
        if 0 < state.step < state.steps:
            self.say(f"resuming the {self.name} at step {state.done} of {state.total}")

    def after_step(self, state: FinderState) -> None:
        """Report the progress, and save the state from time to time."""
        if self.progress is not None:
            self.progress(self.name, state.done, state.total)
        if time.monotonic() - self._saved >= KEEP_SECONDS and state.step < state.steps:
            tensors = {f"{UNFINISHED}{name}": tensor for name, tensor in state.tensors().items()}
            write_checkpoint(self.path, tensors, self.identity)
            self._saved = time.monotonic()


def search_for(
    cases: Sequence[Case], config: Config, keeper: FinderCheckpoint, *, order: bool = False
) -> RegionSearch:
    """The box around the cases' structures and a finder for it, from the checkpoint or newly trained.

    Args:
        cases: training cases.
        config: all settings.
        keeper: saves the finder's training.
        order: the anatomy's `nisf.data.anatomy.Anatomy.reorder`.

    Raises:
        BadFileError: the checkpoint is damaged, or belongs to other settings or cases.
    """
    if keeper.path.is_file() and (found := search_in(keeper.path)) is not None:
        if not has_begun(keeper.path):
            refuse_other(keeper.path, read_metadata(keeper.path), keeper.identity)
        return found
    if config.region.whole:
        return RegionSearch(None)
    try:
        half = box_of(outlines_of(cases, order=order), config.region.margin_mm)
    except ValueError:
        keeper.say("no case is labelled: the whole field of view is used")
        return RegionSearch(None)
    chosen = spread(cases, FINDER_CASES)
    finder = train_finder(chosen, steps=config.region.finder_steps, seed=config.train.seed, keeper=keeper)
    if finder is None:
        return RegionSearch(half)
    search = RegionSearch(half, finder, least_certain(chosen, finder))
    # Before the recipe is set up, which can take long.
    write_checkpoint(keeper.path, search_tensors(search), keeper.identity)
    return search


def least_certain(cases: Sequence[Case], finder: Finder | None) -> float:
    """The certainty to require: half of the finder's minimum on labelled cases."""
    if finder is None:
        return 0.0
    sure = (finder_certainty(look(case, finder)) for case in spread(cases, FINDER_CASES) if case.labelled())
    return round(0.5 * min(sure, default=0.0), 3)


def search_tensors(search: RegionSearch) -> dict[str, Tensor]:
    """Tensors of the search for a checkpoint, so that a resumed run need not train the finder again."""
    if search.half is None or search.finder is None:
        return {}
    found = {f"finder.{name}": tensor for name, tensor in search.finder.state_dict().items()}
    half = torch.from_numpy(np.asarray(search.half, dtype=np.float64))
    return {"region.half": half, "region.certain": torch.tensor(search.certain).double(), **found}


def search_in(checkpoint: Path) -> RegionSearch | None:
    """The search in a checkpoint, read strictly; None if it has no `search_tensors`."""
    tensors, _ = read_tensors(checkpoint)
    if not any(name.startswith(("region.", "finder.")) for name in tensors):
        return None
    half = tensors.get("region.half")
    if half is None or half.shape != (3,):
        raise BadFileError(f"{checkpoint}: tensor 'region.half' is missing or not of shape (3,)")
    # Older checkpoints have no minimum certainty.
    certain = float(tensors.get("region.certain", torch.tensor(0.0)))
    return RegionSearch(half.numpy(), finder_of(tensors, checkpoint), certain)
