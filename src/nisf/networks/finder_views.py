"""Augmentation for the finder: coarse slices in random position, field of view and lighting, and images
without any anatomy.

It makes a batch of random views at once. A view shows one slice of one case in one of these ways:

- the whole field of view, translated and rotated;
- a window around the anatomy, from a tight one to several times its size, as in a cropped file;
- a window beside the anatomy, in which there is nothing to find;
- the anatomy painted over with the texture around it;
- a pattern instead of an image: noise, ramps, stripes, discs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

SIZE = 64
"""Pixels along each side of the coarse grid."""

WINDOWED, BESIDE, ERASED, PATTERN = 0.55, 0.2, 0.1, 0.2
"""Fractions of the views: windows; of these, windows beside the anatomy; anatomy painted over; patterns."""
WIDEST, NARROWEST = 3.5, 0.95
"""Sides of a window, as multiples of the box around the anatomy."""
LIT = 0.6
"""Fraction of the views with the brightness profile of a receive coil."""
STEEPEST = 4.6
"""Maximum slope of the log brightness of a coil over half the grid: a factor of ten over a quarter of it."""
PATTERNS = 512
"""Number of patterns to draw from."""

Images = Float[Tensor, "b h w"]


@dataclass(frozen=True, eq=False)
class CoarseSlices:
    """Labelled slices on the coarse grid.

    Attributes:
        image: intensities in [0, 1].
        target: 1 inside the anatomy.
        extent: for each case, 1 where the anatomy is in any slice.
        measured: for each case, 1 in the field of view.
        case: index of each slice's case.
        patterns: images without any anatomy, in [0, 1].
    """

    image: Float[Tensor, "n 64 64"]
    target: Float[Tensor, "n 64 64"]
    extent: Float[Tensor, "c 64 64"]
    measured: Float[Tensor, "c 64 64"]
    case: Int[Tensor, "n"]
    patterns: Float[Tensor, "p 64 64"]

    def views(self, chosen: Int[Tensor, "b"], generator: torch.Generator) -> tuple[Images, Images]:
        """A random view of each chosen slice, and the mask of the anatomy in it."""
        dice = _Dice(len(chosen), generator)
        where = self.case[chosen]
        stack = torch.stack(
            [self.image[chosen], self.target[chosen], self.extent[where], self.measured[where]], dim=1
        )
        image, target, extent, inside = _windows(stack, dice, torch.pi, 0.5, BESIDE).unbind(1)
        target, inside = target.round(), inside > 0.5
        nothing, pattern = dice.uniform(0, 1), self.patterns[dice.below(len(self.patterns))]
        erased, patterned = nothing < ERASED, (nothing >= ERASED) & (nothing < ERASED + PATTERN)
        image = torch.where(_each(erased), _painted_over(image, extent, dice), image)
        image = torch.where(_each(patterned), pattern, image)
        target = torch.where(_each(erased | patterned), 0.0, target) * inside
        return _lit(image, inside, dice), target

    def upright(self, chosen: Int[Tensor, "b"], generator: torch.Generator, most: float) -> Images:
        """A random view of each chosen slice that shows the anatomy, rotated by at most ``most`` radians."""
        dice, where = _Dice(len(chosen), generator), self.case[chosen]
        parts = [self.image[chosen], self.target[chosen], self.extent[where], self.measured[where]]
        image, _, _, inside = _windows(torch.stack(parts, dim=1), dice, most, 0.0, 0.0).unbind(1)
        return _lit(image, inside > 0.5, dice)


class _Dice:
    """Draws random numbers for a batch of ``count`` views."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def uniform(self, low: float, high: float, *sizes: int) -> Tensor:
        return low + (high - low) * torch.rand(self.count, *sizes, generator=self.generator)

    def normal(self, *sizes: int) -> Tensor:
        return torch.randn(self.count, *sizes, generator=self.generator)

    def below(self, count: int) -> Tensor:
        return torch.randint(count, (self.count,), generator=self.generator)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None]


