"""Determine which parts of a volume were measured: constant slices and borders and NaN were not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Num

from nisf.data.case import SUBSAMPLE, intensity_range
from nisf.data.scratch import by_frame, let_go, room
from nisf.errors import BadFileError

Image = Num[np.ndarray, "x y z t c"]


@dataclass(frozen=True, eq=False)
class Measured:
    """A volume, and which of its slices were measured.

    Attributes:
        image: intensities; the lower end of the range where nothing was measured.
        slices: which slices were measured.
        intensity_range: 1st and 99th percentile of what was measured, per channel.
        filled: fraction of the measured slices' pixels that were padding or not a number.
    """

    image: Image
    slices: Bool[np.ndarray, "z t"]
    intensity_range: Float[np.ndarray, "c 2"]
    filled: float

    @property
    def blank(self) -> int:
        """Number of slices that were not measured."""
        return int((~self.slices).sum())

    @property
    def ends(self) -> tuple[int, int] | None:
        """First and last position measured in some frame; None if these are the ends of the stack."""
        positions = np.flatnonzero(self.slices.any(axis=1))
        ends = (int(positions[0]), int(positions[-1]))
        return None if ends == (0, len(self.slices) - 1) else ends


def measured(image: Image) -> Measured | None:
    """Determine what was measured; None if nothing was.

    A slice is blank if all its pixels are equal. A value is padding if the border of every measured slice
    consists of it alone; inside the border, only if it lies outside the range of all other values.

    The image is read frame by frame, several times.
    """
    low, high = _extremes(image)
    slices = np.asarray((low < high).any(axis=-1))
    if not slices.any():
        return None
    every = image.dtype.kind != "f" or all(bool(np.isfinite(frame).all()) for _, frame in by_frame(image))
    filling = _filling(image, slices)
    if every and filling is None:
        return Measured(image, slices, intensity_range(_evenly(image, slices)), 0.0)
    return _without_filling(image, slices, filling)


def nothing_measured(shown: str | Path) -> BadFileError:
    """The error for an image without any measured slice."""
    return BadFileError(f"{shown}: every slice is blank, the image is empty; check how the file was written")


def _numbers(frame: np.ndarray) -> np.ndarray | None:
    """Where a frame has finite numbers; None if everywhere."""
    found = np.isfinite(frame) if frame.dtype.kind == "f" else None
    return None if found is None or found.all() else found


def _extremes(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest number of each slice (z, t, c); equal if a slice has none."""
    lows, highs = [], []
    for _, frame in by_frame(image):
        numbers = _numbers(frame)
        if numbers is None:
            low, high = frame.min(axis=(0, 1)), frame.max(axis=(0, 1))
        else:
            low = np.where(numbers, frame, np.inf).min(axis=(0, 1))
            high = np.where(numbers, frame, -np.inf).max(axis=(0, 1))
            low, high = (np.where(np.isfinite(end), end, 0.0) for end in (low, high))
        lows.append(low)
        highs.append(high)
    return np.stack(lows, axis=1), np.stack(highs, axis=1)


