"""The judgement of a segmentation's quality, and how a subject's file stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from nisf.errors import MALFORMED
from nisf.subject.subject import Subject

JUDGED, UNCORRECTED = "quality", "uncorrected_quality"
"""Entries of a subject's summary: its judgement, and that of its answer before strokes."""
Light = Literal["green", "amber", "red"]
SubjectType = TypeVar("SubjectType", bound=Subject)


@dataclass(frozen=True)
class Judgement:
    """Predicted quality of a segmentation.

    Attributes:
        light: green; amber: check it; red: do not use it without checking it.
        predicted_dice: predicted Dice of each structure.
        mean: mean of the structures' predicted Dice.
        reasons: why the light is not green, most important first; empty if it is.
    """

    light: Light
    predicted_dice: Mapping[str, float]
    mean: float
    reasons: tuple[str, ...] = ()

    def words(self) -> str:
        """One line, e.g. ``red, predicted Dice 0.55: slices are too far apart``."""
        reasons = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.light}, predicted Dice {self.mean:.2f}{reasons}"

    def to_json(self) -> dict[str, Any]:
        """JSON for a subject's summary."""
        return {
            "light": self.light,
            "predicted_dice": {name: round(dice, 4) for name, dice in self.predicted_dice.items()},
            "mean": round(self.mean, 4),
            "reasons": list(self.reasons),
        }


def with_judgement(subject: SubjectType, judgement: Judgement | None) -> SubjectType:
    """Add a judgement to a subject's summary, so that its file stores it.

    Args:
        subject: the judged subject.
        judgement: of its answer; if it has strokes, of its answer without them.
    """
    if judgement is None:
        return subject
    entry = UNCORRECTED if subject.strokes else JUDGED
    return replace(subject, summary={**subject.summary, entry: judgement.to_json()})


def summary_with_strokes(summary: Mapping[str, Any], *, strokes: bool) -> dict[str, Any]:
    """A subject's summary after its strokes have changed.

    A corrected answer has not been judged; the judgement of the uncorrected one is kept apart, and returns
    with that answer when the last stroke is removed.

    Args:
        summary: the summary before.
        strokes: whether there are any strokes now.
    """
    out = dict(summary)
    judged, uncorrected = out.pop(JUDGED, None), out.pop(UNCORRECTED, None)
    first = judged if uncorrected is None else uncorrected
    return out if first is None else out | {UNCORRECTED if strokes else JUDGED: first}


def kept_judgement(subject: Subject) -> Judgement | None:
    """The judgement stored in a subject's summary; None if there is none or it is unreadable."""
    return _read(subject.summary.get(JUDGED))


def judgement_for_intervals(subject: Subject) -> Judgement | None:
    """The judgement by which intervals widen: of a corrected subject, that of its uncorrected answer.

    Strokes change little of an answer, so intervals must not become narrower because it was corrected.
    """
    return kept_judgement(subject) or _read(subject.summary.get(UNCORRECTED))


def _read(data: Any) -> Judgement | None:
    """A judgement from JSON; None if it is unreadable."""
    if not isinstance(data, Mapping):
        return None
    try:
        lights: dict[str, Light] = {"green": "green", "amber": "amber", "red": "red"}
        dice = {str(name): float(value) for name, value in data["predicted_dice"].items()}
        return Judgement(lights[data["light"]], dice, float(data["mean"]), tuple(map(str, data["reasons"])))
    except MALFORMED:
        return None
