"""Compress the integers of a cine's slices: predict them from neighbours and entropy-code the residuals.

Each axis of a slice's blocks is predicted from the preceding blocks and the preceding phase. The expected
size of a residual follows from its axis, the residuals of its neighbours, and the residuals of the preceding
axes; it selects the frequency table. All of this uses integers, and doubles whose operations are exact, so
that every browser decodes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from nisf.view.entropy import TOTAL, context, encoded, intervals, symbols, tables

SPATIAL = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours that predict a number, as rows up and columns to the left."""
BEFORE = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""Neighbours in the preceding phase."""
UNIT = 64
"""Weights of neighbours are multiples of 1 / UNIT."""
EVERY = 12
"""Every so many phases, one is coded without the preceding phase."""
FITTED = 6
"""Number of phases on which the weights of neighbours are fitted."""
FINEST, A_DOUBLING = 8, 3
"""The step of a block is ``round(FINEST * 2 ** (level / A_DOUBLING))``."""
RECENT = 0.125
"""Weight of the last axis in the running mean over the preceding axes."""

Levels = Sequence[Int[np.ndarray, "_ _"]]
"""Level of each block of each slice; a higher level is a coarser step."""
Wholes = Sequence[Int[np.ndarray, "_ _ _"]]
"""Numbers of each slice's blocks, axis by axis: multiples of the block's step (`steps`)."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights from which the expected size of a residual is computed.

    Attributes:
        axis: weight of the mean of the axis.
        near: weight of the residuals of neighbours.
        others: weight of the residuals of the preceding axes.
    """

    axis: float
    near: float
    others: float


@dataclass(frozen=True, eq=False)
class Predicted:
    """Compressed numbers of all phases.

    Attributes:
        taps: weights of neighbours by axis, in units of 1 / `UNIT`, without and with a preceding phase.
        means: mean size of the residuals of each axis, likewise.
        table: symbol frequencies, by context.
        level_table: symbol frequencies of the levels; one context without and one with a preceding phase.
        before: whether each phase is predicted from the preceding one.
        streams: bytes of each slice of each phase.
    """

    taps: tuple[Int[np.ndarray, "d _"], Int[np.ndarray, "d _"]]
    means: Float[np.ndarray, "2 d"]
    table: UInt16[np.ndarray, "c s"]
    level_table: UInt16[np.ndarray, "_ s"]
    before: list[bool]
    streams: list[list[UInt8[np.ndarray, "_"]]]


def steps(levels: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Steps of levels, in units of 1 / `FINEST` of the finest step."""
    return np.rint(FINEST * 2.0 ** (levels / A_DOUBLING)).astype(np.int64)


def shifted(table: np.ndarray, up: int, left: int) -> np.ndarray:
    """The table (d, h, w) shifted by some rows and columns; zero where nothing is shifted in."""
    _, h, w = table.shape
    out = np.zeros_like(table)
    rows, columns = slice(max(up, 0), h + min(up, 0)), slice(max(left, 0), w + min(left, 0))
    from_rows, from_columns = slice(max(-up, 0), h + min(-up, 0)), slice(max(-left, 0), w + min(-left, 0))
    out[:, rows, columns] = table[:, from_rows, from_columns]
    return out


def predicted(
    wholes: Sequence[Wholes], levels: Sequence[Levels], alike: Sequence[bool], mix: Mixture
) -> Predicted:
    """Compress the numbers of all phases.

    Args:
        wholes: the numbers of each phase.
        levels: levels of each phase.
        alike: whether the slices of a phase have the same positions as those of the preceding phase.
        mix: weights from which the contexts are computed.
    """
    before = [t % EVERY > 0 and alike[t] for t in range(len(wholes))]
    taps = (_taps(wholes, levels, alike, 0), _taps(wholes, levels, alike, 1))
    rests = [
        [_rest(wholes, levels, t, k, taps[was]) for k in range(len(wholes[t]))]
        for t, was in enumerate(before)
    ]
    means = _means(rests, levels, before)
    slices = [(t, k) for t, own in enumerate(wholes) for k in range(len(own))]
    numbers = [rests[t][k].transpose(1, 2, 0).ravel() for t, k in slices]
    contexts = [
        _contexts(rests[t][k], steps(levels[t][k]), means[int(before[t])], mix).transpose(1, 2, 0).ravel()
        for t, k in slices
    ]
    level_rests = [
        _level_rest(levels[t][k], levels[t - 1][k] if before[t] else None).ravel() for t, k in slices
    ]
    kinds = [np.full(len(own), int(before[t])) for (t, _), own in zip(slices, level_rests, strict=True)]
    table, level_table = _table(numbers, contexts), _table(level_rests, kinds)[:2]
    cut = iter(_streams(numbers, contexts, table, level_rests, kinds, level_table))
    streams = [[next(cut) for _ in own] for own in wholes]
    return Predicted(taps, means, table, level_table, before, streams)


def _table(numbers: list[np.ndarray], contexts: list[np.ndarray]) -> UInt16[np.ndarray, "c s"]:
    """Symbol frequencies over all slices."""
    flat = np.concatenate(contexts)
    return tables(symbols(np.concatenate(numbers), flat), flat)


