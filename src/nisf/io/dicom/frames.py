"""Sort images into frames: the images at each position of a stack, in order of time.

A position that lacks some frames gets None for them. A position whose times are unknown gets None everywhere,
because frames in wrong places would be worse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from nisf.data.time_axis import plausible_cycle
from nisf.data.wording import counted
from nisf.io.dicom.scan import Instance

Row = list[Instance | None]
Key = Callable[[Instance], float | None]

KEYS: tuple[tuple[str, Key], ...] = (
    ("trigger time", lambda one: one.trigger_ms),
    ("temporal position", lambda one: one.temporal_index),
    ("acquisition time", lambda one: one.acquired_s),
    ("instance number", lambda one: one.number),
)
"""Header entries that give the order of frames, most trusted first."""

DISTINCT = 0.75
"""Minimum fraction of a stack's images that a key must distinguish; headers may repeat the same value."""


def without_copies(positions: Sequence[list[Instance]], notes: list[str]) -> list[list[Instance]]:
    """Remove duplicates: copies of one instance, and of a slice that was measured twice, the earlier one."""
    kept, copies, again = [], 0, 0
    for images in positions:
        once = {one.identity: one for one in images}
        copies += len(images) - len(once)
        series: dict[str, list[Instance]] = {}
        for one in once.values():
            series.setdefault(one.series_uid, []).append(one)
        parts = sorted(series.values(), key=_recency)
        if len(parts) > 1 and not in_turn(parts):
            most = max(len(part) for part in parts)
            parts = [[part for part in parts if len(part) == most][-1]]
            again += 1
        kept.append([one for part in parts for one in part])
    if copies:
        notes.append(f"{counted(copies, 'copy').replace('copys', 'copies')} of the same image left out")
    if again:
        notes.append(f"{counted(again, 'slice')} measured more than once: the last is used")
    return kept


def in_turn(parts: Sequence[Sequence[Instance]]) -> bool:
    """Whether several series at one position have consecutive frames: one cine that was split."""
    for _, key in KEYS[:2]:
        spans = [[key(one) for one in part] for part in parts]
        known = [[value for value in span if value is not None] for span in spans]
        if all(len(a) == len(b) and len(a) > 0 for a, b in zip(spans, known, strict=True)):
            known.sort(key=min)
            return all(max(a) < min(b) for a, b in pairwise(known))
    return False


def in_time(positions: Sequence[list[Instance]], notes: list[str]) -> list[Row]:
    """Arrange the images of each position as a row of frames, all of the same length.

    Args:
        positions: the images at each position, none empty.
        notes: problems found are added here.
    """
    key_name, key = _key(positions)
    rows = [_sorted(images, key) for images in positions]
    ties = sum(map(len, positions)) - sum(map(len, rows))
    if ties:
        notes.append(f"{counted(ties, 'image')} left out, with the {key_name} of another: the last is used")
    lengths = [len(row) for row in rows]
    frames = max(sorted(set(lengths), reverse=True), key=lengths.count)
    if all(length == frames for length in lengths):
        return [list(row) for row in rows]
    values = _comparable(rows, frames, key_name)
    out: list[Row] = []
    for index, row in enumerate(rows, start=1):
        if len(row) == frames:
            out.append(list(row))
            continue
        placed = _placed(row, [row for row in rows if len(row) == frames], values, frames)
        missing = placed.count(None)
        out.append(placed)
        if missing == frames:
            notes.append(
                f"slice {index} has {counted(len(row), 'frame')} instead of {frames}, at unknown times: "
                "it is left out"
            )
        elif missing:
            notes.append(f"slice {index} lacks {missing} of {frames} frames: they are left blank")
        else:
            notes.append(
                f"slice {index} has {counted(len(row), 'frame')} instead of {frames}: the nearest are used"
            )
    return out


