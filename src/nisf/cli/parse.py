"""Text of options to values, with one sentence when it does not parse."""

from __future__ import annotations

import math

from nisf.errors import BadSettingError


def numbers(text: str, count: int, flag: str, *, positive: bool = False) -> list[float]:
    """``"1,2,3"`` to a list of ``count`` finite numbers.

    Raises:
        BadSettingError: it is something else; the sentence names ``flag``.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)) or (positive and min(values) <= 0):
        kind = "positive numbers" if positive else "numbers"
        raise BadSettingError(f"{flag} {text}: give {count} {kind} separated by commas, without spaces")
    return values


def words(text: str, flag: str) -> list[str]:
    """``"a, b"`` to its parts.

    Raises:
        BadSettingError: a part is empty, or there twice; the sentence names ``flag``.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise BadSettingError(f"{flag} {text}: give different names separated by commas")
    return parts
