"""Transform coding: compress the features of all phases such that the error of the answers stays bounded.

Features of neighbouring pixels are nearly equal, and most directions in a block of pixels hardly affect the
answers. Blocks are therefore scaled such that, on average, all directions affect answers equally (the
Cholesky factor of the metric), and rotated to their principal axes (Karhunen-Loève transform). Each block is
rounded as coarsely as the answers that depend on it allow (`nisf.view.steps`). The result is checked at other
points, also half-way between phases, and blocks are refined where it is off. `nisf.view.prediction` codes
the integers. Axes without variance are left out: an encoder that ends with a pixel shuffle uses only some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter, minimum_filter

from nisf.subject.portable import Portable, Tables
from nisf.view.prediction import A_DOUBLING, FINEST, Levels, Mixture, Predicted, predicted, steps
from nisf.view.steps import LOOSEST, allowed, block_of, variances

WITHIN = 0.85e-3
"""Largest allowed difference of an answer at the points where it is checked."""
DEVIATIONS = 3.1
"""Number of standard deviations of an answer's error that the bound allows for."""
STEEPEST = 2
"""Number of levels by which a block may be coarser than its neighbours."""
EACH_BLOCK = (1.5, 1.0)
"""Points per block at which derivatives are taken: at a phase, and half-way to the next one."""
FEWEST = 1_000
"""Minimum number of points."""
CHECKED = 4.0
"""Points per block at which errors are checked in each round."""
ROUNDS = 4
FITTED, FEW = 6, 3_000
"""Number of phases on which the transform is fitted, and points in each for the metric."""
TURNS = 4
RIDGE = 1e-3
FLAT = 1e-9
"""Axes whose variance is below this fraction of the largest are left out."""
MIXTURE = Mixture(axis=0.15, near=0.35 / 6, others=0.5)


@dataclass(frozen=True, eq=False)
class Coded:
    """Compressed features.

    Attributes:
        basis: block features of each axis, one unit long (d, b).
        middle: block features where all numbers are zero (b,).
        numbers: numbers of all phases.
        error: largest difference of an answer that was found in the last check.
    """

    basis: Float[np.ndarray, "d b"]
    middle: Float[np.ndarray, "b"]
    numbers: Predicted
    error: float


