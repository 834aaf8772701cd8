"""Find the anatomy in images without labels: a small network that segments coarse slices.

It sees one slice at a time on a coarse grid, so it does not depend on the order of the slices. Augmentation
(`nisf.networks.finder_views`) makes it robust to orientation, scale, contrast and field of view. It is
trained on the same labels as the prior, and saved with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from nisf.data.case import Case, Slice
from nisf.data.region import Region, mean_shift, reference_pose
from nisf.data.scratch import let_go
from nisf.device import one_core
from nisf.files import load_part
from nisf.networks.canvas import blur_sigma
from nisf.networks.finder_views import SIZE
from nisf.types import Vector

SUREST_CELLS = 20
"""Number of cells of a slice that determine the finder's certainty; a small anatomy covers about so many."""
SEEN = 0.5
"""Probability above which the anatomy counts as seen in a cell."""
MAX_SLICES = 64
"""Largest number of slices that the network is given at once, and that training and `doubts` take of a case:
all positions, and a few frames of a cine."""
SEARCHED = 320
"""Largest number of slices in which the region is looked for: all of a usual cine, so that the region does
not depend on the frame at which it begins."""


Coarse = tuple[list[Slice], Float[np.ndarray, "b h w"]]
"""The slices to be examined, and their coarse images."""
Seen = tuple[list[Slice], Float[np.ndarray, "b h2 w2"]]
"""The slices that were examined, and the probability map of the anatomy on each."""


def convolution_block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A 3 x 3 convolution with batch normalisation."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Finder(nn.Module):
    """Maps coarse slices ``(b, 1, 64, 64)`` to logits of 'part of the anatomy' ``(b, 32, 32)``."""

    def __init__(self, pixel_mm: float) -> None:
        super().__init__()
        self.pixel_mm: Tensor
        self.register_buffer("pixel_mm", torch.tensor(float(pixel_mm)))

        block = convolution_block
        self.to_half = block(1, 16, 2)
        self.to_quarter = nn.Sequential(block(16, 32, 2), block(32, 32))
        self.to_eighth = nn.Sequential(block(32, 64, 2), block(64, 64), block(64, 64))
        self.join_quarter = block(96, 32)
        self.join_half = block(48, 16)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b h2 w2"]:
        half = self.to_half(image)
        quarter = self.to_quarter(half)
        up = functional.interpolate(self.to_eighth(quarter), scale_factor=2, mode="nearest")
        quarter = self.join_quarter(torch.cat([quarter, up], dim=1))
        up = functional.interpolate(quarter, scale_factor=2, mode="nearest")
        return self.head(self.join_half(torch.cat([half, up], dim=1)))[:, 0]


def finder_of(tensors: Mapping[str, Tensor], path: Path) -> Finder:
    """Make a trained finder from its tensors, ``finder.*``, read from ``path``; strict."""
    finder = Finder(1.0)
    load_part(finder, "finder.", tensors, path)
    return finder.eval().requires_grad_(False)


def coarse_slice(item: Slice, image: np.ndarray, pixel_mm: float, order: int = 1) -> np.ndarray:
    """Resample ``image`` of a slice (x, y) to a 64 x 64 grid of ``pixel_mm`` around the slice's centre."""
    spacing = item.affine.spacing[:2]
    if order:
        # Averages over the coarse pixel, to avoid aliasing.
        image = ndimage.gaussian_filter(image, blur_sigma(spacing, pixel_mm))
    scale = pixel_mm / spacing
    offset = (np.array(image.shape) - 1) / 2 - (SIZE - 1) / 2 * scale
    return ndimage.affine_transform(image, scale, offset, (SIZE, SIZE), order=order, mode="constant")


