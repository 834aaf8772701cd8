"""Breath-holds: the slices at one position of a stack, in all frames, share a shift, a gain and an offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from typing_extensions import override

from nisf.alignment import Shift
from nisf.data.case import Stack
from nisf.subject.answerer import Answerer
from nisf.subject.in_line import AtShift
from nisf.subject.rendering import Answer


@dataclass(frozen=True)
class BreathHold:
    """Parameters fitted to the slices at one position, in all frames.

    Attributes:
        stack: index into ``Case.stacks``.
        position: index along the stack.
        shift_mm: along the image's two axes: the image at a point shows the tissue at that point minus the
            shift.
        gain: factor on the logit of the field's intensity; 1 has no effect.
        offset: added to the logit.
    """

    stack: int
    position: int
    shift_mm: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    offset: float = 0.0


def breath_hold_of(entry: Mapping[str, Any]) -> BreathHold:
    """Make a breath-hold from JSON.

    Raises:
        KeyError, TypeError, ValueError: the entry is not one.
    """
    x, y = entry["shift_mm"]
    return BreathHold(entry["stack"], entry["position"], (x, y), entry["gain"], entry["offset"])


def shifted(holds: Sequence[BreathHold], shifts: Sequence[Shift]) -> list[BreathHold]:
    """Breath-holds relative to the slices as measured, for slices that were aligned before the fit.

    Args:
        holds: breath-holds of one stack.
        shifts: shifts of any stack.
    """
    together = {(hold.stack, hold.position): hold for hold in holds}
    stacks = {hold.stack for hold in holds}
    for shift in shifts:
        if shift.stack in stacks:
            key = shift.stack, shift.position
            hold = together.get(key, BreathHold(*key))
            moved = hold.shift_mm[0] + shift.mm[0], hold.shift_mm[1] + shift.mm[1]
            together[key] = replace(hold, shift_mm=moved)
    return list(together.values())


class AtBreathHold(AtShift):
    """Answers as the slices of one breath-hold show them: shifted, and with the slices' brightness.

    Args:
        raw: the answerer to wrap.
        hold: the breath-hold.
        stack: the stack of its slices.
    """

    def __init__(self, raw: Answerer, hold: BreathHold, stack: Stack) -> None:
        super().__init__(raw, hold.shift_mm, stack)
        self.hold = hold

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        answer = super().answer(position, time, memory_mb=memory_mb)
        shown = expit(self.hold.gain * logit(answer.intensity.clip(1e-6, 1 - 1e-6)) + self.hold.offset)
        intensity = np.where(answer.inside[:, None], shown, answer.intensity).astype(np.float32)
        return replace(answer, intensity=intensity)