def cycle_ms(rows: Sequence[Row], notes: list[str]) -> float | None:
    """Length of the cycle: median RR interval, or from the trigger times; None for a static image."""
    frames = len(rows[0])
    images = [one for row in rows for one in row if one is not None]
    if frames < 2:
        return None
    told = [one.rr_ms for one in images if one.rr_ms is not None]
    steps = [
        b.trigger_ms - a.trigger_ms
        for row in rows
        for a, b in pairwise(row)
        if a is not None and b is not None and a.trigger_ms is not None and b.trigger_ms is not None
    ]
    step = float(np.median(steps)) if steps else 0.0
    spanned = plausible_cycle(step * frames)
    if not told:
        return spanned
    length = float(np.median(told))
    if spanned is not None and spanned > 1.1 * length:
        return spanned  # the frames themselves last longer
    if spanned is not None and spanned < 0.9 * length:
        notes.append(
            f"its {frames} frames cover {100 * spanned / length:.0f} % of the cycle; they are treated as "
            "evenly spread over it"
        )
    return length


def _recency(part: list[Instance]) -> tuple[float, float]:
    return (
        max(one.acquired_s if one.acquired_s is not None else -1.0 for one in part),
        max(float(one.series_number or 0) for one in part),
    )


def _key(positions: Sequence[list[Instance]]) -> tuple[str, Key]:
    """The most trusted key that distinguishes the images at a position; else the best one."""
    total = sum(map(len, positions))
    best, most = KEYS[-1], 0
    for name, key in KEYS:
        values = [[key(one) for one in images] for images in positions]
        if any(value is None for row in values for value in row):
            continue
        distinct = sum(len(set(row)) for row in values)
        if distinct == total or distinct > max(DISTINCT * total, len(positions)) or _sent_again(values):
            return name, key
        if distinct > most:
            best, most = (name, key), distinct
    return best


def _sent_again(values: list[list[float | None]]) -> bool:
    """Whether each position has all its values equally often: the cine twice, not a meaningless key."""
    counts = [Counter(row) for row in values]
    return all(len(count) > 1 and len(set(count.values())) == 1 for count in counts)


def _sorted(images: list[Instance], key: Key) -> list[Instance]:
    """Sorted by the key, then by number; of images with equal keys, the last."""

    def number(one: Instance) -> float:
        return -1.0 if one.number is None else one.number

    by_key = {key(one): one for one in sorted(images, key=number)}
    return [by_key[value] for value in sorted(by_key, key=lambda value: -1.0 if value is None else value)]


def _comparable(rows: list[list[Instance]], frames: int, key_name: str) -> Callable[[Instance], float] | None:
    """A time of each image that is comparable between positions, in any unit; None if there is none."""
    full = [row for row in rows if len(row) == frames]
    images = [one for row in rows for one in row]
    if key_name == "trigger time":
        if all(one.rr_ms is not None for one in images):
            return lambda one: (one.trigger_ms or 0.0) / (one.rr_ms or 1.0)
        return lambda one: one.trigger_ms or 0.0
    if key_name == "temporal position":
        return lambda one: one.temporal_index or 0.0
    if any(one.number is None for one in images):
        return None
    first = int(min(one.number or 0.0 for one in images))
    ways: tuple[Callable[[Instance], float], ...] = (
        lambda one: float((int(one.number or 0) - first) % frames),  # slice after slice
        lambda one: float((int(one.number or 0) - first) // len(rows)),  # frame after frame
    )
    for way in ways:
        if all([way(one) for one in row] == list(range(frames)) for row in full):
            return way
    return None


def _placed(
    row: list[Instance],
    full: list[list[Instance]],
    value: Callable[[Instance], float] | None,
    frames: int,
) -> Row:
    """For each frame of the complete rows, the nearest image of a row, within half a frame."""
    if value is None or frames < 2:
        return [None] * frames
    times = np.median([[value(one) for one in other] for other in full], axis=0)
    step = float(np.median(np.diff(times)))
    own = np.array([value(one) for one in row])
    placed: Row = []
    for time in times:
        nearest = int(np.abs(own - time).argmin())
        placed.append(row[nearest] if abs(own[nearest] - time) < 0.5 * step else None)
    return placed
