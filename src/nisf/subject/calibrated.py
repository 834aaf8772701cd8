"""Calibrated class probabilities: temperature scaling of the network's own, fitted on validation cases.

A network trained on overlap is overconfident, above all near borders. Its probabilities are raised to the
power 1/T and normalised again (Guo et al., ICML 2017, section 4.2). T depends on the most probable class and
its margin, because inside a structure, where the margin is large, another temperature fits than at a border.
The most probable class stays the same, so that no label changes.

Where a section or an island was removed (`nisf.subject.islands`), the probabilities before the removal get a
small weight, because some of these structures were real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from typing_extensions import override

from nisf.data.geometry import Grid
from nisf.errors import MALFORMED, BadFileError
from nisf.subject.answerer import Answerer
from nisf.subject.islands import IslandMap
from nisf.subject.rendering import Answer, Frame

LEAST = 1e-7
"""Lower bound of probabilities."""
FAR = 10.0
"""Upper bound of margins, in logarithms."""
STEEPEST = 3.0
"""Bound of the absolute log temperature."""


def temperature_features(probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n f"]:
    """Features of which the log temperature is a linear function.

    Args:
        probability: probability of each class.

    Returns:
        One-hot most probable structure (all zero for the background); 1; the margin over the next class, as
        a logarithm in units of `FAR`; and its square.
    """
    first = probability.argmax(1)
    ordered = np.sort(np.log(np.maximum(probability, LEAST)), axis=1)
    margin = np.minimum(ordered[:, -1] - ordered[:, -2], FAR) / FAR
    structures = first[:, None] == np.arange(1, probability.shape[1])
    return np.c_[structures, np.ones(len(first)), margin, margin**2]


@dataclass(frozen=True)
class Calibration:
    """Temperatures of a prior's class probabilities.

    Attributes:
        weights: weights of `temperature_features` (f,).
        removed: weight of the earlier probabilities where a section or an island was removed.
    """

    weights: tuple[float, ...]
    removed: float = 0.0

    @classmethod
    def from_json(cls, entries: Mapping[str, Any], classes: int, source: str) -> Calibration:
        """Read the calibration from a prior's appendix.

        Args:
            entries: entries of the appendix.
            classes: number of classes, background included.
            source: the appendix's name, for messages.

        Raises:
            BadFileError: an entry is missing or not a number, or the number of classes differs.
        """
        try:
            found = cls(tuple(float(w) for w in entries["temperature"]), float(entries["removed"]))
        except MALFORMED as error:
            raise BadFileError(
                f"{source}: the appendix 'calibration' has no usable {error}; delete or fit it again"
            ) from error
        if len(found.weights) != classes + 2 or not np.isfinite([*found.weights, found.removed]).all():
            raise BadFileError(
                f"{source}: the appendix 'calibration' has {len(found.weights)} weights, but a field of "
                f"{classes} classes needs {classes + 2} finite ones; delete or fit it again"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Entries of the appendix."""
        return {"temperature": [round(w, 5) for w in self.weights], "removed": round(self.removed, 4)}

    def cooled(self, probability: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Calibrated probabilities; the most probable class stays, and certain points stay certain.

        Args:
            probability: as the field gives it, islands removed.
        """
        out = probability.copy()
        open_ = np.flatnonzero(probability.max(1) < 1.0) if len(probability) else np.zeros(0, dtype=int)
        asked = probability[open_]
        slope = temperature_features(asked) @ np.array(self.weights)
        power = np.exp(-np.clip(slope, -STEEPEST, STEEPEST))
        logits = np.log(np.maximum(asked, LEAST)) * power[:, None]
        odds = np.exp(logits - logits.max(1, keepdims=True))
        out[open_] = odds / odds.sum(1, keepdims=True)
        return _same_first(out, probability)

    def doubted(
        self, shown: Float[np.ndarray, "n k"], before: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """Calibrated probabilities where something was removed.

        Args:
            shown: probabilities after the removal.
            before: probabilities before it.
        """
        mixed = (1 - self.removed) * self.cooled(shown) + self.removed * self.cooled(before)
        return _same_first(mixed.astype(shown.dtype), shown)


def _same_first(found: Float[np.ndarray, "n k"], wanted: Float[np.ndarray, "n k"]) -> np.ndarray:
    """Adjust probabilities such that the most probable class is that of ``wanted``.

    Rounding can change it near a tie, and a removed section can have been more certain than what replaced it.
    Both classes then get the higher probability, the wanted one slightly more.
    """
    first, now = wanted.argmax(1), found.argmax(1)
    rows = np.flatnonzero(first != now)
    if not len(rows):
        return found
    out = found.copy()
    both = (found[rows, first[rows]] + found[rows, now[rows]]) / 2
    little = np.maximum(both * 1e-4, 1e-6)
    out[rows, first[rows]], out[rows, now[rows]] = both + little, both - little
    again = rows[out[rows].argmax(1) != first[rows]]
    # A third class is more probable than both: keep the wanted answer.
    out[again] = wanted[again]
    return out


class Calibrated(Answerer):
    """Answers with calibrated probabilities and the same labels.

    Args:
        shown: the answerer to wrap.
        calibration: the temperatures.
        raw: answers before anything was removed.
        islands: where something was removed; None if nothing ever is.
    """

    def __init__(
        self, shown: Answerer, calibration: Calibration, raw: Answerer, islands: IslandMap | None
    ) -> None:
        super().__init__(shown.channels, shown.classes)
        self.shown, self.calibration, self.raw, self.islands = shown, calibration, raw, islands

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        answer = self.shown.answer(position, time, memory_mb=memory_mb)
        probability = self._calibrated(position, time, answer.probability, memory_mb)
        return replace(answer, probability=probability)

    def _calibrated(
        self, position: np.ndarray, time: np.ndarray, probability: np.ndarray, memory_mb: float
    ) -> np.ndarray:
        out = self.calibration.cooled(probability)
        if self.islands is not None:
            changed, _ = self.islands.affected(position, time, memory_mb=memory_mb)
            if len(changed):
                before = self.raw.answer(position[changed], time[changed], memory_mb=memory_mb)
                out[changed] = self.calibration.doubted(probability[changed], before.probability)
        return out

    @override
    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        self.shown.fill(frame, grid, time, memory_mb=memory_mb)
        if frame.rendering.probability is None:
            return
        for k in range(grid.shape[2]):
            position = grid.points_of_slice(k)
            found = frame.rendering.probability[:, :, k, frame.t]
            times = np.full(len(position), time)
            flat = self._calibrated(position, times, found.reshape(-1, self.classes), memory_mb)
            found[...] = flat.reshape(found.shape)
