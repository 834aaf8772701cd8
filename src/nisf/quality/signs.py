"""Signs of a segmentation's quality, computed without labels from a subject's answers and the images.

A sign is a number with a name: ``FAMILY``, ``FAMILY/STRUCTURE`` or ``FAMILY/STRUCTURE/STRUCTURE``. Nothing
here decides what is good: the usual range of each sign, and its relation to Dice, are learnt
(`nisf.quality.model`). A sign that cannot be computed is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from nisf.quality.sampling import FrameSample
from nisf.subject.sections import certainty

Signs = dict[str, float]

SMALL = 1e-3
"""Volume in mL, and other sizes, below which a structure counts as absent; keeps logarithms finite."""
NEAR_MM = 12.0
"""Distance from structures within which intensities are compared."""
LEAST_PIXELS = 12
"""Minimum number of sampled pixels for a mean."""


def area(mask: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "z"]:
    """Number of pixels in each slice."""
    return mask.sum(axis=(0, 1)).astype(np.float64)


def surroundings(sample: FrameSample) -> Bool[np.ndarray, "x y z"]:
    """The structures and everything within `NEAR_MM` of them in each slice; all pixels if there are none."""
    foreground = sample.label > 0
    if not foreground.any():
        return np.ones(foreground.shape, dtype=bool)
    steps = np.maximum(1, np.round(NEAR_MM / sample.spacing[:2])).astype(int)
    box = np.ones((2 * steps[0] + 1, 2 * steps[1] + 1, 1), dtype=bool)
    return ndimage.binary_dilation(foreground, box)


def correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    """Correlation of the entries that are finite in both arrays; 0 if one is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both].astype(np.float64), b[both].astype(np.float64)
    if len(a) < LEAST_PIXELS or a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def sureness(sample: FrameSample, names: Sequence[str]) -> Signs:
    """Expected Dice according to the probabilities, and certainty of the sections' most confident pixels."""
    found, near = {}, surroundings(sample)
    for k, name in enumerate(names, start=1):
        mask, p = sample.label == k, sample.probability[..., k]
        total = p.sum() + mask.sum()
        found[f"sure/{name}"] = float(2 * p[mask].sum() / total) if mask.any() else 0.0
        size = area(mask)
        if mask.any():
            each = [certainty(p[:, :, z][mask[:, :, z]]) for z in np.flatnonzero(size)]
            found[f"section/{name}"] = float(np.average(each, weights=np.sqrt(size[size > 0])))
    found["unsure"] = float((1 - sample.probability.max(-1))[near].mean())
    return found


def reproduced(sample: FrameSample) -> Signs:
    """How well the field reproduces the image around the structures."""
    near = surroundings(sample)
    return {"given": correlation(sample.measured[near], sample.predicted[near])}


def topology(sample: FrameSample, names: Sequence[str]) -> Signs:
    """Contacts between structures within slices, separate parts, and structures cut by the image's edge."""
    found: Signs = {}
    foreground = sample.label > 0
    padded = np.pad(sample.label, ((1, 1), (1, 1), (0, 0)))
    beside = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    for k, name in enumerate(names, start=1):
        own = sample.label == k
        outside = [other[own & (other != k)] for other in beside]
        faces = np.concatenate(outside)
        for other, of_other in enumerate(names, start=1):
            if other != k and len(faces) >= LEAST_PIXELS:
                found[f"contact/{name}/{of_other}"] = float((faces == other).mean())
        parts, count = ndimage.label(sample.raw == k, structure=np.ones((3, 3, 3)))
        if count:
            sizes = np.bincount(parts.ravel())[1:]
            found[f"parts/{name}"] = float(1 - sizes.max() / sizes.sum())
    if foreground.any():
        found["cut"] = float(foreground[sample.edge].sum() / np.sqrt(foreground.sum()))
    return found


def sizes(sample: FrameSample, names: Sequence[str]) -> Signs:
    """Logarithms of volume (mL), length along the stack and width in the plane (mm) of each structure."""
    found = {}
    dx, dy, dz = sample.spacing
    for k, name in enumerate(names, start=1):
        size = area(sample.label == k)
        found[f"volume/{name}"] = float(np.log(max(SMALL, size.sum() * dx * dy * dz / 1000)))
        if size.any():
            found[f"length/{name}"] = float(np.log((size > 0).sum() * dz))
            found[f"width/{name}"] = float(np.log(np.sqrt(size.max() * dx * dy)))
    for a, b in combinations(names, 2):
        found[f"ratio/{a}/{b}"] = found[f"volume/{a}"] - found[f"volume/{b}"]
    return found


def _bend(values: Float[np.ndarray, "z *n"]) -> Float[np.ndarray, "m *n"]:
    """Second differences."""
    return values[2:] - 2 * values[1:-1] + values[:-2]


def smoothness(sample: FrameSample, names: Sequence[str]) -> Signs:
    """How smoothly areas and centres change from slice to slice."""
    found = {}
    for k, name in enumerate(names, start=1):
        mask = sample.label == k
        size = area(mask)
        if (size > 0).sum() < 4:
            continue
        # An empty slice is added at both ends, because a structure starts and ends somewhere.
        around = np.pad(size, 1)
        found[f"uneven/{name}"] = float(np.abs(_bend(around)).sum() / size.sum())
        # The total variation of a structure that grows and shrinks once is twice its largest area.
        found[f"returns/{name}"] = float(np.abs(np.diff(around)).sum() / (2 * size.max()) - 1)
        first, last = np.flatnonzero(size)[[0, -1]]
        inner = np.arange(first, last + 1)
        inner = inner[size[inner] > 0]
        centres = np.array(
            [np.argwhere(mask[:, :, z]).mean(0) * sample.spacing[:2] for z in inner], dtype=np.float64
        )
        width = np.sqrt(size.max() * sample.spacing[0] * sample.spacing[1])
        bend = np.linalg.norm(_bend(centres), axis=1)
        found[f"crooked/{name}"] = float(np.sqrt((bend**2).mean()) / width)
    return found