def _windows(
    stack: Float[Tensor, "b 4 h w"], dice: _Dice, most: float, mirrored: float, besides: float
) -> Float[Tensor, "b 4 h w"]:
    """Rotate, scale and translate, then cut to a window of the field of view, centred on the grid.

    Args:
        stack: image, target, extent and field of view.
        dice: source of random numbers.
        most: maximum rotation, radians.
        mirrored: fraction of the views that are mirrored.
        besides: fraction of the windows that lie beside the anatomy.
    """
    angle, zoom = dice.uniform(-most, most), dice.uniform(0.75, 1.3)
    mirror = torch.where(dice.uniform(0, 1) < mirrored, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    turn = torch.stack([torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)], 1)
    middle, half = _box(stack[:, 2])
    # The box around the rotated box, which is about as wide as the box around the rotated anatomy.
    half = 0.85 * torch.einsum("bij,bj->bi", torch.linalg.inv(turn).abs(), half)
    side = torch.exp(dice.uniform(float(np.log(NARROWEST)), float(np.log(WIDEST))))[:, None]
    side = side * torch.exp(dice.uniform(-0.15, 0.15, 2))
    # The anatomy lies anywhere in the window, or just outside it.
    off = dice.uniform(-1, 1, 2) * (side - 1).clamp_min(0.1) * half
    beside = dice.uniform(0, 1) < besides
    axis = functional.one_hot(dice.below(2), 2).float()
    sign = torch.where(dice.uniform(0, 1) < 0.5, -1.0, 1.0)[:, None]
    away = axis * sign * (1 + side) * half + (1 - axis) * off
    off = torch.where(beside[:, None], away, off)
    windowed = dice.uniform(0, 1) < WINDOWED
    there = middle + torch.einsum("bij,bj->bi", turn, off + dice.uniform(-0.1, 0.1, 2))
    shift = torch.where(windowed[:, None], there, dice.uniform(-0.3, 0.3, 2))
    size = [len(stack), 1, SIZE, SIZE]
    grid = functional.affine_grid(torch.cat([turn, shift[:, :, None]], 2), size, align_corners=False)
    image = functional.grid_sample(stack, grid, align_corners=False)
    place = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    half = torch.where(windowed[:, None], side * half, torch.full_like(half, 9.0))
    across, down = (place.abs() <= half[:, :1]), (place.abs() <= half[:, 1:])
    return image * (down[:, :, None] & across[:, None, :])[:, None]


def _box(extent: Images) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """Centre and half lengths of the box around a mask, in [-1, 1], last axis first."""
    middles, halves = [], []
    for axis in (1, 2):
        there = extent.amax(dim=axis) > 0.5
        first = there.float().argmax(1)
        last = SIZE - 1 - there.flip(1).float().argmax(1)
        middles.append((first + last + 1) / SIZE - 1)
        halves.append((last - first + 1) / SIZE)
    return torch.stack(middles, 1), torch.stack(halves, 1)


def _painted_over(image: Images, extent: Images, dice: _Dice) -> Images:
    """Fill the place of the anatomy with fine or coarse noise that resembles its surroundings."""
    gone = functional.max_pool2d(extent[:, None], 5, 1, 2)
    ring = (functional.max_pool2d(gone, 5, 1, 2) - gone)[:, 0]
    count = ring.sum((1, 2)).clamp_min(1)
    mean = (image * ring).sum((1, 2)) / count
    spread = (((image - _each(mean)) * ring) ** 2).sum((1, 2)).div(count).sqrt()
    fine = dice.normal(SIZE, SIZE)
    coarse = functional.interpolate(dice.normal(1, 12, 12), size=(SIZE, SIZE), mode="bicubic")[:, 0]
    grains = torch.where(_each(dice.uniform(0, 1) < 0.5), fine, coarse) * _each(dice.uniform(0, 1))
    return torch.where(gone[:, 0] > 0.5, _each(mean) + _each(spread) * grains, image)


