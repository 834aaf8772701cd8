"""What is said of a segmentation's quality, and how a subject's file keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from nisf.errors import MALFORMED
from nisf.subject.subject import Subject

Light = Literal["green", "amber", "red"]
SubjectType = TypeVar("SubjectType", bound=Subject)


@dataclass(frozen=True)
class Judgement:
    """How good a segmentation probably is.

    Attributes:
        light: green; amber: look at it; red: do not believe it without looking at it.
        predicted_dice: of each structure.
        mean: of the structures' predicted Dice.
        reasons: why the light is not green, the weightiest first; empty if it is.
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
        """As a subject's summary keeps it."""
        return {
            "light": self.light,
            "predicted_dice": {name: round(dice, 4) for name, dice in self.predicted_dice.items()},
            "mean": round(self.mean, 4),
            "reasons": list(self.reasons),
        }


def with_judgement(subject: SubjectType, judgement: Judgement | None) -> SubjectType:
    """The subject with what was said of it in its summary, so that its file keeps it."""
    if judgement is None:
        return subject
    return replace(subject, summary={**subject.summary, "quality": judgement.to_json()})


def kept_judgement(subject: Subject) -> Judgement | None:
    """What a subject's summary says of its quality; None if nothing was said, or it cannot be read."""
    data = subject.summary.get("quality")
    if not isinstance(data, Mapping):
        return None
    try:
        lights: dict[str, Light] = {"green": "green", "amber": "amber", "red": "red"}
        dice = {str(name): float(value) for name, value in data["predicted_dice"].items()}
        return Judgement(lights[data["light"]], dice, float(data["mean"]), tuple(map(str, data["reasons"])))
    except MALFORMED:
        return None
