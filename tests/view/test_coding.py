"""Features in few bytes: whole numbers come back to the bit, and answers stay within the bound."""

import numpy as np
import pytest

from nisf.subject.portable import Portable
from nisf.view.coding import BEFORE, SPATIAL, UNIT, Transform, blocks, coded, unblocked

MIX = np.random.default_rng(5).normal(size=(4, 16))
"""Blocks of 2 x 2 pixels with 4 features fill 4 of 16 directions, as after a pixel shuffle."""


def smooth(rng, t, h=12, w=20):
    """Features of a slice that change little from block to block and from phase to phase."""
    y, x = np.mgrid[: h // 2, : w // 2]
    phase = np.arange(4) + 0.1 * t
    hidden = np.sin(0.3 * y[..., None] + phase) + np.cos(0.2 * x[..., None] - phase)
    return unblocked(hidden @ MIX + 0.01 * rng.normal(size=(h // 2, w // 2, 4)) @ MIX, 2).astype(np.float32)


@pytest.fixture(scope="module")
def portable():
    rng = np.random.default_rng(0)
    features = tuple((smooth(rng, t), smooth(rng, t + 5, 8)) for t in range(13))
    weight = rng.normal(size=(4, 3)) * [1.0, 0.1, 0.1]

    def error(t, changed):
        return max(float(np.abs((a - b) @ weight).max()) for a, b in zip(changed, features[t], strict=True))

    return Portable({"crops": [[[0, 0], [0, 2]]] * 13}, {}, features, 2, weight @ weight.T, error)


def unpacked(phase, taps, earlier, sizes):
    """As the page does it, plainly."""
    total, planes, at = sum(h * w for h, w in sizes), [], 0
    for count in phase.counts:
        planes.append(phase.codes[at : at + count * total].reshape(count, total))
        at += count * total
    out = []
    for d in range(phase.counts[0]):
        own = [plane[d].astype(np.int64) for plane in planes if d < len(plane)]
        value = sum(x << (8 * k) for k, x in enumerate(own))
        out.append(np.where(value >= 1 << (8 * len(own) - 1), value - (1 << (8 * len(own))), value))
    cut = np.cumsum([h * w for h, w in sizes])[:-1]
    slices = [
        x.reshape(-1, h, w) for x, (h, w) in zip(np.split(np.array(out), cut, axis=1), sizes, strict=True)
    ]
    for k, (h, w) in enumerate(sizes):
        for d, i, j in np.ndindex(len(out), h, w):
            ways = [(slices[k], way) for way in SPATIAL]
            ways += [(earlier[b][k], way) for b in range(phase.before) for way in BEFORE[b]]
            total = 0
            for tap, (table, (up, left)) in zip(taps[d], ways, strict=True):
                if 0 <= i - up < h and 0 <= j - left < w:
                    total += int(tap) * int(table[d, i - up, j - left])
            slices[k][d, i, j] += (total + UNIT // 2) // UNIT
    return slices


def test_numbers_come_back_and_answers_are_within_the_bound(portable):
    found = coded(portable, within=1e-2)
    assert 0.5e-2 < found.error <= 1e-2
    assert len(found.basis) == 4  # as many as there are directions
    assert [phase.before for phase in found.phases] == [0, 1, *[2] * 10, 0]
    sizes, known = [(6, 10), (4, 10)], []
    for t, phase in enumerate(found.phases):
        known.append(unpacked(phase, found.taps[phase.before], known[::-1], sizes))
        tables = [
            unblocked(np.tensordot(codes, found.basis, ([0], [0])) + found.middle, 2) for codes in known[-1]
        ]
        assert portable.error(t, tables) < 1.05e-2


def test_neighbours_save_bytes(portable):
    found = coded(portable, within=1e-2)
    first, second = (np.abs(found.phases[t].codes.astype(np.int8).astype(int)).mean() for t in (0, 1))
    assert second < 0.95 * first


def test_blocks_and_the_transform_go_back(portable):
    table = portable.features[3][0]
    np.testing.assert_array_equal(unblocked(blocks(table, 2), 2), table)
    np.testing.assert_array_equal(blocks(table, 2)[1, 2], table[2:4, 4:6].reshape(-1))
    transform = Transform(portable)
    np.testing.assert_allclose(transform.features(transform.numbers(table, 1e-6), 1e-6), table, atol=1e-3)
