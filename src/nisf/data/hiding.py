"""Protocols that hide part of a case from the fit, to score it on unseen data.

They apply to the reference stack (the case's first) and to all frames alike; slices of other stacks are
always seen.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from nisf.data.case import UNKNOWN, Case, Points
from nisf.errors import BadSettingError, CannotFitError

PROTOCOLS = {
    "none": "nothing is hidden: every slice is both seen and scored",
    "every-2nd-slice": "the 2nd, 4th, ... slice; likewise every-3rd-slice, every-4th-slice, ...",
    "basal": "the last labelled slice at the base, and all slices beyond it",
    "apical": "the last labelled slice at the apex, and all slices beyond it",
    "all-but-K": "all but K slices, which are spread evenly over the labelled range, e.g. all-but-3",
    "every-2nd-frame": "the 2nd, 4th, ... frame; likewise every-3rd-frame, every-4th-frame, ...",
}
"""What each protocol hides, by its name on the command line."""

_EVERY = re.compile(r"every-(\d+)(?:st|nd|rd|th)-(slice|frame)")
_ALL_BUT = re.compile(r"all-but-(\d+)")


def hide(case: Case, protocol: str) -> tuple[Case, Case]:
    """Split a case into a part that the fit sees and a part that is hidden.

    The two parts partition the slices and points of the case, except for ``none``, which returns the case
    twice. Labels stay on the seen slices, because fits use intensities only. Points go with the slice that
    they were drawn from; scattered points are seen.

    Args:
        case: the case to split.
        protocol: one of `PROTOCOLS`, with its number.

    Returns:
        The seen and the hidden part, in this order.

    Raises:
        BadSettingError: no such protocol.
        CannotFitError: one of the two parts would be empty.
    """
    check_protocol(protocol)
    if protocol == "none":
        return case, case
    positions = sorted({s.position for s in case.slices if s.stack == 0})
    frames = sorted({s.frame for s in case.slices if s.stack == 0})
    every, all_but = _EVERY.fullmatch(protocol), _ALL_BUT.fullmatch(protocol)
    hidden_positions, hidden_frames = set(positions), set(frames)
    if every and every[2] == "slice":
        hidden_positions = set(positions[int(every[1]) - 1 :: int(every[1])])
    elif every:
        hidden_frames = set(frames[int(every[1]) - 1 :: int(every[1])])
    elif all_but:
        hidden_positions -= _spread(case, protocol, positions, int(all_but[1]))
    else:
        hidden_positions = _end(case, protocol, positions)
    is_hidden = np.array(
        [s.stack == 0 and s.position in hidden_positions and s.frame in hidden_frames for s in case.slices],
        dtype=bool,
    )
    if not is_hidden.any() or is_hidden.all():
        problem = "hides nothing" if not is_hidden.any() else "leaves nothing to see"
        have = f"{len(positions)} slice positions and {len(frames)} frames"
        raise CannotFitError(
            f"{case.name}: {protocol} {problem}, the reference stack has {have}; {_choices()}"
        )
    return _part(case, ~is_hidden, loose=True), _part(case, is_hidden, loose=False)


def check_protocol(protocol: str) -> None:
    """Check the name of a protocol before any work is done.

    Raises:
        BadSettingError: no such protocol; the message lists them.
    """
    every, all_but = _EVERY.fullmatch(protocol), _ALL_BUT.fullmatch(protocol)
    if every and int(every[1]) < 2:
        raise BadSettingError(
            f"{protocol}: would hide everything; the number must be at least 2; {_choices()}"
        )
    if all_but and int(all_but[1]) < 1:
        raise BadSettingError(f"{protocol}: at least 1 slice must stay; {_choices()}")
    if not every and not all_but and protocol not in ("none", "basal", "apical"):
        raise BadSettingError(f"{protocol}: no such protocol; {_choices()}")


def foreground_pixels(case: Case) -> dict[int, int]:
    """Number of foreground pixels at each position of the reference stack, summed over frames.

    Positions without any are left out; the others are in ascending order.
    """
    pixels: dict[int, int] = {}
    for s in case.slices:
        if s.stack == 0 and s.label is not None:
            pixels[s.position] = pixels.get(s.position, 0) + int(
                ((s.label != UNKNOWN) & (s.label != 0)).sum()
            )
    return {position: pixels[position] for position in sorted(pixels) if pixels[position]}


def _end(case: Case, protocol: str, positions: list[int]) -> set[int]:
    """The basal or apical end of the labelled range, and the positions beyond it."""
    pixels = foreground_pixels(case)
    if len(pixels) < 2:
        raise CannotFitError(
            f"{case.name}: {protocol} needs at least 2 slice positions with labelled structures to tell base "
            f"from apex, but there are {len(pixels)}; {_choices()}"
        )
    first, last = min(pixels), max(pixels)
    # The heart tapers towards the apex; the order of the slices differs between data sets.
    base_first = pixels[first] > pixels[last]
    if base_first == (protocol == "basal"):
        return {position for position in positions if position <= first}
    return {position for position in positions if position >= last}


def _spread(case: Case, protocol: str, positions: list[int], count: int) -> set[int]:
    """``count`` positions spread evenly over the labelled range, including its ends; the middle one if 1."""
    pixels = foreground_pixels(case)
    if pixels:
        positions = [p for p in positions if min(pixels) <= p <= max(pixels)]
    if count > len(positions):
        raise CannotFitError(
            f"{case.name}: {protocol} keeps more than the {len(positions)} slice positions in the "
            f"{'labelled range' if pixels else 'reference stack'}; {_choices()}"
        )
    if count == 1:
        return {positions[len(positions) // 2]}
    steps = np.linspace(0, len(positions) - 1, count).round().astype(int)
    return {positions[step] for step in steps}


def _part(case: Case, keep: np.ndarray, *, loose: bool) -> Case:
    """The case with the slices where ``keep`` (slice,) is true, their points, and optionally loose points."""
    slices = tuple(s for s, wanted in zip(case.slices, keep, strict=True) if wanted)
    return replace(case, slices=slices, points=_part_of_points(case.points, keep, loose=loose))


def _part_of_points(points: Points | None, keep: np.ndarray, *, loose: bool) -> Points | None:
    if points is None:
        return None
    drawn = points.slice >= 0
    wanted = np.full(len(points), loose)
    wanted[drawn] = keep[points.slice[drawn]]
    if not wanted.any():
        return None
    # Leaving out slices has renumbered them.
    number = np.where(drawn, np.cumsum(keep)[points.slice] - 1, -1)
    return Points(
        position=points.position[wanted],
        time=points.time[wanted],
        intensity=points.intensity[wanted],
        label=points.label[wanted],
        slice=number[wanted].astype(points.slice.dtype),
        frame=points.frame[wanted],
    )


def _choices() -> str:
    return f"protocols are {', '.join(PROTOCOLS)}"
