"""The judgement of a segmentation's quality, and how a subject's file stores it."""

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
    """Add a judgement to a subject's summary, so that its file stores it."""
    if judgement is None:
        return subject
    return replace(subject, summary={**subject.summary, "quality": judgement.to_json()})


def kept_judgement(subject: Subject) -> Judgement | None:
    """The judgement stored in a subject's summary; None if there is none or it is unreadable."""
    data = subject.summary.get("quality")
    if not isinstance(data, Mapping):
        return None
    try:
        lights: dict[str, Light] = {"green": "green", "amber": "amber", "red": "red"}
        dice = {str(name): float(value) for name, value in data["predicted_dice"].items()}
        return Judgement(lights[data["light"]], dice, float(data["mean"]), tuple(map(str, data["reasons"])))
    except MALFORMED:
        return None
