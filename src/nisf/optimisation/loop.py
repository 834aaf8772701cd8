"""The training loop: steps, log, checkpoints and resuming. The recipe defines what is trained.

All random draws of a recipe depend only on the seed and the step, and a checkpoint is one file that is
replaced atomically. A run that was killed and resumed therefore gives the same result as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import numpy as np
from torch import Tensor

from nisf.config.schema import TrainConfig
from nisf.errors import BadSettingError
from nisf.files import replacing
from nisf.optimisation.checkpoint import CHECKPOINT, has_begun, load_checkpoint, write_checkpoint
from nisf.optimisation.ranks import from_first, is_first
from nisf.optimisation.state import State, rate_factor

LOG = "log.jsonl"
LOG_EVERY = 10
FIRST_SECONDS = 45.0
"""Seconds until the first checkpoint at the latest."""

LogCallback = Callable[[Mapping[str, Any]], None]
"""Called with every record of the log: ``{"step": ..., "loss": ..., ...}``."""


@runtime_checkable
class Validation(Protocol):
    """Scores of the validation subjects."""

    def to_dict(self) -> dict[str, Any]:
        """For the log and the prior's card; ``dice`` has an entry for each structure."""
        ...


@runtime_checkable
class Recipe(Protocol):
    """What is trained, and on what data."""

    state: State

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of a step, and its terms for the log."""
        ...

    def descend(self, step: int) -> Mapping[str, Tensor]:
        """Do one step of the optimisers; returns the terms of the objective for the log."""
        ...

    def after_step(self) -> None:
        """Called after each optimiser step."""
        ...

    def validate(self) -> Validation | None:
        """Scores of the validation subjects, or None if there are none."""
        ...

    def close(self) -> None:
        """Called after the last step, also if that failed."""
        ...


def subjects_of(step: int, pool: int, config: TrainConfig) -> list[int]:
    """Indices of the subjects of a step; they come in shuffled rounds, so each is seen equally often."""
    chosen = []
    for slot in range(step * config.subjects, (step + 1) * config.subjects):
        turn, place = divmod(slot, pool)
        chosen.append(int(np.random.default_rng([config.seed, 2, turn]).permutation(pool)[place]))
    return chosen


def run(
    recipe: Recipe,
    settings: TrainConfig,
    folder: Path,
    identity: Mapping[str, Any],
    kept: Mapping[str, Tensor],
    *,
    report: LogCallback | None,
    say: Callable[[str], None],
    after_step: Callable[[int], None] | None = None,
) -> Validation | None:
    """Train a recipe to the last step, resuming from the folder's checkpoint if there is one.

    Args:
        recipe: what is trained.
        settings: steps, rates, intervals of validation and checkpoints.
        folder: gets ``log.jsonl`` and ``checkpoint.safetensors``.
        identity: settings, cases and initial prior, which must be those of the checkpoint.
        kept: constant tensors that are added to every checkpoint.
        report: called with every record of the log.
        say: called with sentences for the user.
        after_step: called with the number of steps done.

    Returns:
        The last validation.

    Raises:
        BadFileError: the checkpoint belongs to other settings, cases or start.
        BadSettingError: the loss is not finite.
    """
    state, checkpoint, last, validated = recipe.state, folder / CHECKPOINT, None, False
    save = partial(_save, state, checkpoint, identity, kept)
    if from_first(lambda: has_begun(checkpoint)):
        load_checkpoint(checkpoint, state, identity)
        say(f"resuming at step {state.step} of {settings.steps}")
    else:
        save()  # keeps what was made before the first step
    soon = time.monotonic() + FIRST_SECONDS
    rates, began = state.rates(), time.monotonic()
    with _opened_log(folder, state.step) as log, closing(recipe):
        note = partial(_note, log, report)
        while max(state.step, state.place) < settings.steps:
            terms = _step(recipe, rates, rate_factor(settings, state.place))
            step, state.place = state.step, _place(settings, state.step, time.monotonic() - began)
            final = state.place >= settings.steps
            if after_step:
                after_step(step)
            if step % LOG_EVERY == 0 or final:
                note({"step": step, **_finite(terms, step)})
            if final or (settings.validate_every and step % settings.validate_every == 0):
                last, validated = recipe.validate(), True
                if last is not None:
                    note({"step": step, "validation": last.to_dict()})
            # After the step's lines in the log, so that a resumed run does not write them again.
            if step % settings.checkpoint_every == 0 or final or _is_time(soon):
                save()
                soon = math.inf
    # A run that had finished before: only the prior was missing.
    return last if validated else recipe.validate()


def _place(settings: TrainConfig, step: int, seconds: float) -> float:
    """Place in the schedule, in steps: the number of steps done, or more if the time limit requires it."""
    if not settings.minutes:
        return step
    # All ranks use the clock of the first.
    return from_first(lambda: max(step, settings.steps * seconds / (60 * settings.minutes)))


def _is_time(soon: float) -> bool:
    """Whether a time on the first rank's clock has passed; infinity never does."""
    return math.isfinite(soon) and from_first(lambda: time.monotonic() > soon)


def _note(log: TextIO | None, report: LogCallback | None, record: Mapping[str, Any]) -> None:
    """Write a record to the log and pass it to the callback; nothing if another rank writes the log."""
    if log is None:
        return
    log.write(json.dumps(record, allow_nan=False) + "\n")
    log.flush()
    if report:
        report(record)


def _step(recipe: Recipe, rates: Sequence[float], factor: float) -> Mapping[str, Tensor]:
    """Do one step with the learning rates times a factor; returns the terms of the objective."""
    state = recipe.state
    state.set_rates([rate * factor for rate in rates])
    terms = recipe.descend(state.step)
    recipe.after_step()
    state.step += 1
    return terms


def _finite(terms: Mapping[str, Tensor], step: int) -> dict[str, float]:
    """The terms as numbers for the log.

    Raises:
        BadSettingError: the loss is not finite.
    """
    values = {name: float(term.detach()) for name, term in terms.items()}
    if not math.isfinite(values["loss"]):
        raise BadSettingError(f"the loss is {values['loss']} at step {step}; lower the learning rate")
    return {name: round(value, 6) for name, value in values.items()}


def _save(state: State, checkpoint: Path, identity: Mapping[str, Any], kept: Mapping[str, Tensor]) -> None:
    tensors = state.tensors()
    if is_first():
        write_checkpoint(checkpoint, {**tensors, **kept}, identity, state.step)


@contextmanager
def _opened_log(folder: Path, step: int) -> Generator[TextIO | None]:
    """Open the log with its lines up to ``step``; a run that was killed repeats the later steps.

    None if another rank writes it.
    """
    if not is_first():
        yield None
        return
    _cut_log(folder / LOG, step)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        yield log


def _cut_log(path: Path, step: int) -> None:
    """Truncate the log after a step."""
    kept = []
    if step and path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                break  # incomplete line of a run that was killed
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                break  # not written by nisf
            if record["step"] <= step:
                kept.append(line + "\n")
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