def _across(
    image: Float[np.ndarray, "x y z"], one: Bool[np.ndarray, "x y z"], other: Bool[np.ndarray, "x y z"]
) -> Float[np.ndarray, "m"]:
    """How much brighter ``one`` is than ``other`` across their common border within slices."""
    found = []
    for axis in (0, 1):
        first, second = (np.arange(image.shape[axis] - 1) + n for n in (0, 1))
        a, b = (np.take(image, index, axis) for index in (first, second))
        for inner, outer, sign in ((one, other, 1), (other, one, -1)):
            pairs = np.take(inner, first, axis) & np.take(outer, second, axis)
            found.append(sign * (a - b)[pairs].astype(np.float64))
    steps = np.concatenate(found)
    return steps[np.isfinite(steps)]


def appearance(sample: FrameSample, names: Sequence[str]) -> Signs:
    """Brightness of structures and their surroundings, contrast between them, and noise."""
    found, near = {}, surroundings(sample)
    masks = {name: sample.label == k for k, name in enumerate(names, start=1)}
    masks["surroundings"] = near & (sample.label == 0)
    means, deviations = {}, {}
    for name, mask in masks.items():
        values = sample.measured[mask]
        values = values[np.isfinite(values)].astype(np.float64)
        if len(values) < LEAST_PIXELS:
            continue
        means[name], deviations[name] = float(values.mean()), float(values.std())
        found[f"tone/{name}"], found[f"spread/{name}"] = means[name], deviations[name]
    for a, b in combinations(means, 2):
        spread = np.sqrt((deviations[a] ** 2 + deviations[b] ** 2) / 2)
        found[f"contrast/{a}/{b}"] = float((means[a] - means[b]) / max(spread, 0.02))
    for a, b in combinations([name for name in names if name in means], 2):
        step = _across(sample.measured, masks[a], masks[b])
        if len(step) >= LEAST_PIXELS:
            contrast = means[a] - means[b]
            found[f"edge/{a}/{b}"] = float(step.mean() / np.copysign(max(abs(contrast), 0.05), contrast))
    steps = np.abs(sample.neighbour - sample.measured)[:, near]
    steps = steps[np.isfinite(steps)]
    if np.isfinite(sample.detail_mm):
        found["detail"] = float(np.log(sample.detail_mm))
    if np.isfinite(sample.stripes):
        found["stripes"] = sample.stripes
    if np.isfinite(sample.zigzag):
        found["zigzag"] = sample.zigzag
    if len(steps) >= LEAST_PIXELS:
        found["grain"] = float(np.log(max(1e-3, steps.mean())))
        found["flat"] = float((steps < 1e-6).mean())
    values = sample.measured[np.isfinite(sample.measured)]
    if len(values):
        found["black"], found["white"] = float((values < 1e-3).mean()), float((values > 0.999).mean())
    return found


def sequence(sample: FrameSample) -> Signs:
    """Whether slices resemble their neighbours, and more so than the slices beyond."""
    found = {"blank": float(1 - sample.slices.mean())}
    image = sample.measured[:, :, sample.slices]
    flat = image.reshape(image.shape[0] * image.shape[1], image.shape[2])

    def alike(away: int) -> float:
        pairs = range(image.shape[2] - away)
        found = np.array([correlation(flat[:, z], flat[:, z + away]) for z in pairs])
        # Fisher's transformation: 0.98 and 0.90 differ more than 0.50 and 0.42.
        return float(np.arctanh(found.clip(-0.999, 0.999)).mean())

    if image.shape[2] > 3:
        found["follow"] = alike(1)
        found["order"] = alike(1) - alike(2)
    return found


def geometry(sample: FrameSample, pixel_mm: Float[np.ndarray, "2"]) -> Signs:
    """Logarithms of pixel size, distance of slices and length of the stack, mm."""
    slices = sample.measured.shape[2]
    return {
        "pixel": float(np.log(pixel_mm.mean())),
        "distance": float(np.log(sample.spacing[2])),
        "stack": float(np.log(slices * sample.spacing[2])),
    }


def of_frame(sample: FrameSample, names: Sequence[str], pixel_mm: Float[np.ndarray, "2"]) -> Signs:
    """All signs of one frame; ``names`` are the structures' names, in the order of their classes."""
    readers: list[Callable[[FrameSample, Sequence[str]], Signs]] = [
        sureness,
        topology,
        sizes,
        smoothness,
        appearance,
    ]
    found: Signs = {}
    for reader in readers:
        found |= reader(sample, names)
    return found | reproduced(sample) | sequence(sample) | geometry(sample, pixel_mm)


def between_frames(larger: Signs, smaller: Signs, names: Sequence[str]) -> Signs:
    """How much structures change from the frame of the expected maximum to that of the expected minimum.

    Args:
        larger: signs of the first frame.
        smaller: signs of the second.
        names: names of the structures.
    """
    volume = {name: [np.exp(frame[f"volume/{name}"]) for frame in (larger, smaller)] for name in names}
    found = {f"beat/{name}": float(np.log(a / b)) for name, (a, b) in volume.items()}
    for one, other in combinations(names, 2):
        a, b = (volume[name][0] - volume[name][1] for name in (one, other))
        found[f"stroke/{one}/{other}"] = float((a - b) / max(volume[one][0] + volume[other][0], SMALL))
    return found


__all__ = ["Signs", "between_frames", "of_frame"]
