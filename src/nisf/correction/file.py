"""Strokes as JSON: a file of one case's corrections, and the list in a subject's file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nisf.correction.stroke import MOST_POINTS, Stroke
from nisf.data.case import Stack
from nisf.errors import BadFileError, BadSettingError
from nisf.files import read_json, write_json

FORMAT = 1
"""Version of the file."""
MOST_STROKES = 200
MOST_BYTES = 16 * 2**20
TIMES = ("time", "time_ms", "frame")


def scan_mark(stack: Stack | None) -> str | None:
    """A hash of the size and position of a stack; nearly every patient's differs. None without a stack."""
    if stack is None:
        return None
    grid = stack.grid
    numbers = (*grid.shape, *(f"{number:.3f}" for number in (grid.affine.matrix + 0.0).ravel()))
    return hashlib.sha256(" ".join(map(str, numbers)).encode()).hexdigest()[:16]


def write_strokes(path: str | Path, strokes: Sequence[Stroke], stack: Stack | None = None) -> None:
    """Write a file of strokes atomically.

    Args:
        path: file to write.
        strokes: of one case.
        stack: the case's first stack; `read_strokes` refuses them for one of another size or position.
    """
    scan = {} if stack is None else {"scan": scan_mark(stack)}
    write_json(path, {"nisf_strokes": FORMAT, **scan, "strokes": strokes_to_json(strokes)})


def read_strokes(path: str | Path, stack: Stack | None = None) -> tuple[Stroke, ...]:
    """Read a file of strokes.

    Args:
        path: JSON, ``{"nisf_strokes": 1, "strokes": [...]}``; see `stroke_of`.
        stack: the stack that times given in frames or ms refer to.

    Raises:
        BadFileError: the file is missing, too large, not a list of strokes, of another version, or says that
            it was drawn on another scan; the message names the stroke and the value.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror})") from error
    if size > MOST_BYTES:
        raise BadFileError(f"{path}: {size} bytes are too many for strokes; give at most {MOST_BYTES}")
    data = read_json(path)
    if not isinstance(data, dict) or "nisf_strokes" not in data:
        raise BadFileError(f"{path}: not a file of strokes; see docs/correcting.md for its format")
    if data["nisf_strokes"] != FORMAT:
        raise BadFileError(
            f"{path}: strokes of format {str(data['nisf_strokes'])[:20]}; this nisf reads {FORMAT}"
        )
    if stack is not None and data.get("scan") not in (None, scan_mark(stack)):
        raise BadFileError(
            f"{path}: its strokes were drawn on a scan of another size or position; give those of this case, "
            "or remove the entry 'scan' if they are"
        )
    try:
        return strokes_of(data.get("strokes"), stack)
    except BadSettingError as error:
        raise BadFileError(f"{path}: {error}") from error


def strokes_to_json(strokes: Sequence[Stroke]) -> list[dict[str, Any]]:
    """The list as JSON."""
    return [
        {
            "label": stroke.label,
            "present": stroke.present,
            "time": stroke.time,
            "radius_mm": stroke.radius_mm,
            "points_mm": [list(point) for point in stroke.points],
        }
        for stroke in strokes
    ]


def strokes_of(data: Any, stack: Stack | None = None) -> tuple[Stroke, ...]:
    """Read strokes from a list in JSON.

    Args:
        data: the list.
        stack: see `read_strokes`.

    Raises:
        BadSettingError: the list is invalid; the message names the stroke and the value.
    """
    if not isinstance(data, list) or len(data) > MOST_STROKES:
        raise BadSettingError(f"strokes: give a list of at most {MOST_STROKES}")
    found = []
    for number, entry in enumerate(data, start=1):
        try:
            found.append(stroke_of(entry, stack))
        except BadSettingError as error:
            raise BadSettingError(f"stroke {number}: {error}") from error
    return tuple(found)


def stroke_of(entry: Any, stack: Stack | None = None) -> Stroke:
    """Read one stroke from JSON.

    Args:
        entry: ``label``; ``points_mm``, a list of [x, y, z] in world mm (RAS+); one of ``time`` (fraction of
            the cycle), ``time_ms`` and ``frame`` (from 0); optionally ``present`` and ``radius_mm``.
        stack: see `read_strokes`.

    Raises:
        BadSettingError: an entry is missing, unknown, or out of bounds.
    """
    if not isinstance(entry, dict):
        raise BadSettingError("give an object with label, points_mm and time")
    unknown = sorted(map(str, set(entry) - {"label", "points_mm", "present", "radius_mm", *TIMES}))
    if unknown:
        raise BadSettingError(f"unknown entry '{unknown[0][:40]}'; leave it out")
    label, present = entry.get("label"), entry.get("present", True)
    if not isinstance(label, str):
        raise BadSettingError("label: give the name of a class")
    if not isinstance(present, bool):
        raise BadSettingError("present: give true or false")
    points = entry.get("points_mm")
    if not isinstance(points, list) or not 1 <= len(points) <= MOST_POINTS:
        raise BadSettingError(f"points_mm: give a list of 1 to {MOST_POINTS} points")
    corners = tuple(_point(point) for point in points)
    radius = 1.5 if "radius_mm" not in entry else _number(entry["radius_mm"], "radius_mm")
    return Stroke(corners, _time(entry, stack), label, present, radius)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e12:  # nor NaN
        raise BadSettingError(f"{name}: give a number, not {str(value)[:40]}")
    return float(value)


def _point(point: Any) -> tuple[float, float, float]:
    if not isinstance(point, list) or len(point) != 3:
        raise BadSettingError(f"points_mm: a point is three numbers, not {str(point)[:40]}")
    x, y, z = (_number(value, "points_mm") for value in point)
    return x, y, z


def _time(entry: Mapping[str, Any], stack: Stack | None) -> float:
    """Fraction of the cycle."""
    given = [name for name in TIMES if name in entry]
    if len(given) != 1:
        raise BadSettingError(f"give one of {', '.join(TIMES)}")
    (name,) = given
    value = _number(entry[name], name)
    if name == "time":
        return value
    if name == "time_ms":
        cycle = None if stack is None else stack.cycle_ms
        if not cycle:
            raise BadSettingError("time_ms: the length of the case's cycle is unknown; give time or frame")
        if not 0 <= value <= cycle:
            raise BadSettingError(f"time_ms {value:g}: give 0 to {cycle:g}, the length of the cycle")
        return value / cycle
    if stack is None:
        raise BadSettingError(
            "frame: counts the frames of a stack, but none is given; give the stack, or time"
        )
    times = stack.grid.times
    if value != int(value) or not 0 <= value < len(times):
        raise BadSettingError(f"frame {value:g}: give a whole number from 0 to {len(times) - 1}")
    return float(times[int(value)])
