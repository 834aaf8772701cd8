"""Resample a case to other pixel sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from nisf.data.case import Case, intensity_range, slices_of_volume
from nisf.data.geometry import Grid
from nisf.networks.canvas import smoothed


def resampled(case: Case, factor: float) -> Case:
    """The reference stack with pixels ``factor`` times as large, without labels.

    Larger pixels average over their area; smaller ones are interpolated linearly.
    """
    stack = case.stacks[0]
    old, across = stack.grid, stack.grid.spacing
    grid = old.at_spacing((across[0] * factor, across[1] * factor, across[2]))
    pixel = old.affine.inverse(grid.points()[:, :, 0])[..., :2]
    image = np.zeros((*grid.shape, len(grid.times), case.channels), dtype=np.float32)
    there = np.zeros(image.shape[2:4], dtype=bool)
    for item in case.slices:
        if item.stack != 0:
            continue
        there[item.position, item.frame] = True
        source = smoothed(np.asarray(item.image, dtype=np.float32), np.ones(2), factor)
        for channel in range(case.channels):
            image[:, :, item.position, item.frame, channel] = ndimage.map_coordinates(
                source[..., channel], np.moveaxis(pixel, -1, 0), order=1, mode="nearest"
            )
    other = replace(stack, grid=grid, intensity_range=intensity_range(image[:, :, there]))
    thickness = case.slices[0].thickness
    slices = slices_of_volume(image, None, grid, thickness=thickness)
    kept = tuple(s for s in slices if there[s.position, s.frame])
    return replace(case, stacks=(other,), slices=kept, points=None)


def on_grid(label: np.ndarray, source: Grid, grid: Grid) -> np.ndarray:
    """Transfer classes (x, y, z, t) to a grid with the same slices and times, by nearest voxel."""
    if label.shape[:3] == grid.shape:
        return label
    pixel = np.round(source.affine.inverse(grid.points()[:, :, 0])[..., :2]).astype(int)
    inside = np.all((pixel >= 0) & (pixel < source.shape[:2]), axis=-1)
    i, j = (pixel[..., axis].clip(0, source.shape[axis] - 1) for axis in (0, 1))
    return np.where(np.asarray(inside)[..., None, None], label[i, j], 0)
