"""A `Stack` as JSON, in the cache of cases and in subject files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.arrangement import Arrangement
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid


def stack_to_json(stack: Stack) -> dict[str, Any]:
    """All attributes of a stack: grid and affine in mm, times as fractions of the cycle.

    The path of its source is made absolute: the file may be read from another working directory.
    """
    return {
        "name": stack.name,
        "shape": list(stack.grid.shape),
        "affine": stack.grid.affine.matrix.tolist(),
        "times": stack.grid.times.tolist(),
        "oriented": stack.oriented,
        "source": None if stack.source is None else os.path.abspath(stack.source),
        "cycle_ms": stack.cycle_ms,
        "intensity_range": stack.intensity_range.tolist(),
        "arrangement": [list(stack.arrangement.axes), list(stack.arrangement.flips)],
        "ends": None if stack.ends is None else list(stack.ends),
    }


def stack_from_json(data: Mapping[str, Any]) -> Stack:
    """The inverse of `stack_to_json`; unknown entries are ignored.

    Raises:
        KeyError, TypeError, ValueError: an entry is missing or of the wrong type (`nisf.errors.MALFORMED`).
    """
    return Stack(
        name=_of_type(data["name"], str),
        grid=Grid(tuple(data["shape"]), Affine(np.array(data["affine"])), np.array(data["times"])),
        oriented=_of_type(data["oriented"], bool),
        source=None if data["source"] is None else Path(data["source"]),
        cycle_ms=None if data["cycle_ms"] is None else float(_of_type(data["cycle_ms"], int, float)),
        intensity_range=np.array(data["intensity_range"], dtype=np.float64),
        arrangement=_arrangement(data.get("arrangement")),
        ends=_ends(data.get("ends")),
    )


def _of_type(value: Any, *types: type) -> Any:
    if type(value) not in types:
        raise TypeError(f"{value!r} where {' or '.join(wanted.__name__ for wanted in types)} is expected")
    return value


def _arrangement(data: Any) -> Arrangement:
    """The arrangement; older files have none and were used as stored."""
    if data is None:
        return Arrangement()
    (a, b, c), (x, y, z) = data
    return Arrangement((int(a), int(b), int(c)), (bool(x), bool(y), bool(z)))


def _ends(data: Any) -> tuple[int, int] | None:
    if data is None:
        return None
    first, last = data
    if not 0 <= _of_type(first, int) <= _of_type(last, int):
        raise ValueError(f"the ends of a stack are two positions in order, not {data!r}")
    return first, last
