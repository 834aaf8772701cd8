"""Transform coding: compress the features of all phases such that the error of the answers stays bounded.

Neighbouring pixels of the encoder's features are similar, and most directions of a block of them hardly
affect an answer. Blocks of pixels are therefore transformed to axes along which answers change equally in all
directions on average (Cholesky factor of the metric), then to their principal axes (Karhunen-Loève
transform), and quantised with one common step. The resulting integers are predicted, for each axis, from
neighbours and from the preceding phases, and the residuals are deflated. The step is as large as the bound
allows, with errors measured on the answers themselves. Axes that are zero everywhere are left out: an encoder
that ends with a pixel shuffle uses only some axes of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from nisf.subject.portable import Portable

WITHIN = 0.9e-3
"""Maximum difference of an answer at the points where it is measured."""
SPATIAL = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours used for prediction: offsets in rows up and columns to the left."""
BEFORE = (((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)), ((0, 0),))
"""Likewise at the preceding phase, and at the one before that."""
UNIT = 64
"""Weights of neighbours are integer multiples of 1 / UNIT, so that all machines predict exactly the same."""
EVERY = 12
"""One phase in this many is coded without the preceding ones."""
FITTED, MEASURED = 6, 4
"""Number of phases that the transform is fitted to, and at which errors are measured."""
RIDGE = 1e-3

Codes = list[Int[np.ndarray, "_ _ _"]]
"""Integers of each slice's blocks, axis by axis."""


@dataclass(frozen=True, eq=False)
class Phase:
    """One phase as bytes.

    Attributes:
        codes: lowest bytes of the residuals of all axes and slices, then further bytes of the first axes.
        counts: number of axes with at least one, two, ... bytes.
        before: number of preceding phases used for prediction.
    """

    codes: UInt8[np.ndarray, "n"]
    counts: list[int]
    before: int


@dataclass(frozen=True, eq=False)
class Coded:
    """Compressed features.

    Attributes:
        basis: block features of each axis, one step long (d, b).
        middle: block features where all integers are zero (b,).
        taps: weights of the neighbours of each axis, in units of 1 / `UNIT`, for 0, 1 and 2 preceding phases.
        phases: in order.
        error: largest measured difference of an answer.
    """

    basis: Float[np.ndarray, "d b"]
    middle: Float[np.ndarray, "b"]
    taps: tuple[Int[np.ndarray, "d _"], ...]
    phases: list[Phase]
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
    """Transforms blocks of features to integers and back; fitted to some phases.

    Args:
        portable: provides the features.
    """

    def __init__(self, portable: Portable) -> None:
        self.side = portable.block
        f = len(portable.metric)
        metric = portable.metric + np.eye(f) * RIDGE * max(np.trace(portable.metric) / f, 1e-12)
        self.factor = np.linalg.cholesky(metric)
        tables = [x for t in _spread(len(portable.features), FITTED) for x in portable.features[t]]
        found = np.concatenate([self._scaled(x).reshape(-1, self.side**2 * f) for x in tables])
        self.middle = found.mean(0)
        self.axes = np.linalg.eigh(np.cov(found.T))[1][:, ::-1]

    def _scaled(self, table: Float[np.ndarray, "h w f"]) -> Float[np.ndarray, "y x b"]:
        return blocks(table.astype(np.float64) @ self.factor, self.side)

    def numbers(self, table: Float[np.ndarray, "h w f"], step: float) -> Int[np.ndarray, "b y x"]:
        """Integers of a slice, axis by axis."""
        along = (self._scaled(table) - self.middle) @ self.axes
        return np.rint(along / step).astype(np.int64).transpose(2, 0, 1)

    def rounded(self, table: Float[np.ndarray, "h w f"], step: float) -> Float[np.ndarray, "h w f"]:
        """Features after quantisation."""
        return self.features(self.numbers(table, step), step)

    def features(self, numbers: Int[np.ndarray, "b y x"], step: float) -> Float[np.ndarray, "h w f"]:
        """Features from integers."""
        scaled = numbers.transpose(1, 2, 0) * step @ self.axes.T + self.middle
        return unblocked(scaled, self.side) @ np.linalg.inv(self.factor)

    def basis(self, step: float) -> tuple[Float[np.ndarray, "b b"], Float[np.ndarray, "b"]]:
        """Block features of each axis, one step long, and of the middle."""
        inverse = np.kron(np.eye(self.side**2), np.linalg.inv(self.factor))
        return step * self.axes.T @ inverse, self.middle @ inverse


def coded(portable: Portable, within: float = WITHIN) -> Coded:
    """Compress the features of all phases; measured answers differ by no more than ``within``.

    Args:
        portable: the subject.
        within: the bound.
    """
    transform = Transform(portable)
    step, error = _step(portable, transform, within)
    numbers = [[transform.numbers(table, step) for table in tables] for tables in portable.features]
    used = np.any([np.abs(x).max((1, 2)) > 0 for codes in numbers for x in codes], axis=0)
    kept = [[x[used] for x in codes] for codes in numbers]
    before = [_before(portable, t, kept) for t in range(len(kept))]
    taps = tuple(_taps(kept, count) for count in range(len(BEFORE) + 1))
    phases = [_phase(left(kept, t, taps[n]), n) for t, n in enumerate(before)]
    basis, middle = transform.basis(step)
    return Coded(basis[used].astype(np.float32), middle.astype(np.float32), taps, phases, error)


