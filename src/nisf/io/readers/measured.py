"""What of a volume was measured: constant slices, constant borders and numbers that are none were not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Num

from nisf.data.case import intensity_range
from nisf.errors import BadFileError

Image = Num[np.ndarray, "x y z t c"]


@dataclass(frozen=True, eq=False)
class Measured:
    """A volume, and which of its slices were measured.

    Attributes:
        image: intensities; where nothing was measured, the lower end of the range.
        slices: which slices were measured.
        intensity_range: 1st and 99th percentile of what was measured, per channel.
        filled: share of the measured slices' pixels that were a filling or no number.
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
        """First and last position that was measured in some frame; None if those of the stack."""
        positions = np.flatnonzero(self.slices.any(axis=1))
        ends = (int(positions[0]), int(positions[-1]))
        return None if ends == (0, len(self.slices) - 1) else ends


def measured(image: Image) -> Measured | None:
    """Tell what was measured; None if nothing was.

    A slice is blank where all its pixels are equal. A value is a filling where the border of every measured
    slice consists of nothing else; inside the border, only if it lies outside the other values.
    """
    numbers = np.isfinite(image) if image.dtype.kind == "f" else None
    if numbers is not None and numbers.all():
        numbers = None
    low, high = _extremes(image, numbers)
    slices = np.asarray((low < high).any(axis=-1))
    if not slices.any():
        return None
    filling = _filling(image, slices, numbers)
    if numbers is None and filling is None:
        # The order of the memory, as for a volume without blank slices: percentiles are of a subsample.
        shown = image if slices.all() else np.moveaxis(image, (2, 3), (0, 1))[slices].transpose(1, 2, 0, 3)
        axes = (3, 2, 1, 0, 4) if slices.all() else (2, 1, 0, 3)
        return Measured(image, slices, intensity_range(shown.transpose(*axes)), 0.0)
    empty = np.zeros(image.shape, dtype=bool) if filling is None else filling
    if numbers is not None:
        empty |= ~numbers
    real = ~empty & slices[None, None, :, :, None]
    ranges = np.array(
        [intensity_range(image[..., c][real[..., c]][:, None])[0] for c in range(image.shape[-1])]
    )
    out = image.copy()
    for c, (least, _) in enumerate(ranges):
        channel = out[..., c]
        channel[empty[..., c]] = np.floor(least) if image.dtype.kind in "iu" else least
    share = float(empty[:, :, slices].mean())
    return Measured(out, slices, ranges, share)


def nothing_measured(shown: str | Path) -> BadFileError:
    """The error of an image of which nothing was measured."""
    return BadFileError(f"{shown}: every slice is blank, the image is empty; check how the file was written")


def _extremes(image: Image, numbers: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest number of each slice (z, t, c); equal where a slice has none."""
    if numbers is None:
        return image.min(axis=(0, 1)), image.max(axis=(0, 1))
    low = np.where(numbers, image, np.inf).min(axis=(0, 1))
    high = np.where(numbers, image, -np.inf).max(axis=(0, 1))
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


def _filling(
    image: Image, slices: Bool[np.ndarray, "z t"], numbers: np.ndarray | None
) -> Bool[np.ndarray, "x y z t c"] | None:
    """Where a constant border was filled in; None if there is none."""
    if min(image.shape[:2]) < 3:
        return None
    edges = [part[:, slices] for part in (image[0], image[-1], image[:, 0], image[:, -1])]
    if numbers is not None:
        known = [part[:, slices] for part in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1])]
        border = np.concatenate([part[flag] for part, flag in zip(edges, known, strict=True)])
    else:
        border = np.concatenate([part.ravel() for part in edges])
    if not border.size or border.min() != border.max():
        return None
    value = border.flat[0]
    same = image == value
    rest = ~same & slices[None, None, :, :, None]
    if numbers is not None:
        rest &= numbers
    inside = image[rest]
    if not inside.size or not inside.min() < value < inside.max():
        return same
    # A value that tissue has as well: only what lies around everything else.
    i, j = (np.flatnonzero(rest.any(axis=axes)) for axes in ((1, 2, 3, 4), (0, 2, 3, 4)))
    same[i[0] : i[-1] + 1, j[0] : j[-1] + 1] = False
    return same
