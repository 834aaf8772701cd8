"""Entropy coder for integers: a range coder with asymmetric numeral systems and frequency tables.

Duda, "Asymmetric numeral systems", arXiv 1311.2540 (the range variant, 32 bits of state, words of 16 bits).
Each lane is an independent stream. Many lanes are encoded side by side; the page decodes them one by one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

BITS = 12
"""The frequencies of a table add up to 2 to this power."""
TOTAL = 1 << BITS
LEAST = 1 << 16
"""Smallest state; a word of 16 bits is written before the state would exceed 2**32."""
SIDE_BY_SIDE = 48
"""From so many lanes on, arrays over all lanes are faster than Python's integers."""
HALF = 127
ESCAPE = 2 * HALF + 1
"""Symbols 0 to 2 * HALF are the numbers from -HALF to HALF; this one announces a number of `WIDE` bits."""
WIDE = 24
SHARP = 7
"""Bits of a number that are coded as a symbol; lower bits of larger numbers are stored uncompressed."""


def context(expected: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Context of a number with this expected magnitude: four contexts for each power of two."""
    x = np.minimum(np.floor(16 * expected), 2.0**20) + 4
    power = np.frexp(x)[1] - 1
    return ((power - 2) * 4 + (x.astype(np.int64) >> (power - 2)) % 4).astype(np.int64)


CONTEXTS = int(context(np.full(1, 1e9))[0]) + 1


def low_bits(contexts: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Number of low bits that are stored uncompressed in each context."""
    return np.clip(contexts.astype(np.int64) // 4 + 2 - SHARP, 0, BITS)


def symbols(numbers: Int[np.ndarray, "*n"], contexts: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """The symbol of each number in its context."""
    high = numbers >> low_bits(contexts)
    return np.where(np.abs(high) <= HALF, high + HALF, ESCAPE)


def tables(symbol: Int[np.ndarray, "n"], contexts: Int[np.ndarray, "n"]) -> UInt16[np.ndarray, "c s"]:
    """Symbol frequencies in each context; a symbol that occurs has a frequency of at least 1 of `TOTAL`."""
    counts = np.bincount(contexts.astype(np.int64) * (ESCAPE + 1) + symbol, minlength=CONTEXTS * (ESCAPE + 1))
    out = np.zeros((CONTEXTS, ESCAPE + 1), dtype=np.uint16)
    for own, count in zip(out, counts.reshape(CONTEXTS, -1), strict=True):
        if not (total := count.sum()):
            continue
        share = np.where(count > 0, np.maximum(1, count * (TOTAL / total)), 0).astype(np.int64)
        # Excess from rounding is taken from frequent symbols; a remainder goes to the most frequent one.
        while (over := int(share.sum()) - TOTAL) > 0:
            most = int(share.argmax())
            share[most] -= min(over, max(1, int(share[most]) // 2))
        share[share.argmax()] += TOTAL - share.sum()
        own[:] = np.minimum(share, TOTAL)
    return out


def intervals(
    numbers: Int[np.ndarray, "n"], contexts: Int[np.ndarray, "n"], found: UInt16[np.ndarray, "c s"]
) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "n 3"]]:
    """Start and width of the interval of each part of a number, in decoding order: symbol, then bits.

    A width of `TOTAL` carries no information.

    Raises:
        OverflowError: a number does not fit into `WIDE` bits.
    """
    symbol, low = symbols(numbers, contexts), low_bits(contexts)
    first = np.zeros((len(numbers), 3), dtype=np.int64)
    width = np.full((len(numbers), 3), TOTAL, dtype=np.int64)
    starts = np.cumsum(found, axis=1, dtype=np.int64) - found
    first[:, 0], width[:, 0] = starts[contexts, symbol], found[contexts, symbol]
    plain = (symbol != ESCAPE) & (low > 0)
    width[plain, 1] = TOTAL >> low[plain]
    first[plain, 1] = (numbers[plain] & ((1 << low[plain]) - 1)) * width[plain, 1]
    wide = symbol == ESCAPE
    if (np.abs(numbers[wide]) >= 1 << (WIDE - 1)).any():
        raise OverflowError(f"a number of more than {WIDE} bits cannot be coded")
    width[wide, 1:] = 1
    whole = numbers[wide] + (1 << (WIDE - 1))
    first[wide, 1], first[wide, 2] = whole >> BITS, whole & (TOTAL - 1)
    return first, width


def encoded(first: Int[np.ndarray, "l n"], width: Int[np.ndarray, "l n"]) -> list[UInt8[np.ndarray, "_"]]:
    """Bytes of each lane: its final state, then the words in decoding order, little-endian."""
    if len(first) < SIDE_BY_SIDE:
        return [_lane(*lane) for lane in zip(first, width, strict=True)]
    return _lanes(first, width)


def _lane(first: Int[np.ndarray, "n"], width: Int[np.ndarray, "n"]) -> UInt8[np.ndarray, "_"]:
    """Bytes of one lane."""
    state, words = LEAST, []
    for start, own in zip(first[::-1].tolist(), width[::-1].tolist(), strict=True):
        if state >= own << (32 - BITS):
            words.append(state & 0xFFFF)
            state >>= 16
        state += state // own * (TOTAL - own) + start
    words += [state >> 16, state & 0xFFFF]
    return np.array(words[::-1], dtype="<u2").view(np.uint8)


def _lanes(first: Int[np.ndarray, "l n"], width: Int[np.ndarray, "l n"]) -> list[UInt8[np.ndarray, "_"]]:
    """Bytes of many lanes, one interval of all of them at a time."""
    lanes, count = first.shape
    state = np.full(lanes, LEAST, dtype=np.int64)
    words = np.zeros((lanes, count + 2), dtype="<u2")
    used = np.zeros(lanes, dtype=np.int64)
    for n in range(count - 1, -1, -1):
        own, start = width[:, n].astype(np.int64), first[:, n]
        out = np.flatnonzero(state >= own << (32 - BITS))
        words[out, used[out]] = state[out] & 0xFFFF
        used[out] += 1
        state[out] >>= 16
        whole = state // own
        state += whole * (TOTAL - own) + start
    packed = []
    for lane in range(lanes):
        tail = np.array([state[lane] & 0xFFFF, state[lane] >> 16], dtype="<u2")
        packed.append(np.concatenate([tail, words[lane, : used[lane]][::-1]]).view(np.uint8))
    return packed
