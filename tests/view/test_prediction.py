"""Whole numbers in few bytes: a plain decoder, as the page has it, finds them again."""

from functools import partial

import numpy as np
import pytest

from nisf.view.entropy import (
    BITS,
    ESCAPE,
    HALF,
    SIDE_BY_SIDE,
    TOTAL,
    WIDE,
    context,
    encoded,
    intervals,
    low_bits,
    symbols,
    tables,
)
from nisf.view.prediction import BEFORE, RECENT, SPATIAL, UNIT, Mixture, predicted, steps

MIX = Mixture(0.15, 0.06, 0.5)


class Stream:
    """One lane, number by number."""

    def __init__(self, data, found):
        self.words, self.found = data.view("<u2").astype(int), found
        self.state, self.at = int(self.words[0] | self.words[1] << 16), 2

    def step(self, first, width):
        self.state = width * (self.state >> BITS) + self.state % TOTAL - first
        if self.state < 1 << 16:
            self.state = self.state << 16 | int(self.words[self.at])
            self.at += 1

    def plain(self, bits):
        value = self.state % TOTAL >> (BITS - bits)
        self.step(value << (BITS - bits), TOTAL >> bits)
        return value

    def number(self, where, found=None):
        width = (self.found if found is None else found)[where].astype(int)
        starts = np.cumsum(width) - width
        symbol = int(np.flatnonzero((starts <= self.state % TOTAL) & (width > 0))[-1])
        self.step(int(starts[symbol]), int(width[symbol]))
        if symbol == ESCAPE:
            high = self.plain(BITS)
            return high * TOTAL + self.plain(BITS) - (1 << (WIDE - 1))
        low = int(low_bits(np.array([where]))[0])
        return ((symbol - HALF) << low) + (self.plain(low) if low else 0)

    def ended(self):
        return self.state == 1 << 16 and self.at == len(self.words)


@pytest.mark.parametrize("lanes", [2, 60])
def test_numbers_of_every_size_come_back(lanes):
    """Lane by lane, and many side by side."""
    assert (lanes < SIDE_BY_SIDE) == (lanes == 2)
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(-3, 14, 6000))
    numbers = np.clip(np.rint(rng.laplace(size=6000) * size), -(2**23), 2**23 - 1).astype(np.int64)
    contexts = context(size)
    found = tables(symbols(numbers, contexts), contexts)
    assert set(found.sum(1, dtype=int)) <= {0, TOTAL}
    first, width = intervals(numbers, contexts, found)
    data = encoded(first.reshape(lanes, -1), width.reshape(lanes, -1))
    for lane, part in zip(data, np.split(np.arange(6000), lanes), strict=True):
        stream = Stream(lane, found)
        assert [stream.number(c) for c in contexts[part]] == numbers[part].tolist()
        assert stream.ended()


def test_bytes_are_near_the_entropy():
    rng = np.random.default_rng(1)
    numbers, contexts = rng.integers(-8, 8, 20_000), np.full(20_000, 20)
    found = tables(symbols(numbers, contexts), contexts)
    first, width = intervals(numbers, contexts, found)
    (data,) = encoded(first.reshape(1, -1), width.reshape(1, -1))
    assert len(data) == pytest.approx(20_000 * 4 / 8, rel=0.01)


def neighbour(table, up, left, d, i, j):
    """What lies so many rows up and columns to the left; zero where nothing does."""
    _, h, w = table.shape
    return table[d, i - up, j - left] if 0 <= i - up < h and 0 <= j - left < w else 0


def decoded(found, shapes, axes):
    """All phases, plainly, as the page does it."""
    out, out_levels = [], []
    for t, streams in enumerate(found.streams):
        was, numbers, levels = int(found.before[t]), [], []
        for k, (h, w) in enumerate(shapes):
            stream = Stream(streams[k], found.table)
            level, whole, rest = np.zeros((h, w), int), np.zeros((axes, h, w), int), np.zeros((axes, h, w))
            for i, j in np.ndindex(h, w):
                near = (level[i, j - 1] if j else 0) + (level[i - 1, j] if i else 0)
                guess = (near + 2 * out_levels[t - 1][k][i, j]) // 4 if was else near // 2
                level[i, j] = guess + stream.number(was, found.level_table)
            for i, j in np.ndindex(h, w):
                step, others = int(steps(level[i : i + 1, j])[0]), 1.0
                ways = [(whole, way) for way in SPATIAL]
                ways += [(out[t - 1][k], way) for way in BEFORE] if was else []
                for d in range(axes):
                    at = partial(neighbour, d=d, i=i, j=j)
                    pairs = zip(found.taps[was][d], ways, strict=True)
                    total = sum(int(tap) * int(at(table, *way)) for tap, (table, way) in pairs)
                    near = 2 * (at(rest, 0, 1) + at(rest, 1, 0)) + at(rest, 1, 1) + at(rest, 1, -1)
                    mean = found.means[was, d]
                    expected = MIX.axis * mean + MIX.near * near + MIX.others * mean * others
                    number = stream.number(int(context(np.full(1, expected / step))[0]))
                    whole[d, i, j] = (number + int(np.floor(total / (UNIT * step) + 0.5))) * step
                    rest[d, i, j] = abs(number) * step
                    others += (rest[d, i, j] / mean - others) * RECENT
            assert stream.ended()
            numbers.append(whole)
            levels.append(level)
        out.append(numbers)
        out_levels.append(levels)
    return out, out_levels


def test_numbers_and_levels_of_all_phases_come_back():
    rng = np.random.default_rng(2)
    shapes, axes, phases = [(5, 7), (4, 6)], 3, 3
    levels = [[rng.integers(0, 6, shape) for shape in shapes] for _ in range(phases)]
    wholes = [
        [
            (rng.normal(size=(axes, *shape)) * [[[900]], [[30]], [[2]]]).round().astype(np.int32)
            * steps(level).astype(np.int32)
            for shape, level in zip(shapes, own, strict=True)
        ]
        for own in levels
    ]
    found = predicted(wholes, levels, [False, True, False], MIX)
    assert found.before == [False, True, False]
    again, again_levels = decoded(found, shapes, axes)
    for t in range(phases):
        for k in range(2):
            np.testing.assert_array_equal(again[t][k], wholes[t][k])
            np.testing.assert_array_equal(again_levels[t][k], levels[t][k])


def test_a_still_cine_takes_next_to_nothing_after_its_first_phase():
    image = np.cumsum(np.random.default_rng(3).integers(-9, 10, (1, 24, 24)), axis=2).astype(np.int32) * 8
    levels = [[np.zeros((24, 24), dtype=np.int64)]] * 4
    found = predicted([[image]] * 4, levels, [False, True, True, True], MIX)
    sizes = [len(streams[0]) for streams in found.streams]
    assert max(sizes[1:]) < 0.2 * sizes[0]