def _step(portable: Portable, transform: Transform, within: float) -> tuple[float, float]:
    """The quantisation step, and the largest error measured with it."""
    phases = _spread(len(portable.features), MEASURED)

    def error(step: float) -> float:
        return max(
            portable.error(t, [transform.rounded(table, step) for table in portable.features[t]])
            for t in phases
        )

    step = within / 8
    for _ in range(4):
        found = error(step)
        if 0.85 * within <= found <= within:
            return step, found
        # Errors grow with the step.
        step *= 0.95 * within / max(found, 1e-2 * within)
    while (found := error(step)) > within:
        step *= 0.9 * within / found
    return step, found


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` phases, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _before(portable: Portable, t: int, numbers: Sequence[Codes]) -> int:
    """How many preceding phases with the same slices and crops can predict a phase."""
    crops, count = portable.settings["crops"], 0
    assert isinstance(crops, list)
    for back in range(1, min(t % EVERY, len(BEFORE)) + 1):
        shapes = [x.shape for x in numbers[t]] == [x.shape for x in numbers[t - back]]
        if crops[t] != crops[t - back] or not shapes:
            break
        count = back
    return count


def shifted(codes: Int[np.ndarray, "d h w"], up: int, left: int) -> Int[np.ndarray, "d h w"]:
    """Values shifted by rows up and columns to the left; zero outside."""
    _, h, w = codes.shape
    out = np.zeros_like(codes)
    rows, columns = slice(max(up, 0), h + min(up, 0)), slice(max(left, 0), w + min(left, 0))
    from_rows, from_columns = slice(max(-up, 0), h + min(-up, 0)), slice(max(-left, 0), w + min(-left, 0))
    out[:, rows, columns] = codes[:, from_rows, from_columns]
    return out


def _neighbours(numbers: Sequence[Codes], t: int, slice_: int, before: int) -> Int[np.ndarray, "t d h w"]:
    """Neighbours that predict a slice: its own, then those at the preceding phases."""
    own = [shifted(numbers[t][slice_], *way) for way in SPATIAL]
    for back in range(before):
        own += [shifted(numbers[t - 1 - back][slice_], *way) for way in BEFORE[back]]
    return np.stack(own)


def _count(before: int) -> int:
    """Number of neighbours for this many preceding phases."""
    return len(SPATIAL) + sum(map(len, BEFORE[:before]))


def _taps(numbers: Sequence[Codes], before: int) -> Int[np.ndarray, "d t"]:
    """Least-squares weights of the prediction, for each axis."""
    count, axes = _count(before), len(numbers[0][0])
    square, cross = np.zeros((axes, count, count)), np.zeros((axes, count))
    chosen = range(before, len(numbers), max(1, len(numbers) // FITTED))
    for t in chosen:
        for k, own in enumerate(numbers[t]):
            if any(
                k >= len(numbers[t - b]) or numbers[t - b][k].shape != own.shape for b in range(before + 1)
            ):
                continue
            near = (
                _neighbours(numbers, t, k, before)
                .reshape(count, axes, -1)
                .transpose(1, 0, 2)
                .astype(np.float64)
            )
            square += near @ near.transpose(0, 2, 1)
            cross += (near @ own.reshape(axes, -1, 1))[..., 0]
    ridge = np.eye(count) * (1e-6 * np.trace(square, axis1=1, axis2=2)[:, None, None] + 1e-9)
    return np.rint(UNIT * np.linalg.solve(square + ridge, cross[..., None])[..., 0]).astype(np.int64)


def left(numbers: Sequence[Codes], t: int, taps: Int[np.ndarray, "d t"]) -> Codes:
    """Residuals of a phase's integers after prediction from neighbours."""
    before = next(
        n for n in range(len(BEFORE) + 1) if len(SPATIAL) + sum(map(len, BEFORE[:n])) == taps.shape[1]
    )
    out = []
    for k, own in enumerate(numbers[t]):
        near = _neighbours(numbers, t, k, before)
        out.append(own - ((np.einsum("dt,tdhw->dhw", taps, near) + UNIT // 2) // UNIT))
    return out


def _phase(codes: Codes, before: int) -> Phase:
    """Integers as bytes, the lowest byte of all axes first."""
    flat = np.concatenate([x.reshape(len(x), -1) for x in codes], axis=1)
    reach = np.maximum(flat.max(1), -1 - flat.min(1))
    counts, planes = [len(flat)], [flat.astype(np.uint8)]
    while (wide := np.flatnonzero(reach >= 1 << (8 * len(counts) - 1))).size:
        first = int(wide.max()) + 1
        planes.append((flat[:first] >> (8 * len(counts))).astype(np.uint8))
        counts.append(first)
    return Phase(np.concatenate([plane.ravel() for plane in planes]), counts, before)
