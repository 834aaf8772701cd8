"""Values of DICOM headers as numbers; invalid values become None."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.time_axis import plausible_cycle

if TYPE_CHECKING:
    from pydicom import Dataset


def cycle_length(interval: float | None, rate: float | None) -> float | None:
    """Length of the cycle, ms: a plausible RR interval, else computed from the heart rate."""
    for found in (interval, 60_000.0 / rate if rate else None):
        if plausible_cycle(found) is not None:
            return found
    return None


def first_of(sequence: Any) -> Any:
    """The first item of a sequence; None if there is none."""
    return sequence[0] if sequence else None


def several(value: Any) -> Iterable[Any]:
    """The items of a value, which may have one or none."""
    if value is None:
        return ()
    return value if hasattr(value, "append") else (value,)  # names of persons are iterable too


def number_of(header: Dataset, name: str) -> float | None:
    """A value of a header as a finite number."""
    return number(header.get(name))


def whole_of(header: Dataset, name: str) -> int | None:
    """A value of a header as an integer."""
    found = number_of(header, name)
    return None if found is None else int(found)


def number(value: Any) -> float | None:
    """Any value as a finite number."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def numbers(value: Any, count: int) -> np.ndarray | None:
    """A fixed count of finite numbers."""
    try:
        found = np.array([float(number) for number in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def directions(axes: np.ndarray) -> np.ndarray | None:
    """Two directions (2, 3) as unit vectors; None if they are invalid or not perpendicular."""
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if lengths.min() < 0.5:
        return None
    axes = axes / lengths
    return axes if abs(axes[0] @ axes[1]) < 0.05 else None


def seconds(value: Any) -> float | None:
    """Seconds since midnight from HHMMSS.ffffff, optionally preceded by a date."""
    text = str(value or "").split("+")[0].split("-")[0]
    whole, _, rest = text.partition(".")
    whole = whole[-6:] if len(whole) > 6 else whole
    if len(whole) != 6 or not whole.isdigit():
        return None
    return int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:]) + float(f"0.{rest or 0}")
