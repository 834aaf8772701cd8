"""Deliberately corrupted cases: training data of `fit_quality.py`, and building blocks of `wrong_inputs.py`.

A `Picture` is a volume with its labels; each function takes one and returns a corrupted one. Labels stay
as the annotator drew them, at the place where the image now shows the structure. Structures that were
erased from the image have no label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case, Stack, slices_of_volume
from nisf.data.geometry import Affine, Grid
from nisf.evaluation.scores import label_volume
from nisf.io.readers.measured import measured

Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Picture:
    """A volume and its labels.

    Attributes:
        name: name of the case.
        image: in [0, 1] by the percentiles of the original, not clipped (x, y, z, t).
        label: classes (x, y, z, t), -1 where unknown.
        spacing: mm (3,).
        times: fractions of the cycle (t,).
        phases: named times.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    times: np.ndarray
    phases: dict[str, float]

    def case(self, anatomy: Anatomy) -> Case | None:
        """The picture as a case; None if a reader would refuse the image as blank."""
        found = measured(self.image[..., None])
        if found is None:
            return None
        grid = Grid(self.image.shape[:3], Affine.scaling(self.spacing), self.times)
        stack = Stack("sa", grid, intensity_range=found.intensity_range, ends=found.ends)
        slices = slices_of_volume(found.image, self.label, grid, measured=found.slices)
        known = frozenset(anatomy.labels[1:])
        return Case(self.name, (stack,), slices, anatomy.labels, known, self.phases)


def picture_of(case: Case) -> Picture:
    """The first stack of a case as a picture; slices that were not measured are 0."""
    stack = case.stacks[0]
    grid = stack.grid
    image = np.zeros((*grid.shape, len(grid.times)), dtype=np.float32)
    low, high = stack.intensity_range[0]
    for item in case.slices:
        if item.stack == 0:
            image[:, :, item.position, item.frame] = (item.image[..., 0] - low) / max(high - low, 1e-9)
    label = label_volume(case)
    return Picture(case.name, image, label, grid.spacing.copy(), grid.times.copy(), dict(case.phases))


def middle(picture: Picture) -> np.ndarray:
    """Centre of the labelled voxels, or of the image if there are none: voxel coordinates (3,)."""
    places = np.argwhere((picture.label > 0).any(-1))
    return places.mean(0) if len(places) else (np.array(picture.image.shape[:3]) - 1) / 2


def in_plane_mm(picture: Picture) -> np.ndarray:
    """Offset of each pixel from `middle` in mm (x, y, 2)."""
    shape, centre = picture.image.shape[:2], middle(picture)[:2]
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return (index - centre) * picture.spacing[:2]


def noisy(picture: Picture, sigma: float, rng: Rng) -> Picture:
    """Add Rician noise of standard deviation ``sigma``."""
    a, b = sigma * rng.standard_normal((2, *picture.image.shape), dtype=np.float32)
    return replace(picture, image=np.hypot(picture.image + a, b))


def blurred(picture: Picture, sigma_mm: float) -> Picture:
    """Blur every slice in its plane."""
    sigma = sigma_mm / picture.spacing[:2]
    return replace(picture, image=ndimage.gaussian_filter(picture.image, (*sigma, 0, 0)))


def coil(picture: Picture, decay_mm: float, angle: float, along: float = 0.0) -> Picture:
    """Sensitivity of a surface coil: brightness that falls off across the plane and along the stack.

    Args:
        picture: what the coil receives.
        decay_mm: distance over which brightness falls to 1/e.
        angle: direction of the bright side in the plane, radians.
        along: component of the fall-off's direction along the stack, in [0, 1].
    """
    place = in_plane_mm(picture) @ np.array([np.cos(angle), np.sin(angle)])
    z = (np.arange(picture.image.shape[2]) - middle(picture)[2]) * picture.spacing[2]
    away = place[:, :, None] * np.sqrt(1 - along**2) + z * along
    gain = np.exp(np.clip(-away / decay_mm, -6, 2))
    return replace(picture, image=(picture.image * gain[..., None]).astype(np.float32))


def gamma(picture: Picture, power: float) -> Picture:
    """Change the contrast by a power; a negative one also inverts it."""
    value = np.clip(picture.image, 0, 1)
    return replace(picture, image=value**power if power > 0 else 1 - value**-power)


def blank(picture: Picture, keep: np.ndarray) -> Picture:
    """Set the slices to 0 where ``keep`` (z,) is False."""
    return replace(picture, image=picture.image * keep[None, None, :, None])


def reordered(picture: Picture, order: np.ndarray) -> Picture:
    """Put the slices into another order."""
    return replace(picture, image=picture.image[:, :, order], label=picture.label[:, :, order])


