"""Sizes, positions and counts in words, for messages and reprs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sizes(numbers: Sequence[int] | np.ndarray) -> str:
    """E.g. ``216 x 256 x 10``."""
    return " x ".join(str(number) for number in numbers)


def mm(lengths: Sequence[float] | np.ndarray) -> str:
    """E.g. ``1.5 x 1.5 x 8 mm``."""
    return " x ".join(f"{length:.4g}" for length in lengths) + " mm"


def place_mm(place: Sequence[float] | np.ndarray) -> str:
    """E.g. ``(-12.5, 0, 103) mm``, to a tenth of a millimetre."""
    # Adding zero turns -0 into 0.
    return f"({', '.join(f'{round(float(number), 1) + 0.0:.6g}' for number in place)}) mm"


def counted(number: int, what: str) -> str:
    """E.g. ``1 frame``, ``30 frames``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def first_few(words: Sequence[str]) -> str:
    """E.g. ``a, b``; of more than five, the first five and dots."""
    return ", ".join([*words[:5], *(["..."] if len(words) > 5 else [])])


def such(number: int, what: str) -> str:
    """What follows after one of several was named, e.g. `` (3 such cases)``; empty if it is the only one."""
    return "" if number == 1 else f" ({number} such {what}s)"


def listed(words: Sequence[str]) -> str:
    """E.g. ``a, b and c``; empty without words."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