def _evenly(image: Image, slices: Bool[np.ndarray, "z t"]) -> Num[np.ndarray, "n c"]:
    """One to two million pixels of the measured slices, evenly spread; all pixels if there are fewer.

    They are taken in memory order, slices in the order of their frames; if some are blank, in the order of
    their positions.
    """
    blank = not slices.all()
    order = np.flatnonzero(slices) if blank else np.arange(slices.size).reshape(slices.shape).T.ravel()
    place = np.full(slices.size, -1)
    place[order] = np.arange(len(order))
    place = place.reshape(slices.shape)
    pixels = image.shape[0] * image.shape[1]
    step = max(1, len(order) * pixels // SUBSAMPLE)
    found: list[list[np.ndarray]] = [[] for _ in range(image.shape[-1])]
    for t, frame in by_frame(image):
        for z in np.flatnonzero(slices[:, t]):
            first = -int(place[z, t]) * pixels % step
            for c, picked in enumerate(found):
                picked.append(frame[:, :, z, c].ravel(order="F")[first::step].copy())
    return np.stack([np.concatenate(picked) for picked in found], axis=-1)


@dataclass(frozen=True)
class _Filling:
    """A padding value: everywhere, or only outside a window of the plane (x, y)."""

    value: np.generic
    window: tuple[slice, slice] | None

    def within(self, frame: Num[np.ndarray, "x y z c"]) -> Bool[np.ndarray, "x y z c"]:
        """Where a frame is padded."""
        found = frame == self.value
        if self.window is not None:
            found[self.window] = False
        return found


def _filling(image: Image, slices: Bool[np.ndarray, "z t"]) -> _Filling | None:
    """The padding value of a constant border; None if there is none."""
    if min(image.shape[:2]) < 3:
        return None
    value = _constant_border(image, slices)
    if value is None:
        return None
    low, high = np.inf, -np.inf
    columns, rows = np.zeros(image.shape[0], dtype=bool), np.zeros(image.shape[1], dtype=bool)
    for t, frame in by_frame(image):
        rest = (frame != value) & slices[:, t, None]
        numbers = _numbers(frame)
        if numbers is not None:
            rest &= numbers
        inside = frame[rest]
        if inside.size:
            low, high = min(low, inside.min()), max(high, inside.max())
        columns |= rest.any(axis=(1, 2, 3))
        rows |= rest.any(axis=(0, 2, 3))
    if not columns.any() or not low < value.item() < high:
        return _Filling(value, None)
    # A value that also occurs in tissue: only pixels around everything else are padding.
    i, j = np.flatnonzero(columns), np.flatnonzero(rows)
    return _Filling(value, (slice(i[0], i[-1] + 1), slice(j[0], j[-1] + 1)))


def _constant_border(image: Image, slices: Bool[np.ndarray, "z t"]) -> np.generic | None:
    """The only number on the borders of the measured slices; None if there are several, or none."""
    value = None
    for t, frame in by_frame(image):
        shown = frame[:, :, slices[:, t]]
        edges = [part.ravel() for part in (shown[0], shown[-1], shown[:, 0], shown[:, -1])]
        border = np.concatenate([edge[np.isfinite(edge)] for edge in edges])
        if border.size and value is None:
            value = border.flat[0]
        if border.size and not (border == value).all():
            return None
    return value


def _without_filling(image: Image, slices: Bool[np.ndarray, "z t"], filling: _Filling | None) -> Measured:
    """The volume, set to the lower end of the range wherever nothing was measured."""

    def empty(frame: np.ndarray) -> np.ndarray:
        found = np.zeros(frame.shape, dtype=bool) if filling is None else filling.within(frame)
        numbers = _numbers(frame)
        return found if numbers is None else found | ~numbers

    # Percentiles of a subsample: time varies fastest and x slowest, for each channel separately.
    count = np.zeros((*image.shape[:3], image.shape[-1]), dtype=np.int32)
    filled = 0
    for t, frame in by_frame(image):
        nothing = empty(frame)
        filled += int(nothing[:, :, slices[:, t]].sum())
        count += ~nothing & slices[:, t, None]
    total = count.sum(axis=(0, 1, 2))
    place = np.cumsum(count.reshape(-1, image.shape[-1]), axis=0).reshape(count.shape) - count
    picked: list[list[np.ndarray]] = [[] for _ in total]
    for t, frame in by_frame(image):
        real = ~empty(frame) & slices[:, t, None]
        for c, pixels in enumerate(picked):
            chosen = real[..., c] & (place[..., c] % max(1, int(total[c]) // SUBSAMPLE) == 0)
            pixels.append(frame[..., c][chosen])
        place += real
    ranges = np.array([intensity_range(np.concatenate(pixels)[:, None])[0] for pixels in picked])
    out = room(image.shape, image.dtype)
    for t, frame in by_frame(image):
        out[:, :, :, t] = frame
        nothing = empty(frame)
        for c, (least, _) in enumerate(ranges):
            out[:, :, :, t, c][nothing[..., c]] = np.floor(least) if image.dtype.kind in "iu" else least
        let_go(out)
    share = filled / (int(slices.sum()) * image.shape[0] * image.shape[1] * image.shape[-1])
    return Measured(out, slices, ranges, share)