def blocks(table: Float[np.ndarray, "h w f"], side: int) -> Float[np.ndarray, "y x b"]:
    """Square blocks of pixels, each row by row."""
    h, w, f = table.shape
    cut = table.reshape(h // side, side, w // side, side, f).transpose(0, 2, 1, 3, 4)
    return cut.reshape(h // side, w // side, side * side * f)


def unblocked(cut: Float[np.ndarray, "y x b"], side: int) -> Float[np.ndarray, "h w f"]:
    """The pixels of `blocks`."""
    y, x, size = cut.shape
    table = cut.reshape(y, x, side, side, size // side**2).transpose(0, 2, 1, 3, 4)
    return table.reshape(y * side, x * side, -1)


class Transform:
    """Blocks of features to numbers on axes and back; fitted to some phases.

    Args:
        portable: provides the features.
    """

    def __init__(self, portable: Portable) -> None:
        self.side = portable.block
        chosen = spread(len(portable.features), FITTED)
        metric = _metric(portable, chosen)
        f = len(metric)
        self.factor = np.linalg.cholesky(metric + np.eye(f) * RIDGE * max(np.trace(metric) / f, 1e-12))
        tables = [x for t in chosen for x in portable.features[t]]
        found = np.concatenate([self._scaled(x).reshape(-1, self.side**2 * f) for x in tables])
        self.middle = found.mean(0)
        variance, axes = np.linalg.eigh(np.cov(found.T))
        self.axes = axes[:, ::-1][:, variance[::-1] > FLAT * variance[-1]]

    def _scaled(self, table: Float[np.ndarray, "h w f"]) -> Float[np.ndarray, "y x b"]:
        return blocks(table.astype(np.float64) @ self.factor, self.side)

    def along(self, table: Float[np.ndarray, "h w f"]) -> Float[np.ndarray, "d y x"]:
        """A slice's blocks on the axes."""
        return ((self._scaled(table) - self.middle) @ self.axes).transpose(2, 0, 1)

    def features(self, along: Float[np.ndarray, "d y x"]) -> Float[np.ndarray, "h w f"]:
        """Features of blocks on the axes."""
        scaled = along.transpose(1, 2, 0) @ self.axes.T + self.middle
        return (unblocked(scaled, self.side) @ np.linalg.inv(self.factor)).astype(np.float32)

    def noise(self) -> Float[np.ndarray, "f f"]:
        """Covariance of a pixel's features where blocks are rounded with a step of one."""
        f, inverse = len(self.factor), np.linalg.inv(self.factor)
        parts = self.axes.reshape(self.side**2, f, -1)
        rounding = (parts @ parts.transpose(0, 2, 1)).mean(0) / 12
        return inverse.T @ rounding @ inverse

    def basis(self) -> tuple[Float[np.ndarray, "d b"], Float[np.ndarray, "b"]]:
        """Block features of each axis and of the middle."""
        inverse = np.kron(np.eye(self.side**2), np.linalg.inv(self.factor))
        return self.axes.T @ inverse, self.middle @ inverse


def _metric(portable: Portable, phases: Sequence[int]) -> Float[np.ndarray, "f f"]:
    """Mean of J'J, where J holds the derivatives of a point's answers by the features of one slice.

    Points are weighted such that noise that is white in the metric changes the answers of all points equally;
    weights and metric are found by turns.
    """
    effect = np.concatenate([portable.effects((t,), FEW, t)[0] for t in phases]).astype(np.float64)
    f = effect.shape[-1]
    metric = np.eye(f)
    for _ in range(TURNS):
        ridge = np.eye(f) * RIDGE * np.trace(metric) / f
        moved = (effect @ np.linalg.inv(np.linalg.cholesky(metric + ridge)).T) ** 2
        size = np.maximum(moved.sum((2, 3)).max(1), 1e-20)
        flat = (effect / np.sqrt(size)[:, None, None, None]).reshape(-1, f)
        metric = flat.T @ flat / len(effect)
    return metric


def rounding_of(portable: Portable, within: float = WITHIN) -> Rounding:
    """Round the features of all phases; answers differ by at most ``within`` where they are checked.

    Args:
        portable: the subject.
        within: the bound.
    """
    rounding = Rounding(portable, Transform(portable))
    rounding.allow(within)
    rounding.mend(within)
    return rounding


class Rounding:
    """The level at which each block is rounded.

    Args:
        portable: the subject.
        transform: transform of its features.
    """

    def __init__(self, portable: Portable, transform: Transform) -> None:
        self.portable, self.transform = portable, transform
        self.shapes = [[x.shape[:2] for x in tables] for tables in portable.features]
        self.finest = self.error = 0.0
        self.levels: list[Levels] = []

    def coded(self) -> Coded:
        """Compress the features as they are rounded."""
        wholes = [self.wholes(t) for t in range(len(self.portable.features))]
        basis, middle = self.transform.basis()
        numbers = predicted(wholes, self.levels, alike(self.portable), MIXTURE)
        scaled = (self.finest / FINEST * basis).astype(np.float32)
        return Coded(scaled, middle.astype(np.float32), numbers, self.error)

    def kept(self, portable: Portable, phases: Sequence[int], within: float = WITHIN) -> Rounding:
        """The rounding of some phases alone: the levels are reused, checked again, and mended.

        Args:
            portable: the subject at these phases.
            phases: their indices among those of this rounding.
            within: the bound.
        """
        own = Rounding(portable, self.transform)
        own.finest, own.levels = self.finest, [self.levels[t] for t in phases]
        own.smooth()
        own.mend(within)
        return own

    def allow(self, within: float) -> None:
        """Choose the levels from the derivatives of the answers."""
        most, noise, squares = (within / DEVIATIONS) ** 2, self.transform.noise(), []
        for t, shapes in enumerate(self.shapes):
            where = block_of(shapes, self.portable.block)
            own = np.full(int(where.max()) + 1, np.inf)
            for time in (time for time in self.portable.times if t in time):
                # Half-way between two phases the error is half of each one's.
                count = FEWEST + int(len(own) * EACH_BLOCK[len(time) - 1] / len(time))
                effect, touched = self.portable.effects(time, count, t)
                own = np.minimum(own, len(time) * allowed(variances(effect, touched, where, noise), most))
            squares.append(own)
        finite = np.concatenate(squares)
        finite = finite[np.isfinite(finite)]
        self.finest = float(np.sqrt(finite.min())) if len(finite) else within
        for own, shapes in zip(squares, self.shapes, strict=True):
            level = A_DOUBLING * np.log2(np.minimum(np.sqrt(own) / self.finest, LOOSEST))
            self.levels.append(self._cut(np.floor(level + 1e-9).astype(np.int64), shapes))
        self.smooth()

    def smooth(self) -> None:
        """Refine coarse blocks beside fine ones, in space and in time.

        A block that affects no sampled answer may affect answers between the sampled points.
        """
        near = [[minimum_filter(level, 3) + STEEPEST for level in own] for own in self.levels]
        for t, was in enumerate(alike(self.portable)):
            if was:
                for k, (before, own) in enumerate(zip(self.levels[t - 1], self.levels[t], strict=True)):
                    near[t][k] = np.minimum(near[t][k], before + STEEPEST)
                    near[t - 1][k] = np.minimum(near[t - 1][k], own + STEEPEST)
        self.levels = [
            [np.minimum(level, most) for level, most in zip(own, limit, strict=True)]
            for own, limit in zip(self.levels, near, strict=True)
        ]

    def _cut(self, flat: Int[np.ndarray, "n"], shapes: Sequence[tuple[int, int]]) -> Levels:
        """Split values of a phase's blocks by slice."""
        sizes = [(h // self.portable.block, w // self.portable.block) for h, w in shapes]
        parts = np.split(flat, np.cumsum([h * w for h, w in sizes])[:-1])
        return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]

    def wholes(self, t: int) -> list[Int[np.ndarray, "d y x"]]:
        """Numbers of a phase, in units of 1 / `FINEST` of the finest step."""
        found = []
        for table, level in zip(self.portable.features[t], self.levels[t], strict=True):
            step = steps(level)
            along = self.transform.along(table) * (FINEST / self.finest)
            found.append((np.rint(along / step) * step).astype(np.int32))
        return found

    def rounded(self, t: int) -> Tables:
        """Features of a phase after rounding."""
        return [self.transform.features(x * (self.finest / FINEST)) for x in self.wholes(t)]

    def mend(self, within: float) -> None:
        """Refine blocks where answers differ by more; ``error`` is the largest one in the last check."""
        worst = 0.0
        for number in range(ROUNDS):
            worst, finer = (
                0.0,
                [np.zeros(len(np.concatenate([x.ravel() for x in own]))) for own in self.levels],
            )
            features = {t: self.rounded(t) for t in range(len(self.shapes))}
            for time in self.portable.times:
                count = FEWEST + int(CHECKED * len(finer[time[0]]) / 2)
                error, touched = self.portable.errors(
                    time, count, 1000 * (number + 1) + time[0], [features[t] for t in time]
                )
                worst = max(worst, float(error.max()))
                bad = np.flatnonzero(error > within)
                for t in time:
                    where = block_of(self.shapes[t], self.portable.block)[touched.pixel[bad]]
                    np.maximum.at(finer[t], where, (error[bad] / within)[:, None, None])
            if worst <= within:
                break
            for t, own in enumerate(finer):
                less = np.where(own > 0, np.ceil(A_DOUBLING * np.log2(np.maximum(own, 1))) + 1, 0)
                cut = self._cut(less.astype(np.int64), self.shapes[t])
                # Nearby answers are probably off as well.
                wide = [maximum_filter(part, 3) for part in cut]
                self.levels[t] = [(a - b).clip(0) for a, b in zip(self.levels[t], wide, strict=True)]
            self.smooth()
        self.error = worst


def alike(portable: Portable) -> list[bool]:
    """Whether each phase has the same slices and crops as the preceding one."""
    crops = portable.settings["crops"]
    shapes = [[x.shape for x in tables] for tables in portable.features]
    return [t > 0 and shapes[t] == shapes[t - 1] and crops[t] == crops[t - 1] for t in range(len(shapes))]


def spread(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` phases, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()
