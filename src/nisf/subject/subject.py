"""A fitted subject: its latent and its place in the world, ready to be asked for anything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from torch import Tensor

from nisf.config.schema import Islands
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.data.region import Region
from nisf.device import place_of
from nisf.errors import NisfError
from nisf.kinds.image.scenes import Scenes
from nisf.kinds.latent.unknowns import BreathHold
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField
from nisf.networks.query import Rendering, ask, ask_samples, draw_latents, places_at_a_time
from nisf.prior.prior import Prior
from nisf.subject.islands import IslandMap
from nisf.types import PointsMm


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
        covariance: of the latent's Laplace posterior (l, l); None in files of format 1, and without a latent.
        held: what was fitted of each breath-hold; empty if nothing was.
        canvases: the slices, for a prior that sees them.
        islands: whether parts of a structure that are apart from its largest part are kept, and sections of
            which the field is not sure enough; found on the reference stack's grid at the measured moments.
        certain: how sure a section of each structure has to be; see `nisf.subject.sections`.
    """

    name: str
    prior: Prior
    latent: Tensor
    region: Region
    stacks: tuple[Stack, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    covariance: Float[Tensor, "l l"] | None = None
    held: tuple[BreathHold, ...] = ()
    canvases: Canvases | None = None
    islands: Islands = "keep"
    certain: tuple[float, ...] = ()

    @cached_property
    def _scenes(self) -> Scenes:
        assert isinstance(self.prior.field, ImageField)
        assert self.canvases is not None
        return Scenes(
            self.prior.field,
            self.canvases,
            self.prior.mirrors,
            both=self.prior.anatomy.reorder,
        )

    def _ask(
        self, latents: Tensor, scaled: np.ndarray, time: np.ndarray, memory_mb: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
        """Intensity in [0, 1], class probabilities and their deviations, inside the region.

        Args:
            latents: one, or samples of the posterior (m, l).
            scaled: in units of the region's half size (n, 3).
            time: fractions of the cycle (n,).
            memory_mb: working memory, MiB.
        """
        if isinstance(self.prior.field, ImageField):
            return *self._scenes.ask(scaled * self.region.half, time, memory_mb=memory_mb), 0.0
        coordinates = np.c_[scaled, time][:, : self.prior.config.field.dimensions]
        latents = latents.to(place_of(self.prior.field))
        if len(latents) == 1:
            return *ask(self.prior.field, latents[0], coordinates, memory_mb=memory_mb), 0.0
        return ask_samples(self.prior.field, latents, coordinates, memory_mb=memory_mb)

    def query(
        self,
        position: PointsMm,
        time: Float[np.ndarray, "*n"] | float = 0.0,
        *,
        memory_mb: float = 512.0,
        stack: int = 0,
        held: BreathHold | None = None,
    ) -> tuple[Float[np.ndarray, "*n c"], Float[np.ndarray, "*n k"]]:
        """Intensity (the input's scale) and class probabilities at world positions.

        Args:
            position: world mm (..., 3).
            time: fraction of the cycle, one or one per position.
            memory_mb: working memory beside the result, MiB.
            stack: whose intensity scale to use.
            held: answer as the slices of this breath-hold show it: shifted, and with their brightness.

        Outside the region the intensity is 0 and the class is background.
        """
        image, probability, _ = self._answer(position, time, self.latent[None], memory_mb, stack, held)
        return image, probability

    def query_posterior(
        self,
        position: PointsMm,
        time: Float[np.ndarray, "*n"] | float = 0.0,
        *,
        samples: int = 32,
        seed: int = 0,
        memory_mb: float = 512.0,
        stack: int = 0,
        held: BreathHold | None = None,
    ) -> tuple[Float[np.ndarray, "*n c"], Float[np.ndarray, "*n k"], Float[np.ndarray, "*n k"]]:
        """Mean intensity and class probabilities over the posterior, and the probabilities' deviations.

        Args:
            samples: draws of the latent; cost grows with them.
            seed: of the draws. Other arguments as for `query`.

        Raises:
            NisfError: the file that this was read from has no posterior.
        """
        return self._answer(position, time, self.sample(samples, seed), memory_mb, stack, held)

    def sample(self, count: int, seed: int = 0) -> Float[Tensor, "m l"]:
        """Draws of the latent from its Laplace posterior.

        Raises:
            NisfError: there is none.
        """
        if self.covariance is None:
            raise NisfError(f"{self.name}: was fitted by an older nisf and has no posterior; fit it again")
        return draw_latents(self.latent, self.covariance, count, seed)

    def _answer(
        self,
        position: np.ndarray,
        time: np.ndarray | float,
        latents: Tensor,
        memory_mb: float,
        stack: int,
        held: BreathHold | None,
        islands: Islands | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `query_posterior`; with one latent all deviations are zero. ``islands`` overrides its own."""
        position = np.asarray(position, dtype=np.float64)
        shape = position.shape[:-1]
        flat = position.reshape(-1, 3)
        if held is not None:
            # What is seen at a place is the tissue from which the breath has moved it there.
            flat = flat - self.stacks[held.stack].grid.affine.axes[:, :2] @ np.array(held.shift_mm)
        times = np.broadcast_to(np.asarray(time, dtype=np.float64), shape).reshape(-1)
        config = self.prior.config.field
        image = np.zeros((len(flat), config.channels), dtype=np.float32)
        probability = np.zeros((len(flat), config.classes), dtype=np.float32)
        probability[:, 0] = 1.0
        deviation = np.zeros_like(probability)
        step = places_at_a_time(memory_mb)
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            scaled = self.region.coordinates(flat[part])
            inside = np.flatnonzero((np.abs(scaled) <= 1.0).all(axis=1))
            if not len(inside):
                continue
            values, shares, spread = self._ask(latents, scaled[inside], times[part][inside], memory_mb / 2)
            deviation[first + inside] = spread
            if held is not None:
                values = expit(held.gain * logit(values.clip(1e-6, 1 - 1e-6)) + held.offset)
            image[first + inside] = self.stacks[stack].denormalise(values) if self.stacks else values
            probability[first + inside] = shares
        if (islands or self.islands) == "remove" and self.stacks:
            self._island_map.remove(flat, times, probability)
        k = config.classes
        return (
            image.reshape(*shape, config.channels),
            probability.reshape(*shape, k),
            deviation.reshape(*shape, k),
        )

    @cached_property
    def _island_map(self) -> IslandMap:
        def ask(position: np.ndarray, time: float) -> np.ndarray:
            return self._answer(position, time, self.latent[None], 512.0, 0, None, "keep")[1]

        return IslandMap(self.stacks[0].grid, self.prior.config.field.classes, ask, self.certain)

    def render(
        self,
        grid: Grid | None = None,
        *,
        probabilities: bool = False,
        samples: int = 0,
        memory_mb: float = 512.0,
        stack: int = 0,
    ) -> Rendering:
        """Answers on a grid: by default the measured stack's own, as its slices show it.

        On its own grid a stack's fitted shifts and gains are applied, so that the answer overlays on the
        images; on any other grid the answer is that of the world.

        Args:
            grid: any grid or plane in world mm.
            probabilities: whether to keep the class probabilities.
            samples: draws from the posterior to average over, which also gives deviations; 0 asks the
                fitted latent alone.
            memory_mb: working memory beside the result, MiB.
            stack: whose grid (if none is given) and intensity scale to use.
        """
        held = {h.position: h for h in self.held if h.stack == stack and grid is None}
        # On the grid where islands are looked for they are taken out afterwards: nothing is asked twice.
        own = self.islands == "remove" and grid is None and stack == 0 and not held and not samples
        islands = "keep" if own else self.islands
        grid = self.stacks[stack].grid if grid is None else grid
        latents = self.sample(samples) if samples else self.latent[None]
        nx, ny, nz = grid.shape
        shape = (nx, ny, nz, len(grid.times))
        config = self.prior.config.field
        image = np.empty((*shape, config.channels), dtype=np.float32)
        label = np.empty(shape, dtype=np.uint8)
        probability = np.empty((*shape, config.classes), dtype=np.float32) if probabilities else None
        deviation = np.empty((*shape, config.classes), dtype=np.float32) if samples else None
        rows = max(1, places_at_a_time(memory_mb) // ny)
        # A moment at a time: the slices of each are encoded once.
        for t, time in enumerate(grid.times):
            for k, first in itertools.product(range(nz), range(0, nx, rows)):
                part = slice(first, min(first + rows, nx))
                index = np.stack(np.meshgrid(np.arange(nx)[part], np.arange(ny), [k], indexing="ij"), axis=-1)
                values, shares, spread = self._answer(
                    grid.affine(index[:, :, 0]), float(time), latents, memory_mb, stack, held.get(k), islands
                )
                image[part, :, k, t] = values
                label[part, :, k, t] = shares.argmax(-1)
                if probability is not None:
                    probability[part, :, k, t] = shares
                if deviation is not None:
                    deviation[part, :, k, t] = spread
            if own:
                voxels = np.unravel_index(self._island_map.at(t, label[..., t]).index, grid.shape)
                position = grid.affine(np.stack(voxels, axis=-1))
                _, shares, _ = self._answer(position, float(time), latents, memory_mb, 0, None)
                label[..., t][voxels] = shares.argmax(-1)
                if probability is not None:
                    probability[..., t, :][voxels] = shares
        return Rendering(grid, image, label, probability, deviation)
