"""The voxels of a case inside its region, stored for fast random sampling."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nisf.data.case import UNKNOWN, Case, Points
from nisf.data.geometry import Affine
from nisf.data.region import Region, pixel_positions
from nisf.data.wording import counted

ARRAYS = ("pixel", "intensity", "label", "slice", "first", "to_world", "times", "frames")
"""Attributes of `CasePoints` that are always arrays."""


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Points of ``s`` subjects, ``n`` each, as the network and the losses take them.

    Attributes:
        coordinates: in units of the region's half size; fourth column is time.
        intensity: in [0, 1].
        label: class index or `UNKNOWN`.
        weight: 1, or 0 for padding.
    """

    coordinates: Float[Tensor, "s n d"]
    intensity: Float[Tensor, "s n c"]
    label: Int[Tensor, "s n"]
    weight: Float[Tensor, "s n"]

    def __repr__(self) -> str:
        (subjects, points), channels = self.label.shape, self.intensity.shape[-1]
        counts = f"{counted(subjects, 'subject')}, {counted(points, 'point')}, {counted(channels, 'channel')}"
        return f"Batch({counts}, {self.label.device})"

    def to(self, device: torch.device) -> Batch:
        """Move the batch to a device."""
        return Batch(*(x.to(device) for x in (self.coordinates, self.intensity, self.label, self.weight)))