def coarse_case(case: Case, pixel_mm: float, most: int = MAX_SLICES) -> Coarse:
    """Slices of the reference stack to be examined, ``most`` at most, and their coarse images (b, 64, 64)."""
    slices = [s for s in case.slices if s.stack == 0]
    frames = sorted({s.frame for s in slices})
    keep = max(1, most // max(1, len({s.position for s in slices})))
    chosen = {frames[i] for i in np.linspace(0, len(frames) - 1, min(keep, len(frames))).round().astype(int)}
    slices = [s for s in slices if s.frame in chosen]
    images = np.empty((len(slices), SIZE, SIZE), dtype=np.float32)
    for image, item in zip(images, slices, strict=True):
        image[:] = coarse_slice(item, case.stacks[0].normalise(item.image)[..., 0], pixel_mm)
        let_go(item.image)
    return slices, images


@torch.no_grad()
@one_core()  # so that the result does not depend on the number of threads, down to the last bit
def look(case: Case, finder: Finder, coarse: Coarse | None = None) -> Seen | None:
    """Run the finder on a case's slices, all on one coarse grid; None if there are no slices.

    Args:
        case: its reference stack is examined.
        finder: the network.
        coarse: the result of `coarse_case`, if it was computed already; by default, `SEARCHED` slices.
    """
    if not any(s.stack == 0 for s in case.slices):
        return None
    slices, images = coarse or coarse_case(case, float(finder.pixel_mm), SEARCHED)
    # Some stacks have thousands of slices; `MAX_SLICES` bounds the memory.
    parts = torch.from_numpy(images)[:, None].split(MAX_SLICES)
    return slices, torch.cat([torch.sigmoid(finder(part)) for part in parts]).numpy()


def finder_certainty(seen: Seen | None) -> float:
    """How certain the finder is that a case shows the anatomy, in [0, 1].

    The mean over the `SUREST_CELLS` most confident cells of each slice, averaged over the most confident
    third of the slices. An anatomy fills some slices and is absent from others; images of something else
    have no confident slice.

    Args:
        seen: result of `look`; without it, the certainty is 0.
    """
    if seen is None:
        return 0.0
    _, probability = seen
    cells = np.sort(probability.reshape(len(probability), -1), axis=1)[:, -SUREST_CELLS:].mean(axis=1)
    return float(np.sort(cells)[-max(1, len(cells) // 3) :].mean())


def _inside(item: Slice, pixel_mm: float, region: Region) -> Bool[np.ndarray, "h w"]:
    """Which pixels of a slice's coarse image lie in a region, ignoring its extent along the third axis."""
    middle, scale = (np.array(item.image.shape[:2]) - 1) / 2, pixel_mm / item.affine.spacing[:2]
    i, j = (middle[axis] + scale[axis] * (np.arange(SIZE) - (SIZE - 1) / 2) for axis in (0, 1))
    x, y = np.meshgrid(i, j, indexing="ij")
    place = region.pose(item.affine(np.stack([x, y, np.zeros_like(x)], axis=-1)))
    return np.asarray((np.abs(place[..., :2]) <= region.half[:2]).all(-1))


def doubts(case: Case, finder: Finder, region: Region) -> tuple[float, float]:
    """How certain the finder is that a case shows the anatomy, and how strong a second candidate is.

    For the second number, the region is masked out and the finder is run again. The number is the ratio of
    what it still sees to what it saw before, weighted by its certainty: 0 if it sees nothing, about 1 if it
    sees a second anatomy as clearly as the first.

    Args:
        case: its reference stack is examined.
        finder: the network.
        region: the region that was found.
    """
    slices, images = coarse_case(case, float(finder.pixel_mm))
    seen = look(case, finder, (slices, images))
    if seen is None:
        return 0.0, 0.0
    for image, item in zip(images, slices, strict=True):
        image[_inside(item, float(finder.pixel_mm), region)] = 0.0
    again = look(case, finder, (slices, images))
    assert again is not None
    before, after = (float(found[1][found[1] > SEEN].sum()) for found in (seen, again))
    return finder_certainty(seen), finder_certainty(again) * after / before if before else 0.0


@torch.no_grad()
def region_from_finder(case: Case, finder: Finder, half: Vector, seen: Seen | None = None) -> Region | None:
    """The box around the anatomy that the finder sees; None if it sees none or there are no slices.

    Args:
        case: the case.
        finder: the network.
        half: half lengths of the box, mm.
        seen: the result of `look`, if it was computed already.
    """
    half = np.asarray(half, dtype=np.float64)
    seen = seen or look(case, finder)
    if seen is None:
        return None
    pixel_mm = float(finder.pixel_mm)
    slices, probability = seen
    pose = reference_pose(case, (0.0, 0.0, 0.0))
    cells = SIZE // 2
    steps = 2 * (np.arange(cells) - (cells - 1) / 2)  # in coarse pixels from the centre
    places, weights = [], []
    for item, map_ in zip(slices, probability, strict=True):
        i, j = np.nonzero(map_ > 0.3)
        middle = (np.array(item.image.shape[:2]) - 1) / 2
        pixel = np.stack([steps[i], steps[j]], axis=1) * pixel_mm / item.affine.spacing[:2] + middle
        places.append(pose(item.affine(np.c_[pixel, np.zeros(len(i))])))
        weights.append(map_[i, j])
    place, weight = np.concatenate(places), np.concatenate(weights)
    if weight.sum() < 4:
        return None
    # False positives elsewhere must not pull the box away.
    _, inside = mean_shift(place, weight, half)
    if not inside.any():
        return None
    # Boxes in training are centred on the middle of the anatomy's extent, so this one is too.
    near = place[inside & (weight > 0.5)] if (inside & (weight > 0.5)).sum() > 4 else place[inside]
    low, high = np.percentile(near, [2, 98], axis=0)
    return Region(reference_pose(case, pose.inverse((low + high) / 2)), half)
