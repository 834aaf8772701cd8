"""Guess what a series shows, from its description and its position in the body, and say why."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from nisf.data.wording import counted

SHORT_AXIS, TWO, THREE, FOUR, OTHER = "short axis stack", "2-chamber", "3-chamber", "4-chamber", "other"

_LONG_AXIS = np.array([0.66, -0.62, -0.42]) / np.linalg.norm([0.66, -0.62, -0.42])
"""From the base to the apex of a usual heart, LPS."""


def _planes() -> dict[str, np.ndarray]:
    """Normals of the usual long-axis planes: each contains the axis, and shows the walls it is named for."""
    upwards = np.array([0.0, 0.0, 1.0])
    four = upwards - (upwards @ _LONG_AXIS) * _LONG_AXIS
    four /= np.linalg.norm(four)
    two = np.cross(_LONG_AXIS, four)
    return {FOUR: four, TWO: two, THREE: (two - four) / np.sqrt(2.0)}


_PLANES = _planes()
_WORDS = {
    SHORT_AXIS: r"\bsax?\b|sax|short[ _-]*ax|kurze? ?achse|petit ?axe|\bsa[ _]?(?:cine|stack)",
    TWO: r"2[ _-]*(?:ch|kammer|cav)|two[ _-]*ch|\bvla\b",
    THREE: r"3[ _-]*(?:ch|kammer|cav)|three[ _-]*ch|lvot",
    FOUR: r"4[ _-]*(?:ch|kammer|cav)|four[ _-]*ch|\bhla\b",
}
_NEAR, _FAR = 30.0, 45.0
"""Degrees from the usual normal: the first suffices alone, the second with a description or many slices."""


@dataclass(frozen=True)
class Guess:
    """What a series shows, and the reason for the guess."""

    shows: str
    why: str


def guess(description: str, normal: np.ndarray | None, positions: int, frames: int, modality: str) -> Guess:
    """What a series shows.

    Args:
        description: description of the series.
        normal: normal of its images, LPS; None if unknown.
        positions: number of parallel slices.
        frames: number of time points.
        modality: as in the header, e.g. ``MR``; empty if it has none.
    """
    size = f"{counted(positions, 'slice')}, {counted(frames, 'frame')}"
    if normal is None:
        return Guess(OTHER, f"{size}, no position and orientation in the patient")
    if modality not in ("MR", "CT", ""):
        return Guess(OTHER, f"modality {modality}")
    words = description.replace("_", " ")
    named = [shows for shows, pattern in _WORDS.items() if re.search(pattern, words, re.IGNORECASE)]
    across = _degrees(normal, _LONG_AXIS)
    cine_stack = positions >= 6 and frames > 1  # only short-axis stacks have this many slices and frames
    if SHORT_AXIS in named or (not named and across < (_FAR if cine_stack else _NEAR)):
        reason = f"{size}, normal {across:.0f} degrees from the usual long axis of the heart"
        reason += ", named so" if named else ""
        if positions < 3:
            return Guess(OTHER, f"{reason}; too few for a stack")
        if across > _FAR:
            return Guess(OTHER, f"{reason}; too far for a short axis")
        return Guess(SHORT_AXIS, reason)
    if named:
        return Guess(named[0], f"{size}, named so")
    if positions <= 3 and frames > 1:
        nearest = min(_PLANES, key=lambda plane: _degrees(normal, _PLANES[plane]))
        angle = _degrees(normal, _PLANES[nearest])
        if angle < _NEAR:
            return Guess(nearest, f"{size}, normal {angle:.0f} degrees from the usual plane's")
    return Guess(OTHER, f"{size}, normal {across:.0f} degrees from the usual long axis of the heart")


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b), 0.0, 1.0))))
