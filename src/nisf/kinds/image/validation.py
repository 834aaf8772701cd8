"""Validation of an image-conditioned field: Dice on slices that it sees, and on slices hidden from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nisf.config.schema import ImageConfig
from nisf.data.case import UNKNOWN, Case
from nisf.data.hiding import hide
from nisf.data.points import CasePoints
from nisf.data.region import Region
from nisf.errors import NisfError
from nisf.evaluation.metrics import dice_of_structures
from nisf.kinds.image.scenes import Scenes
from nisf.kinds.image.selection import Answered
from nisf.networks.canvas import Canvases, canvases
from nisf.networks.image_field import ImageField

SCORED = 16_384
"""Number of labelled voxels of a frame that are scored."""


@dataclass(frozen=True)
class SliceDice:
    """Mean Dice over the frames of all validation cases.

    Attributes:
        given: Dice by structure where the field sees every slice.
        hidden: Dice by structure on every second slice, hidden from it; empty if no case has two slices.
    """

    given: dict[str, float]
    hidden: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """For the log and the prior's card."""
        ways = {"given": self.given, "hidden": self.hidden}
        return {
            "dice": {
                name: {way: round(dice[name], 4) for way, dice in ways.items() if name in dice}
                for name in self.given
            }
        }

    def __str__(self) -> str:
        outcome = ", ".join(f"{name} {value:.3f}" for name, value in self.given.items())
        sentence = f"Dice {np.mean(list(self.given.values())):.3f} ({outcome})"
        if not self.hidden:
            return sentence
        return f"{sentence}; on hidden slices {np.mean(list(self.hidden.values())):.3f}"


@dataclass(frozen=True, eq=False)
class Scored:
    """Labelled voxels of one frame: positions in model mm, times, classes, and their slices."""

    position: Float[np.ndarray, "n 3"]
    time: Float[np.ndarray, "n"]
    label: Int[np.ndarray, "n"]
    slice: Int[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class ValidationCase:
    """A validation case: the canvases that the field sees, and the voxels to score, frame by frame."""

    canvases: Canvases
    frames: tuple[Scored, ...]


def validation_cases(
    cases: Sequence[tuple[Case, Region]], config: ImageConfig, seed: int
) -> tuple[list[ValidationCase], list[ValidationCase]]:
    """Prepare validation cases: all slices given, and every second slice hidden and scored.

    Args:
        cases: each with its region; cases without structures there are left out.
        config: sizes of the canvases.
        seed: seed of the choice of scored voxels.
    """
    given, hidden = [], []
    for case, region in cases:
        frames = _scored(case, region, seed)
        if not any((frame.label > 0).any() for frame in frames):
            continue
        given.append(_validation_case(case, frames, region, config))
        try:
            seen, kept_back = hide(case, "every-2nd-slice")
        except NisfError:  # a single slice: nothing can be hidden
            continue
        hidden.append(_validation_case(seen, _scored(kept_back, region, seed), region, config))
    return given, hidden


def _scored(case: Case, region: Region, seed: int) -> list[Scored]:
    """Up to `SCORED` labelled voxels of every labelled frame."""
    points = CasePoints(case, region, 4)
    label, frame = points.label[: len(points.slice)], points.frames[points.slice]
    time = np.array([s.time for s in case.slices])
    out = []
    for wanted in sorted({s.frame for s in case.labelled()}):
        index = np.flatnonzero((label != UNKNOWN) & (frame == wanted))
        index = np.random.default_rng([seed, 4]).permutation(index)[:SCORED]
        if len(index):
            position = points.coordinates(index)[:, :3] * region.half
            slices = points.slice[index]
            out.append(Scored(position, time[slices], label[index], slices))
    return out


def _validation_case(
    seen: Case, frames: Sequence[Scored], region: Region, config: ImageConfig
) -> ValidationCase:
    slices = seen.slices
    times = {float(time) for frame in frames for time in np.unique(frame.time)}
    if times <= {s.time for s in slices}:
        # A long cine has labels in a few frames only; the others need no canvases.
        slices = tuple(s for s in slices if s.time in times)
    return ValidationCase(canvases(seen, slices, region, config), tuple(frames))


def answers(
    field: ImageField, cases: Sequence[ValidationCase], *, both: bool, mirrors: int = 0
) -> Iterator[Answered]:
    """The field's answers at the scored voxels, frame by frame.

    Args:
        field: in evaluation mode.
        cases: see `validation_cases`.
        both: see `nisf.kinds.image.scenes.Scenes`.
        mirrors: likewise.
    """
    for case in cases:
        scenes = Scenes(field, case.canvases, mirrors, both=both)
        for frame in case.frames:
            _, probability = scenes.ask(frame.position, frame.time)
            yield Answered(probability, frame.label, frame.slice)


def mean_dice(
    field: ImageField, cases: Sequence[ValidationCase], labels: Sequence[str], *, both: bool
) -> dict[str, float]:
    """Mean Dice by structure over all frames of all cases, for structures that occur in some frame.

    Args:
        field: in evaluation mode.
        cases: see `validation_cases`.
        labels: class names, background first.
        both: see `nisf.kinds.image.scenes.Scenes`.
    """
    found = answers(field, cases, both=both)
    rows = [dice_of_structures(one.probability.argmax(1), one.label, len(labels)) for one in found]
    table = np.array(rows).reshape(-1, len(labels) - 1)
    # Structures that never occur are left out.
    columns = {name: table[~np.isnan(table[:, k]), k] for k, name in enumerate(labels[1:])}
    return {name: float(values.mean()) for name, values in columns.items() if len(values)}