def _lit(image: Images, inside: Tensor, dice: _Dice) -> Images:
    """Vary coil profile, range, contrast and noise; the outside of the field of view stays black."""
    place = (2 * torch.arange(SIZE) + 1) / SIZE - 1
    angle, steep = dice.uniform(-torch.pi, torch.pi), dice.uniform(0, 1) ** 2 * STEEPEST
    along = _each(torch.cos(angle)) * place[:, None] + _each(torch.sin(angle)) * place
    smooth = functional.interpolate(0.25 * dice.normal(1, 3, 3), size=(SIZE, SIZE), mode="bicubic")[:, 0]
    lit = dice.uniform(0, 1) < LIT
    field = torch.where(_each(lit), (_each(steep) * along + smooth).clamp(-6, 2).exp(), 1.0)
    image = image.clamp(0, 1) * field
    # The range comes from what the file shows, and for a dark slice from the brighter slices of its stack.
    low, high = _range(image, inside)
    ranged = lit | (dice.uniform(0, 1) < 0.6)
    low, high = torch.where(ranged, low, 0.0), torch.where(ranged, high, 1.0)
    dark = torch.where(dice.uniform(0, 1) < 0.25, torch.exp(-dice.uniform(0, 1.6)), 1.0)
    image = (image - _each(low)) / _each((high - low).clamp_min(1e-3)) * _each(dark)
    image = image.clamp(0, 1) ** _each(dice.uniform(0.6, 1.7)) * _each(dice.uniform(0.7, 1.2))
    image = image + 0.12 * _each(dice.uniform(0, 1) ** 2) * dice.normal(SIZE, SIZE)
    return image.clamp(0, 1) * inside


def _range(image: Images, inside: Tensor) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """1st and 99th percentile of the pixels in the mask."""
    ordered = torch.where(inside, image, torch.inf).flatten(1).sort(dim=1).values
    last = (inside.flatten(1).sum(1) - 1).clamp_min(0)
    found = [
        ordered.gather(1, (share * last).round().long()[:, None])[:, 0].nan_to_num(0, 1, 0)
        for share in (0.01, 0.99)
    ]
    return found[0], found[1]


def patterns(count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 64 64"]:
    """Images without any anatomy, in [0, 1]."""
    made = (_grains, _tissues, _discs, _stripes, _tissues, _discs, _grains, _ramp)
    out = np.empty((count, SIZE, SIZE), dtype=np.float32)
    for k in range(count):
        image = made[k % len(made)](rng)
        image = image + rng.uniform(0, 0.2) * np.ptp(image) * rng.standard_normal(image.shape)
        low, high = np.percentile(image, [1, 99])
        out[k] = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return out


def _grains(rng: np.random.Generator) -> np.ndarray:
    image = rng.standard_normal((SIZE, SIZE))
    sigma = np.exp(rng.uniform(-1.5, 2, size=2)) if rng.random() < 0.5 else np.exp(rng.uniform(-1.5, 2))
    image = ndimage.gaussian_filter(image, sigma)
    return np.abs(image) if rng.random() < 0.3 else image


def _tissues(rng: np.random.Generator) -> np.ndarray:
    """Adjacent grey areas, as of another organ."""
    image = np.zeros((SIZE, SIZE))
    for sigma in (1.5, 3.0, 6.0):
        layer = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), sigma * rng.uniform(0.6, 1.6))
        image += layer / layer.std() * rng.uniform(0, 1) * sigma**0.5
    levels = int(rng.integers(2, 6))
    ends = np.quantile(image, np.sort(rng.uniform(0, 1, size=levels)))
    grey = rng.uniform(0, 1, size=levels + 1)[np.searchsorted(ends, image)]
    return ndimage.gaussian_filter(grey, rng.uniform(0.3, 1.0)) if rng.random() < 0.7 else image


def _waves(rng: np.random.Generator) -> np.ndarray:
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(40)))
    x, y = np.indices((SIZE, SIZE))
    return np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 6.3))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    image = _waves(rng) * (_waves(rng) if rng.random() < 0.6 else 1)
    return np.sign(image) if rng.random() < 0.5 else image


def _ramp(rng: np.random.Generator) -> np.ndarray:
    x, y = np.indices((SIZE, SIZE)) / SIZE
    return rng.normal() * x + rng.normal() * y + rng.normal() * x * y


def _discs(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((SIZE, SIZE))
    for _ in range(rng.integers(1, 6)):
        place = (np.indices((SIZE, SIZE)) - rng.uniform(12, 52, size=(2, 1, 1))) / rng.uniform(
            2, 12, size=(2, 1, 1)
        )
        image = np.where(np.hypot(*place) < 1, rng.uniform(0, 1), image)
    return image if rng.random() < 0.8 else 1 - image
