"""Families of signs: in which direction a sign is bad, and how to describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["low", "high", "both"]


@dataclass(frozen=True)
class Family:
    """What the signs of one family have in common.

    Attributes:
        bad: the side of the usual range on which a sign is bad.
        room: minimum distance from the middle of the usual range to its ends, in the sign's unit.
        low: description of a sign that is too low, with ``{0}`` and ``{1}`` for structures.
        high: likewise of a sign that is too high.
        alarms: whether a value outside the range of all good cases is reason enough to distrust a
            segmentation.
    """

    bad: Side
    room: float
    low: str = ""
    high: str = ""
    alarms: bool = True


FAMILIES = {
    "finder": Family("low", 0.05, "the image hardly looks like what the prior was trained on"),
    "second": Family("high", 0.1, "", "the anatomy appears a second time, outside the region of interest"),
    "features": Family("high", 1.0, "", "the image looks unlike those of the training set"),
    "sure": Family("low", 0.02, "the position of the {0} is uncertain", alarms=False),
    "section": Family("low", 0.02, "the {0} is uncertain in some slices", alarms=False),
    "unsure": Family("high", 0.01, "", "the segmentation is uncertain", alarms=False),
    "given": Family("low", 0.02, "the field cannot reproduce the image"),
    "contact": Family(
        "both",
        0.1,
        "the {0} borders less on the {1} than usual",
        "the {0} borders more on the {1} than usual",
    ),
    "parts": Family("high", 0.02, "", "the {0} is in several parts", alarms=False),
    "cut": Family("high", 0.1, "", "structures reach the border of the image"),
    "volume": Family("both", 0.3, "the {0} is too small, or missing", "the {0} is too large"),
    "length": Family(
        "both", 0.3, "the {0} is too short along the stack", "the {0} is too long along the stack"
    ),
    "width": Family("both", 0.15, "the {0} is too narrow", "the {0} is too wide"),
    "ratio": Family(
        "both", 0.3, "the {0} is too small relative to the {1}", "the {0} is too large relative to the {1}"
    ),
    "uneven": Family("high", 0.05, "", "the {0} changes abruptly from slice to slice"),
    "crooked": Family("high", 0.1, "", "the {0} jumps from slice to slice"),
    "returns": Family("high", 0.1, "", "the {0} ends and starts again along the stack"),
    "edge": Family("low", 0.05, "the border of the {0} with the {1} is blurred"),
    "tone": Family("both", 0.05, "the {0} is darker than usual", "the {0} is brighter than usual"),
    "spread": Family("both", 0.02, "the {0} is unusually uniform", "the {0} is unusually uneven"),
    "contrast": Family(
        "both",
        0.3,
        "the contrast between {0} and {1} is unusual",
        "the contrast between {0} and {1} is unusual",
    ),
    "grain": Family("both", 0.2, "the image is smoother than usual", "the image is noisy"),
    "detail": Family("both", 0.25, "the image has stripes, or is noise", "the image is blurred"),
    "flat": Family("high", 0.02, "", "parts of the image have a constant value"),
    "stripes": Family(
        "high", 0.1, "", "single rows or columns of the image are darker than their neighbours"
    ),
    "zigzag": Family(
        "high", 0.1, "", "pixels alternate along one axis, as where neighbouring rows or columns are swapped"
    ),
    "black": Family("high", 0.05, "", "much of the image is black"),
    "white": Family("high", 0.02, "", "much of the image is white"),
    "blank": Family("high", 0.15, "", "slices are missing"),
    "follow": Family(
        "both",
        0.1,
        "neighbouring slices do not resemble each other",
        "neighbouring slices are too similar",
    ),
    "order": Family("low", 0.02, "the slices are not in order"),
    "pixel": Family("both", 0.3, "pixels are too small", "pixels are too large"),
    "distance": Family("both", 0.3, "slices are too close together", "slices are too far apart"),
    "stack": Family("both", 0.4, "the stack is too short", "the stack is too long"),
    "beat": Family("both", 0.15, "the {0} contracts too little", "the {0} contracts too much"),
    "stroke": Family(
        "both",
        0.05,
        "the {0} ejects too little relative to the {1}",
        "the {0} ejects too much relative to the {1}",
    ),
}


def family(sign: str) -> Family:
    """The family of a sign."""
    return FAMILIES[sign.split("/")[0]]


def words(sign: str, *, high: bool) -> str:
    """Description of a sign that is too high or too low."""
    _, *structures = sign.split("/")
    found = family(sign)
    return ((found.high or found.low) if high else (found.low or found.high)).format(*structures)
