"""A fitted subject: its latent and its place in the world, ready to be asked for anything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.canvas import Canvases
from nisf.case import Stack
from nisf.errors import NisfError
from nisf.field import Field
from nisf.files import read_tensors, write_tensors
from nisf.geometry import Affine, Grid
from nisf.image_field import ImageField
from nisf.prior import Prior, load_prior
from nisf.query import ask, places_at_a_time
from nisf.region import Region
from nisf.scenes import Scenes
from nisf.types import PointsMm

FORMAT = 1
"""Version of the file."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """Answers on a grid.

    Attributes:
        grid: where and when.
        image: intensities on the input's scale (x, y, z, t, c), float32; 0 outside the region.
        label: class index (x, y, z, t), uint8; background outside the region.
        probability: per class (x, y, z, t, k), float32, or None if not asked for.
    """

    grid: Grid
    image: Float[np.ndarray, "x y z t c"]
    label: np.ndarray
    probability: Float[np.ndarray, "x y z t k"] | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """One subject, fitted.

    Attributes:
        name: the case's name.
        prior: what its latent belongs to.
        latent: (l,); empty where the prior sees the slices themselves.
        region: where the field answers.
        stacks: the grids that were measured; the first gives the intensity scale.
        summary: how the fit went: loss, steps, seconds, how the region was found.
        canvases: the slices, for a prior that sees them.
    """

    name: str
    prior: Prior
    latent: Tensor
    region: Region
    stacks: tuple[Stack, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    canvases: Canvases | None = None

    @cached_property
    def _scenes(self) -> Scenes:
        assert isinstance(self.prior.field, ImageField)
        assert self.canvases is not None
        return Scenes(self.prior.field, self.canvases)

    def _ask(
        self, scaled: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], memory_mb: float
    ) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
        """Intensity in [0, 1] and class probabilities inside the region, in units of its half size."""
        if isinstance(self.prior.field, Field):
            coordinates = np.c_[scaled, time][:, : self.prior.config.field.dimensions]
            return ask(self.prior.field, self.latent, coordinates, memory_mb=memory_mb)
        return self._scenes.ask(scaled * self.region.half, time, memory_mb=memory_mb)

    def query(
        self,
        position: PointsMm,
        time: Float[np.ndarray, "*n"] | float = 0.0,
        *,
        memory_mb: float = 512.0,
        stack: int = 0,
    ) -> tuple[Float[np.ndarray, "*n c"], Float[np.ndarray, "*n k"]]:
        """Intensity (the input's scale) and class probabilities at world positions.

        Args:
            position: world mm (..., 3).
            time: fraction of the cycle, one or one per position.
            memory_mb: working memory beside the result, MiB.
            stack: whose intensity scale to use.

        Outside the region the intensity is 0 and the class is background.
        """
        position = np.asarray(position, dtype=np.float64)
        shape = position.shape[:-1]
        flat = position.reshape(-1, 3)
        times = np.broadcast_to(np.asarray(time, dtype=np.float64), shape).reshape(-1)
        config = self.prior.config.field
        image = np.zeros((len(flat), config.channels), dtype=np.float32)
        probability = np.zeros((len(flat), config.classes), dtype=np.float32)
        probability[:, 0] = 1.0
        step = places_at_a_time(memory_mb)
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            scaled = self.region.coordinates(flat[part])
            inside = np.flatnonzero((np.abs(scaled) <= 1.0).all(axis=1))
            if not len(inside):
                continue
            values, shares = self._ask(scaled[inside], times[part][inside], memory_mb / 2)
            image[first + inside] = self.stacks[stack].denormalise(values) if self.stacks else values
            probability[first + inside] = shares
        return image.reshape(*shape, config.channels), probability.reshape(*shape, config.classes)

    def render(
        self,
        grid: Grid | None = None,
        *,
        probabilities: bool = False,
        memory_mb: float = 512.0,
        stack: int = 0,
    ) -> Rendering:
        """Answers on a grid: by default the measured stack's own.

        Args:
            grid: any grid or plane in world mm.
            probabilities: whether to keep the class probabilities.
            memory_mb: working memory beside the result, MiB.
            stack: whose grid (if none is given) and intensity scale to use.
        """
        grid = self.stacks[stack].grid if grid is None else grid
        nx, ny, nz = grid.shape
        shape = (nx, ny, nz, len(grid.times))
        config = self.prior.config.field
        image = np.empty((*shape, config.channels), dtype=np.float32)
        label = np.empty(shape, dtype=np.uint8)
        probability = np.empty((*shape, config.classes), dtype=np.float32) if probabilities else None
        rows = max(1, places_at_a_time(memory_mb) // ny)
        for k, first in itertools.product(range(nz), range(0, nx, rows)):
            part = slice(first, min(first + rows, nx))
            index = np.stack(np.meshgrid(np.arange(nx)[part], np.arange(ny), [k], indexing="ij"), axis=-1)
            position = grid.affine(index[:, :, 0])
            for t, time in enumerate(grid.times):
                values, shares = self.query(position, float(time), memory_mb=memory_mb, stack=stack)
                image[part, :, k, t] = values
                label[part, :, k, t] = shares.argmax(-1)
                if probability is not None:
                    probability[part, :, k, t] = shares
        return Rendering(grid, image, label, probability)

    def save(self, path: str | Path) -> None:
        """Write one ``.nisf`` file."""
        metadata = {
            "format": FORMAT,
            "name": self.name,
            "prior": {
                "fingerprint": self.prior.fingerprint,
                "folder": self.prior.source,
            },
            "region": {"pose": self.region.pose.matrix.tolist(), "half_mm": self.region.half.tolist()},
            "stacks": [
                {
                    "name": stack.name,
                    "shape": list(stack.grid.shape),
                    "affine": stack.grid.affine.matrix.tolist(),
                    "times": stack.grid.times.tolist(),
                    "oriented": stack.oriented,
                    "source": None if stack.source is None else str(stack.source),
                    "cycle_ms": stack.cycle_ms,
                    "intensity_range": stack.intensity_range.tolist(),
                }
                for stack in self.stacks
            ],
            "summary": dict(self.summary),
        }
        tensors = {"latent": self.latent}
        if self.canvases is not None:
            tensors |= {"canvases.images": self.canvases.images, "canvases.maps": self.canvases.maps}
            tensors["canvases.times"] = torch.from_numpy(self.canvases.times)
        write_tensors(path, tensors, {"nisf": json.dumps(metadata, allow_nan=False)})


def read_fitted(path: str | Path, prior: Prior | str | Path | None = None) -> Fitted:
    """Read a ``.nisf`` file.

    Args:
        path: the file.
        prior: the prior it was fitted with, or its folder; by default the folder that the file names.

    Raises:
        NisfError: the prior is not found, or the file is damaged, of another version, or another prior's.
    """
    tensors, header = read_tensors(path)
    try:
        data = json.loads(header["nisf"])
        if data["format"] != FORMAT:
            raise NisfError(
                f"{path}: format {data['format']!r}, but this nisf reads format {FORMAT}; fit it again"
            )
        if prior is None and data["prior"]["folder"] is None:
            raise NisfError(f"{path}: does not say where its prior is; give it with --prior")
        if not isinstance(prior, Prior):
            prior = load_prior(data["prior"]["folder"] if prior is None else prior)
        fingerprint = data["prior"]["fingerprint"]
        if fingerprint != prior.fingerprint:
            raise NisfError(
                f"{path}: was fitted with prior {fingerprint}, not with the one given ({prior.fingerprint}); "
                "give the prior it was fitted with"
            )
        region = Region(Affine(np.array(data["region"]["pose"])), np.array(data["region"]["half_mm"]))
        stacks = tuple(
            Stack(
                name=item["name"],
                grid=Grid(tuple(item["shape"]), Affine(np.array(item["affine"])), np.array(item["times"])),
                oriented=item["oriented"],
                source=None if item["source"] is None else Path(item["source"]),
                cycle_ms=item["cycle_ms"],
                intensity_range=np.array(item["intensity_range"]),
            )
            for item in data["stacks"]
        )
        latent = tensors["latent"]
        size = prior.config.field.latent if prior.config.field.kind == "latent" else 0
        if latent.shape != (size,) or not torch.isfinite(latent).all():
            raise NisfError(
                f"{path}: latent of shape {tuple(latent.shape)} does not fit the prior; fit it again"
            )
        canvases = None if size else _canvases(tensors, prior)
        return Fitted(data["name"], prior, latent, region, stacks, data["summary"], canvases)
    except (KeyError, TypeError, ValueError) as error:
        raise NisfError(f"{path}: not a fitted subject written by nisf ({error!r})") from error


def _canvases(tensors: Mapping[str, Tensor], prior: Prior) -> Canvases:
    """The canvases of a file.

    Raises:
        KeyError, ValueError: they are missing or of other sizes than the prior's.
    """
    images, maps, times = (tensors[f"canvases.{name}"] for name in ("images", "maps", "times"))
    n, side = len(images), prior.config.image.pixels
    shapes = (images.shape, maps.shape, times.shape)
    if shapes != ((n, prior.config.field.channels, side, side), (n, 3, 4), (n,)) or not n:
        raise ValueError(f"canvases of shapes {[tuple(shape) for shape in shapes]}")
    if not all(torch.isfinite(t).all() for t in (images, maps, times)):
        raise ValueError("canvases that are not finite")
    return Canvases(images, maps, times.numpy().astype(np.float64))
