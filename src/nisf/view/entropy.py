"""Whole numbers to bytes and back at the entropy of tables: a range coder with asymmetric numeral systems.

Duda, "Asymmetric numeral systems", arXiv 1311.2540 (the range variant, 32 bits of state, words of 16 bits).
Every lane is a stream of its own, so that all of them are encoded at once; the page decodes them one by one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

BITS = 12
"""Frequencies of a table add up to 2 to this power."""
TOTAL = 1 << BITS
LEAST = 1 << 16
"""Smallest state; a word of 16 bits goes out before it would pass 2**32."""
HALF = 127
ESCAPE = 2 * HALF + 1
"""Symbols are numbers from -HALF to HALF, plus HALF; a larger number is this, and `WIDE` bits."""
WIDE = 24
SHARP = 7
"""Numbers that are expected to be large have low bits that are stored as they are."""


def context(expected: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """Context of a number whose magnitude is expected to be so large: four for each power of two."""
    x = np.minimum(np.floor(16 * expected), 2.0**20) + 4
    power = np.frexp(x)[1] - 1
    return ((power - 2) * 4 + (x.astype(np.int64) >> (power - 2)) % 4).astype(np.int64)


CONTEXTS = int(context(np.full(1, 1e9))[0]) + 1


def low_bits(contexts: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """How many low bits of a number of a context are stored as they are."""
    return np.clip(contexts.astype(np.int64) // 4 + 2 - SHARP, 0, BITS)


def symbols(numbers: Int[np.ndarray, "*n"], contexts: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """The symbol of each number in its context."""
    high = numbers >> low_bits(contexts)
    return np.where(np.abs(high) <= HALF, high + HALF, ESCAPE)


def tables(symbol: Int[np.ndarray, "n"], contexts: Int[np.ndarray, "n"]) -> UInt16[np.ndarray, "c s"]:
    """Frequencies of symbols in each context; what occurs has at least one of `TOTAL`."""
    counts = np.bincount(contexts.astype(np.int64) * (ESCAPE + 1) + symbol, minlength=CONTEXTS * (ESCAPE + 1))
    out = np.zeros((CONTEXTS, ESCAPE + 1), dtype=np.uint16)
    for own, count in zip(out, counts.reshape(CONTEXTS, -1), strict=True):
        if not (total := count.sum()):
            continue
        share = np.where(count > 0, np.maximum(1, count * (TOTAL / total)), 0).astype(np.int64)
        # What rounding leaves goes to the most frequent symbol, and is taken from the larger ones.
        while (over := int(share.sum()) - TOTAL) > 0:
            most = int(share.argmax())
            share[most] -= min(over, max(1, int(share[most]) // 2))
        share[share.argmax()] += TOTAL - share.sum()
        own[:] = np.minimum(share, TOTAL)
    return out


def intervals(
    numbers: Int[np.ndarray, "n"], contexts: Int[np.ndarray, "n"], found: UInt16[np.ndarray, "c s"]
) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "n 3"]]:
    """First value and width of what each number is, in the order of decoding: its symbol, then plain bits.

    A width of `TOTAL` says nothing.
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
    width[wide, 1:] = 1
    whole = numbers[wide] + (1 << (WIDE - 1))
    first[wide, 1], first[wide, 2] = whole >> BITS, whole & (TOTAL - 1)
    return first, width


def encoded(first: Int[np.ndarray, "l n"], width: Int[np.ndarray, "l n"]) -> list[UInt8[np.ndarray, "_"]]:
    """Bytes of each lane: its last state, then words in the order of decoding, little-endian."""
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