def _means(
    rests: Sequence[Wholes], levels: Sequence[Levels], before: Sequence[bool]
) -> Float[np.ndarray, "2 d"]:
    """Mean size of the residuals of each axis, for phases without and with a preceding one."""
    out = np.ones((2, len(rests[0][0])))
    for was in (False, True):
        own = [
            np.abs(rest * steps(level)).mean((1, 2))
            for t in np.flatnonzero(np.array(before) == was)
            for rest, level in zip(rests[t], levels[t], strict=True)
        ]
        if own:
            # Rounded as the page reads them.
            out[int(was)] = np.maximum(np.mean(own, axis=0), 1e-2).astype(np.float32)
    return out


def _neighbours(wholes: Sequence[Wholes], t: int, k: int, was: bool) -> list[Int[np.ndarray, "d h w"]]:
    """The neighbours that predict a slice: its own, then those in the preceding phase."""
    own = [shifted(wholes[t][k], *way) for way in SPATIAL]
    return own + [shifted(wholes[t - 1][k], *way) for way in BEFORE] if was else own


def _taps(
    wholes: Sequence[Wholes], levels: Sequence[Levels], alike: Sequence[bool], was: int
) -> Int[np.ndarray, "d n"]:
    """Least-squares weights for each axis; residuals are measured in steps."""
    count, axes = len(SPATIAL) + was * len(BEFORE), len(wholes[0][0])
    square, cross = np.zeros((axes, count, count)), np.zeros((axes, count))
    there = [t for t in range(len(wholes)) if not was or alike[t]]
    for t in there[:: max(1, len(there) // FITTED)]:
        for k, own in enumerate(wholes[t]):
            step = steps(levels[t][k])
            near = np.stack(_neighbours(wholes, t, k, bool(was))) / step
            near = near.reshape(count, axes, -1).transpose(1, 0, 2)
            square += near @ near.transpose(0, 2, 1)
            cross += (near @ (own / step).reshape(axes, -1, 1))[..., 0]
    ridge = np.eye(count) * (1e-6 * np.trace(square, axis1=1, axis2=2)[:, None, None] + 1e-9)
    return np.rint(UNIT * np.linalg.solve(square + ridge, cross[..., None])[..., 0]).astype(np.int64)


def _rest(
    wholes: Sequence[Wholes], levels: Sequence[Levels], t: int, k: int, taps: Int[np.ndarray, "d n"]
) -> Int[np.ndarray, "d h w"]:
    """Residuals of a slice: its numbers less their prediction, in steps of its blocks."""
    step = steps(levels[t][k])
    total = np.zeros(wholes[t][k].shape, dtype=np.int64)
    for near, tap in zip(_neighbours(wholes, t, k, taps.shape[1] > len(SPATIAL)), taps.T, strict=True):
        total += tap[:, None, None] * near
    return (wholes[t][k] // step - np.floor(total / (UNIT * step) + 0.5)).astype(np.int32)


def _contexts(
    rest: Int[np.ndarray, "d h w"], step: Int[np.ndarray, "h w"], means: Float[np.ndarray, "d"], mix: Mixture
) -> Int[np.ndarray, "d h w"]:
    """Context of each residual."""
    size = (np.abs(rest) * step).astype(np.float64)
    near = 2 * (shifted(size, 1, 0) + shifted(size, 0, 1)) + shifted(size, 1, 1) + shifted(size, 1, -1)
    out, others = np.empty(rest.shape, dtype=np.int8), np.ones(step.shape)
    for d, mean in enumerate(means):
        expected = mix.axis * mean + mix.near * near[d] + mix.others * mean * others
        out[d] = context(expected / step)
        others = others + (size[d] / mean - others) * RECENT
    return out


def _level_rest(
    level: Int[np.ndarray, "h w"], earlier: Int[np.ndarray, "h w"] | None
) -> Int[np.ndarray, "h w"]:
    """Residuals of levels, predicted from the mean of above, left, and the preceding phase."""
    near = shifted(level[None], 0, 1)[0] + shifted(level[None], 1, 0)[0]
    return level - (near // 2 if earlier is None else (near + 2 * earlier) // 4)


def _streams(
    numbers: list[np.ndarray],
    contexts: list[np.ndarray],
    table: UInt16[np.ndarray, "c s"],
    levels: list[np.ndarray],
    kinds: list[np.ndarray],
    level_table: UInt16[np.ndarray, "_ s"],
) -> list[UInt8[np.ndarray, "_"]]:
    """Bytes of each slice: its levels, then its numbers."""
    parts = []
    for own, where, level, kind in zip(numbers, contexts, levels, kinds, strict=True):
        pairs = [intervals(level, kind, level_table), intervals(own, where, table)]
        first, width = (np.concatenate([pair[n] for pair in pairs]).ravel() for n in (0, 1))
        says = width < TOTAL
        parts.append((first[says].astype(np.int16), width[says].astype(np.int16)))
    longest = max(len(first) for first, _ in parts)
    first = np.zeros((len(parts), longest), dtype=np.int16)
    width = np.full((len(parts), longest), TOTAL, dtype=np.int16)
    for lane, (own, wide) in enumerate(parts):
        first[lane, : len(own)], width[lane, : len(own)] = own, wide
    return encoded(first, width)
