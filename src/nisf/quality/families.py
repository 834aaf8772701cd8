"""Families of signs: which side of the usual is bad, and how to say that a sign is not as usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["low", "high", "both"]


@dataclass(frozen=True)
class Family:
    """What signs of one family have in common.

    Attributes:
        bad: on which side of the usual values a sign is bad.
        room: least distance from the middle of the usual values to their ends, in the sign's unit.
        low: what it means if the sign is too low, with ``{0}`` and ``{1}`` for structures.
        high: likewise, too high.
        alarms: whether a value that no usual case has is a reason of its own not to believe a segmentation.
    """

    bad: Side
    room: float
    low: str = ""
    high: str = ""
    alarms: bool = True


FAMILIES = {
    "finder": Family("low", 0.05, "the image hardly looks like what the prior was trained on"),
    "second": Family("high", 0.1, "", "the anatomy is seen a second time, outside the region of interest"),
    "features": Family("high", 1.0, "", "the image looks unlike those of the training set"),
    "sure": Family("low", 0.02, "the field is not sure where the {0} is", alarms=False),
    "section": Family("low", 0.02, "the field is not sure of the {0} in some slices", alarms=False),
    "unsure": Family("high", 0.01, "", "the field is not sure of its answers", alarms=False),
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
        "both", 0.3, "the {0} is too small beside the {1}", "the {0} is too large beside the {1}"
    ),
    "uneven": Family("high", 0.05, "", "the {0} changes abruptly from slice to slice"),
    "crooked": Family("high", 0.1, "", "the {0} jumps from slice to slice"),
    "returns": Family("high", 0.1, "", "the {0} ends and begins again along the stack"),
    "edge": Family("low", 0.05, "the border of the {0} with the {1} is blurred"),
    "tone": Family("both", 0.05, "the {0} is darker than usual", "the {0} is brighter than usual"),
    "spread": Family("both", 0.02, "the {0} is more even than usual", "the {0} is less even than usual"),
    "contrast": Family(
        "both",
        0.3,
        "the contrast of {0} against {1} is not as usual",
        "the contrast of {0} against {1} is not as usual",
    ),
    "grain": Family("both", 0.2, "the image is smoother than usual", "the image is noisy"),
    "detail": Family("both", 0.25, "the image has stripes, or is noise", "the image is blurred"),
    "flat": Family("high", 0.02, "", "parts of the image are of one value"),
    "stripes": Family(
        "high", 0.1, "", "single rows or columns of the image are darker than those beside them"
    ),
    "black": Family("high", 0.05, "", "much of the image is black"),
    "white": Family("high", 0.02, "", "much of the image is white"),
    "blank": Family("high", 0.15, "", "slices are missing"),
    "follow": Family(
        "both",
        0.1,
        "neighbouring slices do not resemble each other",
        "neighbouring slices are too much alike",
    ),
    "order": Family("low", 0.02, "the slices are not in order"),
    "pixel": Family("both", 0.3, "pixels are too small", "pixels are too large"),
    "distance": Family("both", 0.3, "slices are too close", "slices are too far apart"),
    "stack": Family("both", 0.4, "the stack is too short", "the stack is too long"),
    "beat": Family("both", 0.15, "the {0} does not get smaller as it should", "the {0} gets too small"),
    "stroke": Family(
        "both",
        0.05,
        "the {0} ejects too little beside the {1}",
        "the {0} ejects too much beside the {1}",
    ),
}


def family(sign: str) -> Family:
    """The family of a sign."""
    return FAMILIES[sign.split("/")[0]]


def words(sign: str, *, high: bool) -> str:
    """What it means that a sign is too high or too low."""
    _, *structures = sign.split("/")
    found = family(sign)
    return ((found.high or found.low) if high else (found.low or found.high)).format(*structures)