class CasePoints:
    """The voxels of one case inside its region, flattened, in the order of ``case.slices``.

    Coordinates are computed from the pixel on drawing instead of stored: 17 bytes per voxel instead of 33.
    ``breath_holds`` names the breath-hold of each slice, by its stack and position.
    """

    def __init__(self, case: Case, region: Region, dimensions: int) -> None:
        self.name = case.name
        self.region = region
        self.dimensions = dimensions
        maps, times, frames = [], [], []
        pixels, intensities, labels, slices = [], [], [], []
        for index, item in enumerate(case.slices):
            maps.append(item.affine.matrix[:3][:, [0, 1, 3]])
            times.append(item.time)
            frames.append(item.frame)
            i, j = np.nonzero(region.contains(pixel_positions(item)))
            pixels.append(np.stack([i, j], axis=1).astype(np.int16))
            intensities.append(case.stacks[item.stack].normalise(item.image[i, j]))
            labels.append(np.full(len(i), UNKNOWN) if item.label is None else item.label[i, j])
            slices.append(np.full(len(i), index, dtype=np.int32))
        self.breath_holds = [(item.stack, item.position) for item in case.slices]
        self.to_world = np.array(maps, dtype=np.float64).reshape(-1, 3, 3)
        self._set_region(region)
        self.times = np.array(times, dtype=np.float32)
        self.frames = np.array(frames, dtype=np.int32)
        empty = np.zeros((0, case.channels), dtype=np.float32)
        self.pixel = np.concatenate([np.zeros((0, 2), np.int16), *pixels])
        self.intensity = np.concatenate([empty, *intensities])
        self.label = np.concatenate([np.zeros(0, np.int8), *labels]).astype(np.int8)
        self.slice = np.concatenate([np.zeros(0, np.int32), *slices])
        self.first = np.searchsorted(self.slice, np.arange(len(self.frames) + 1))
        self.loose = self._loose(case, region)
        if self.loose is not None:
            stack = case.reference_stack
            values = self.loose.intensity if stack is None else stack.normalise(self.loose.intensity)
            self.intensity = np.concatenate([self.intensity, values.astype(np.float32)])
            self.label = np.concatenate([self.label, self.loose.label.astype(np.int8)])
        known = np.flatnonzero(self.label != UNKNOWN)
        self.of_class = [known[self.label[known] == c] for c in range(len(case.labels))]
        self.of_class = [index for index in self.of_class if len(index)]

    def __repr__(self) -> str:
        counts = f"{counted(len(self), 'point')}, {counted(len(self.frames), 'slice')}"
        labelled = sum(len(index) for index in self.of_class)
        return f"CasePoints({self.name!r}, {counts}, {labelled} labelled)"

    def _set_region(self, region: Region) -> None:
        """Set the maps from pixel (i, j, 1) to field coordinates."""
        self.region = region
        pose = region.pose.matrix[:3]
        maps = pose[:, :3] @ self.to_world
        maps[:, :, 2] += pose[:, 3]
        self.maps = maps / region.half[:, None]

    def seen_from(self, region: Region) -> CasePoints:
        """The same points in the coordinates of a rotated region; the voxels are shared, not copied."""
        other = copy.copy(self)
        other._set_region(region)
        return other

    def arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that `of_arrays` needs: arrays by name, and JSON metadata."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays |= {f"of_class.{number}": index for number, index in enumerate(self.of_class)}
        if self.loose is not None:
            arrays |= {f"loose.{name}": getattr(self.loose, name) for name in Points.__dataclass_fields__}
        notes = {
            "name": self.name,
            "dimensions": self.dimensions,
            "pose": self.region.pose.matrix.tolist(),
            "half": self.region.half.tolist(),
            "breath_holds": self.breath_holds,
            "classes": len(self.of_class),
        }
        return arrays, notes

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> CasePoints:
        """The inverse of `arrays`; arrays may be mapped from a file.

        Raises:
            KeyError, TypeError, ValueError: the data are something else.
        """
        self = cls.__new__(cls)
        for name in ARRAYS:
            setattr(self, name, arrays[name])
        self.name, self.dimensions = str(notes["name"]), int(notes["dimensions"])
        self.breath_holds = [(int(stack), int(position)) for stack, position in notes["breath_holds"]]
        self._set_region(Region(Affine(np.array(notes["pose"])), np.array(notes["half"])))
        self.of_class = [arrays[f"of_class.{number}"] for number in range(int(notes["classes"]))]
        loose = [f"loose.{name}" for name in Points.__dataclass_fields__]
        self.loose = Points(*(arrays[name] for name in loose)) if loose[0] in arrays else None
        return self

    @staticmethod
    def _loose(case: Case, region: Region) -> Points | None:
        if case.points is None:
            return None
        inside = region.contains(case.points.position)
        return Points(*(getattr(case.points, name)[inside] for name in Points.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.intensity)

    def coordinates(self, index: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n d"]:
        """Field coordinates of voxels by their flat index, float32."""
        out = np.empty((len(index), 4), dtype=np.float32)
        measured = len(self.slice)
        grid = index < measured
        chosen = index[grid]
        slice_index = self.slice[chosen]
        pixel = self.pixel[chosen].astype(np.float64)
        m = self.maps[slice_index]
        out[grid, :3] = m[:, :, 0] * pixel[:, :1] + m[:, :, 1] * pixel[:, 1:] + m[:, :, 2]
        out[grid, 3] = self.times[slice_index]
        if self.loose is not None:
            rest = index[~grid] - measured
            out[~grid, :3] = self.region.coordinates(self.loose.position[rest])
            out[~grid, 3] = self.loose.time[rest]
        return out[:, : self.dimensions]

    def draw(self, rng: np.random.Generator, count: int, balanced: float = 0.0) -> Int[np.ndarray, "n"]:
        """Flat indices of ``count`` voxels: a fraction evenly over the classes, the rest uniformly."""
        per_class = int(count * balanced / len(self.of_class)) if self.of_class else 0
        chosen = [index[rng.integers(len(index), size=per_class)] for index in self.of_class if per_class]
        uniform = rng.integers(len(self), size=count - sum(map(len, chosen)))
        return np.concatenate([*chosen, uniform])

    def spread(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, "n"]:
        """Flat indices of ``count`` voxels, one random voxel from each of ``count`` equal parts of the case.

        Voxels are ordered by slice and row, so that all slices and frames are represented.
        """
        return ((np.arange(count) + rng.random(count)) * (len(self) / count)).astype(np.int64)

    def frame(self, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
        """Flat indices of all voxels of one random frame (paper: a 3D volume per step)."""
        if not len(self.frames):
            return np.arange(len(self))
        filled = np.diff(self.first) > 0
        frame = rng.choice(np.unique(self.frames[filled]))
        chosen = np.flatnonzero(filled & (self.frames == frame))
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in chosen])


def batch_of(items: list[tuple[CasePoints, np.ndarray]], pad_to: int = 1) -> Batch:
    """One batch with the given voxels of each subject; shorter lists are padded with weight 0.

    Args:
        items: cases and flat indices, one per subject.
        pad_to: the number of points is rounded up to a multiple of this, so that compiled code sees few
            shapes.
    """
    longest = max(len(index) for _, index in items)
    n = -(-longest // pad_to) * pad_to
    first = items[0][0]
    coordinates = np.zeros((len(items), n, first.dimensions), dtype=np.float32)
    intensity = np.zeros((len(items), n, first.intensity.shape[1]), dtype=np.float32)
    label = np.full((len(items), n), UNKNOWN, dtype=np.int64)
    weight = np.zeros((len(items), n), dtype=np.float32)
    for row, (points, index) in enumerate(items):
        k = len(index)
        coordinates[row, :k] = points.coordinates(index)
        intensity[row, :k] = points.intensity[index]
        label[row, :k] = points.label[index]
        weight[row, :k] = 1.0
    return Batch(*(torch.from_numpy(array) for array in (coordinates, intensity, label, weight)))
