"""Whole numbers of a cine's slices in few bytes: predicted from neighbours, what is left at its entropy.

Each axis of a slice's blocks is predicted from the blocks before and from the phase before. How large what is
left will be follows from the axis, from what was left of the neighbours, and from what was left of the axes
before; it chooses the table with which it is coded. All this is exact in whole numbers and doubles without
rounding in between, so that every browser finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from nisf.view.entropy import context, encoded, intervals, symbols, tables

SPATIAL = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Neighbours that predict: so many rows up and columns to the left."""
BEFORE = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""Likewise at the phase before."""
UNIT = 64
"""Weights of neighbours are whole numbers of its inverse."""
EVERY = 12
"""Of so many phases one does not need the one before."""
FITTED = 6
"""Phases that weights of neighbours are fitted on."""
FINEST, A_DOUBLING = 8, 3
"""Steps of a block are ``round(FINEST * 2 ** (level / A_DOUBLING))``."""
RECENT = 0.125
"""How much the last axis counts in the mean over those before."""

Levels = Sequence[Int[np.ndarray, "_ _"]]
"""How coarse the steps of each slice's blocks are."""
Wholes = Sequence[Int[np.ndarray, "_ _ _"]]
"""Numbers of each slice's blocks in units of the finest step, axis by axis; multiples of the block's."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """What says how large the rest of a number will be.

    Attributes:
        axis: share of the mean of the axis.
        near: of what was left of neighbours.
        others: of what was left of the axes before.
    """

    axis: float
    near: float
    others: float


@dataclass(frozen=True, eq=False)
class Predicted:
    """Numbers of all phases in few bytes.

    Attributes:
        taps: weights of the neighbours of each axis, in `UNIT`ths, without and with a phase before.
        means: what is left of each axis on average, likewise.
        table: of frequencies, by context.
        level_table: likewise, for the levels; one context without and one with a phase before.
        before: whether each phase is predicted from the one before.
        streams: bytes of each slice of each phase.
    """

    taps: tuple[Int[np.ndarray, "d _"], Int[np.ndarray, "d _"]]
    means: Float[np.ndarray, "2 d"]
    table: UInt16[np.ndarray, "c s"]
    level_table: UInt16[np.ndarray, "_ s"]
    before: list[bool]
    streams: list[list[UInt8[np.ndarray, "_"]]]


def steps(levels: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Steps of levels, in units of the finest over `FINEST`."""
    return np.rint(FINEST * 2.0 ** (levels / A_DOUBLING)).astype(np.int64)


def shifted(table: np.ndarray, up: int, left: int) -> np.ndarray:
    """What lies so many rows up and columns to the left (d, h, w); zero where nothing does."""
    _, h, w = table.shape
    out = np.zeros_like(table)
    rows, columns = slice(max(up, 0), h + min(up, 0)), slice(max(left, 0), w + min(left, 0))
    from_rows, from_columns = slice(max(-up, 0), h + min(-up, 0)), slice(max(-left, 0), w + min(-left, 0))
    out[:, rows, columns] = table[:, from_rows, from_columns]
    return out


def predicted(
    wholes: Sequence[Wholes], levels: Sequence[Levels], alike: Sequence[bool], mix: Mixture
) -> Predicted:
    """Numbers of all phases in few bytes.

    Args:
        wholes: of each phase.
        levels: of each phase.
        alike: whether a phase's slices lie where those of the phase before it lie.
        mix: what the contexts follow from.
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
    """Frequencies of all slices' symbols."""
    flat = np.concatenate(contexts)
    return tables(symbols(np.concatenate(numbers), flat), flat)


def _means(
    rests: Sequence[Wholes], levels: Sequence[Levels], before: Sequence[bool]
) -> Float[np.ndarray, "2 d"]:
    """Mean size of what is left of each axis, at phases without and with one before."""
    out = np.ones((2, len(rests[0][0])))
    for was in (False, True):
        own = [
            np.abs(rest * steps(level)).mean((1, 2))
            for t in np.flatnonzero(np.array(before) == was)
            for rest, level in zip(rests[t], levels[t], strict=True)
        ]
        if own:
            # As the page reads them.
            out[int(was)] = np.maximum(np.mean(own, axis=0), 1e-2).astype(np.float32)
    return out


def _neighbours(wholes: Sequence[Wholes], t: int, k: int, was: bool) -> list[Int[np.ndarray, "d h w"]]:
    """Neighbours that predict a slice: its own, then those of the phase before."""
    own = [shifted(wholes[t][k], *way) for way in SPATIAL]
    return own + [shifted(wholes[t - 1][k], *way) for way in BEFORE] if was else own


def _taps(
    wholes: Sequence[Wholes], levels: Sequence[Levels], alike: Sequence[bool], was: int
) -> Int[np.ndarray, "d n"]:
    """Weights with the least squares of what is left, in steps, for each axis."""
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
    """What is left of a slice's numbers, in its blocks' steps, when what neighbours predict is taken off."""
    step = steps(levels[t][k])
    total = np.zeros(wholes[t][k].shape, dtype=np.int64)
    for near, tap in zip(_neighbours(wholes, t, k, taps.shape[1] > len(SPATIAL)), taps.T, strict=True):
        total += tap[:, None, None] * near
    return (wholes[t][k] // step - np.floor(total / (UNIT * step) + 0.5)).astype(np.int32)


def _contexts(
    rest: Int[np.ndarray, "d h w"], step: Int[np.ndarray, "h w"], means: Float[np.ndarray, "d"], mix: Mixture
) -> Int[np.ndarray, "d h w"]:
    """Context of each number that is left."""
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
    """What is left of levels: half of what lies above and to the left, and half of the phase before."""
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
        says = width < (1 << 12)
        parts.append((first[says].astype(np.int16), width[says].astype(np.int16)))
    longest = max(len(first) for first, _ in parts)
    first = np.zeros((len(parts), longest), dtype=np.int16)
    width = np.full((len(parts), longest), 1 << 12, dtype=np.int16)
    for lane, (own, wide) in enumerate(parts):
        first[lane, : len(own)], width[lane, : len(own)] = own, wide
    return encoded(first, width)