def shifted_slices(picture: Picture, sigma_mm: float, rng: Rng) -> Picture:
    """Shift every slice randomly in its plane, by whole pixels."""
    image, label = picture.image.copy(), picture.label.copy()
    for z in range(image.shape[2]):
        move = np.round(rng.normal(0, sigma_mm, 2) / picture.spacing[:2]).astype(int)
        image[:, :, z] = np.roll(image[:, :, z], move, (0, 1))
        label[:, :, z] = np.roll(label[:, :, z], move, (0, 1))
    return replace(picture, image=image, label=label)


def resized(picture: Picture, factor: np.ndarray | float, across: float = 1.0) -> Picture:
    """Scale the voxel size in and across the plane; the array stays the same."""
    return replace(picture, spacing=picture.spacing * np.array([factor, factor, across]))


def half_gone(picture: Picture, angle: float, offset_mm: float, value: float = 0.0) -> Picture:
    """Erase the signal on one side of the heart; labels there are kept."""
    place = in_plane_mm(picture) @ np.array([np.cos(angle), np.sin(angle)])
    gone = place > offset_mm
    return replace(picture, image=np.where(gone[:, :, None, None], np.float32(value), picture.image))


def cropped(picture: Picture, axis: int, from_below: bool, offset_mm: float) -> Picture:
    """Cut the image off at a distance from the middle of the heart."""
    at = round(middle(picture)[axis] + offset_mm / picture.spacing[axis])
    at = int(np.clip(at, 16, picture.image.shape[axis] - 16))
    part = [slice(None)] * 4
    part[axis] = slice(at, None) if from_below else slice(None, at)
    return replace(picture, image=picture.image[tuple(part)], label=picture.label[tuple(part)])


def ghosted(picture: Picture, strength: float, axis: int, rng: Rng) -> Picture:
    """Add ghosts along the phase-encoding axis, as breathing does."""
    shift = int(rng.integers(picture.image.shape[axis] // 8, picture.image.shape[axis] // 3))
    ghost = np.roll(picture.image, shift, axis) + np.roll(picture.image, -shift, axis)
    return replace(picture, image=(picture.image + strength * ghost) / (1 + strength))


def flat_middle(picture: Picture, margin_mm: float, rng: Rng) -> Picture:
    """Paint over the anatomy with the intensity around it."""
    gone = (picture.label > 0).any((2, 3))
    gone = ndimage.binary_dilation(gone, iterations=max(1, round(margin_mm / picture.spacing[0])))
    ring = ndimage.binary_dilation(gone, iterations=3) & ~gone
    image = picture.image.copy()
    for z, t in np.ndindex(image.shape[2:]):
        values = image[:, :, z, t][ring]
        image[:, :, z, t][gone] = rng.normal(values.mean(), 0.3 * values.std(), int(gone.sum()))
    return replace(picture, image=image, label=np.zeros_like(picture.label))


def _coil(p: Picture, rng: Rng) -> Picture:
    return coil(p, rng.uniform(18, 70), rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7))


def _noise(p: Picture, rng: Rng) -> Picture:
    return noisy(p, rng.uniform(0.05, 0.5), rng)


def _far_coil(p: Picture, rng: Rng) -> Picture:
    return noisy(_coil(p, rng), rng.uniform(0.02, 0.12), rng)


def _crop(p: Picture, rng: Rng) -> Picture:
    return cropped(p, int(rng.integers(2)), bool(rng.integers(2)), rng.uniform(-25, 25))


def _gone(p: Picture, rng: Rng) -> Picture:
    return half_gone(p, rng.uniform(0, 2 * np.pi), rng.uniform(-20, 30))


def _blank(p: Picture, rng: Rng) -> Picture:
    keep = rng.random(p.image.shape[2]) < rng.uniform(0.3, 0.8)
    keep[rng.integers(len(keep))] = True
    return blank(p, keep)


def _gamma(p: Picture, rng: Rng) -> Picture:
    return gamma(p, float(np.exp(rng.uniform(-1.2, 1.2))))


def _in_plane(p: Picture, rng: Rng) -> Picture:
    return resized(p, float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.25, 1.2))))


SPOILT: dict[str, Callable[[Picture, Rng], Picture]] = {
    "coil": _far_coil,
    "noise": _noise,
    "blur": lambda p, rng: blurred(p, rng.uniform(1.5, 7)),
    "half gone": _gone,
    "cropped": _crop,
    "shifted slices": lambda p, rng: shifted_slices(p, rng.uniform(3, 15), rng),
    "shuffled": lambda p, rng: reordered(p, rng.permutation(p.image.shape[2])),
    "blank slices": _blank,
    "contrast": _gamma,
    "ghosts": lambda p, rng: ghosted(p, rng.uniform(0.2, 1.0), int(rng.integers(2)), rng),
    "wrong pixel size": _in_plane,
    "erased": lambda p, rng: flat_middle(p, rng.uniform(5, 15), rng),
}
"""Kinds of spoiling that the fit learns from, with strengths drawn at random."""
