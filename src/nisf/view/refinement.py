"""Adaptive sampling of a plane: first a coarse lattice, then finer ones, then every pixel where necessary.

A field of thick slices is smooth on the scale of a measured pixel. It is therefore queried on a lattice about
as fine as the measured pixels. Finer queries, down to every pixel, are made only in cells where classes meet,
probabilities are close or intensities are steep. Elsewhere answers are interpolated linearly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from nisf.subject.rendering import likeliest

LATTICE_MM = 0.7
"""Maximum spacing of the interpolated lattice, about half a measured pixel."""
COARSEST = 8
"""Maximum number of pixels between the lattice's points, along each axis."""
FIRST = 4
"""How many times coarser the first lattice is than the interpolated one."""
SECOND = 2
"""How many times coarser the lattice is that decides where the interpolated one is queried."""
CLOSE = 0.35
"""Cells where the two largest probabilities differ by less than this are refined."""
STEEP = 0.06
"""Cells where intensities differ by more than this are refined: edges, above all the region's."""
AT_A_TIME = 6144
"""Number of points queried between two checks of whether the request still holds."""

Ask = Callable[[Float[np.ndarray, "n 2"]], Float[np.ndarray, "n m"]]
"""Returns intensities and class probabilities (m in all) at pixels (column, row)."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Answers on a lattice of an image's pixels.

    Attributes:
        values: intensities, then class probabilities (columns, rows, m).
        step: pixels between the lattice's points.
        asked: number of points queried so far.
        sharp: whether it is final for every pixel of the image.
    """

    values: Float[np.ndarray, "w h m"]
    step: int
    asked: int
    sharp: bool


def lattice_step(spacing: float) -> int:
    """Pixels between the points of the interpolated lattice: a power of two.

    Args:
        spacing: pixel size, mm.
    """
    step = 1
    while step < COARSEST and 2 * step * spacing <= LATTICE_MM:
        step *= 2
    return step


def refined(
    ask: Ask, width: int, height: int, step: int, channels: int
) -> Generator[Sheet | None, None, None]:
    """Sheets of answers, first a coarse one and finally a sharp one; None where the caller may interrupt.

    Args:
        ask: gives answers at pixels.
        width: number of columns.
        height: number of rows.
        step: step of the interpolated lattice, see `lattice_step`; 1 queries every pixel.
        channels: number of intensity channels, which come first in the answers.
    """
    wide = step * FIRST
    asked = 0
    coarse = yield from _asked(ask, _lattice(width, height, wide))
    asked += coarse.shape[0] * coarse.shape[1]
    yield Sheet(coarse, wide, asked, sharp=False)
    middle = step * SECOND if step > 1 else 1
    pixel, ratio = _lattice(width, height, middle), wide // middle
    known = np.zeros(pixel.shape[:2], dtype=bool)
    known[::ratio, ::ratio] = True
    values = np.empty((*pixel.shape[:2], coarse.shape[2]), dtype=np.float32)
    values[::ratio, ::ratio] = coarse[: -(-known.shape[0] // ratio), : -(-known.shape[1] // ratio)]
    values[~known] = yield from _row(ask, pixel[~known])
    asked += int((~known).sum())
    if step > 1:
        cells = undecided(values, channels, STEEP / 3)
        values, left = _opened(values, cells, SECOND)
        values[left[:, 0], left[:, 1]] = yield from _row(ask, left * float(step))
        asked += len(left)
        cells = undecided(values, channels)
        values, left = _opened(values, cells, step)
        left = left[(left < (width, height)).all(1)]
        values[left[:, 0], left[:, 1]] = yield from _row(ask, left.astype(np.float64))
        asked += len(left)
    yield Sheet(values[:width, :height], 1, asked, sharp=True)


def _opened(
    values: Float[np.ndarray, "w h m"], cells: Bool[np.ndarray, "v g"], step: int
) -> tuple[Float[np.ndarray, "x y m"], Int[np.ndarray, "n 2"]]:
    """A lattice interpolated ``step`` times as finely, and its points inside undecided cells."""
    fine = spread_out(values, step)
    open_ = np.zeros(fine.shape[:2], dtype=bool)
    open_[:-1, :-1] = np.repeat(np.repeat(cells, step, 0), step, 1)
    open_[::step, ::step] = False
    return fine, np.argwhere(open_)


def undecided(
    values: Float[np.ndarray, "w h m"], channels: int, steep: float = STEEP
) -> Bool[np.ndarray, "v g"]:
    """Cells between four lattice points (w - 1, h - 1) whose corners do not determine the answers inside.

    Args:
        values: intensities, then class probabilities.
        channels: number of intensity channels.
        steep: maximum difference of intensities around a cell that is not refined.
    """
    probability = values[..., channels:]
    label = likeliest(probability.reshape(-1, probability.shape[2])).reshape(probability.shape[:2])
    best = np.partition(probability, -2, axis=2)
    close = best[..., -1] - best[..., -2] < CLOSE
    corners = [
        (slice(0, -1), slice(0, -1)),
        (slice(0, -1), slice(1, None)),
        (slice(1, None), slice(0, -1)),
        (slice(1, None), slice(1, None)),
    ]
    labels = np.stack([label[corner] for corner in corners])
    intensity = np.stack([values[..., 0][corner] for corner in corners])
    out = (labels != labels[0]).any(0) | (np.ptp(intensity, axis=0) > steep)
    for corner in corners:
        out |= close[corner]
    return out


def spread_out(values: Float[np.ndarray, "w h m"], step: int) -> Float[np.ndarray, "x y m"]:
    """A lattice interpolated linearly at every pixel between its first and last point."""
    w, h, _ = values.shape
    size = ((w - 1) * step + 1, (h - 1) * step + 1)
    table = torch.from_numpy(values).permute(2, 0, 1)[None]
    fine = functional.interpolate(table, size=size, mode="bilinear", align_corners=True)
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy())


def _lattice(width: int, height: int, step: int) -> Float[np.ndarray, "w h 2"]:
    """Pixels of a lattice that reaches at least one point beyond each side, and the image's last ones."""
    axes = [np.arange(max(2, -(-(n - 1) // step) + 1)) * float(step) for n in (width, height)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _asked(ask: Ask, pixel: Float[np.ndarray, "w h 2"]) -> Generator[None, None, np.ndarray]:
    values = yield from _row(ask, pixel.reshape(-1, 2))
    return values.reshape(*pixel.shape[:2], -1)


def _row(ask: Ask, pixel: Float[np.ndarray, "n 2"]) -> Generator[None, None, np.ndarray]:
    parts = []
    for first in range(0, max(1, len(pixel)), AT_A_TIME):
        parts.append(ask(pixel[first : first + AT_A_TIME]))
        yield None
    return np.concatenate(parts)
