"""Features in few bytes: whole numbers come back to the bit, and answers stay within the bound."""

import numpy as np
import pytest

from nisf.subject.portable import Portable, Touched
from nisf.view.coding import Rounding, Transform, blocks, rounding_of, unblocked

MIX = np.random.default_rng(5).normal(size=(4, 16))
"""Blocks of 2 x 2 pixels with 4 features fill 4 of 16 directions, as after a pixel shuffle."""
SHAPES = ((12, 20), (8, 20))


def smooth(rng, t, h=12, w=20):
    """Features of a slice that change little from block to block and from phase to phase."""
    y, x = np.mgrid[: h // 2, : w // 2]
    phase = np.arange(4) + 0.1 * t
    hidden = np.sin(0.3 * y[..., None] + phase) + np.cos(0.2 * x[..., None] - phase)
    return unblocked(hidden @ MIX + 0.01 * rng.normal(size=(h // 2, w // 2, 4)) @ MIX, 2).astype(np.float32)


def portable_of(phases):
    """Answers are linear in the features of two pixels; those of the left half hardly depend on them."""
    rng, count = np.random.default_rng(0), len(phases)
    every = [(smooth(rng, t), smooth(rng, t + 5, 8)) for t in range(13)]
    features = tuple(every[t] for t in phases)
    weight = rng.normal(size=(4, 3)) * [1.0, 0.1, 0.1]
    sizes = np.array([h * w for h, w in SHAPES])

    def places(count, seed):
        own = np.random.default_rng(seed).integers(0, sizes, (count, 2))
        return own, np.where(own % 20 < 10, 0.005, 0.5)

    def touched(own):
        pixel = np.repeat((own + np.array([0, sizes[0]]))[..., None], 4, axis=2)
        return Touched(pixel, np.broadcast_to(np.eye(4)[0], pixel.shape).astype(np.float32))

    def effects(_, count, seed):
        own, share = places(count, seed)
        found = share[:, None, :, None] * weight.T[None, :, None, :]
        return found.astype(np.float32), touched(own)

    def errors(time, count, seed, changed):
        own, share = places(count, seed)
        away = sum(
            share[:, k, None] * ((tables[k] - features[t][k]).reshape(-1, 4)[own[:, k]] @ weight) / len(time)
            for t, tables in zip(time, changed, strict=True)
            for k in range(2)
        )
        return np.abs(away).max(1), touched(own)

    times = tuple((t,) for t in range(count)) + tuple((t, t + 1) for t in range(count - 1))
    return Portable({"crops": [[[0, 0], [0, 2]]] * count}, {}, features, 2, times, effects, errors)


@pytest.fixture(scope="module")
def portable():
    return portable_of(range(13))


def test_answers_are_within_the_bound(portable):
    transform = Transform(portable)
    rounding = Rounding(portable, transform)
    rounding.allow(1e-2)
    rounding.mend(1e-2)
    assert transform.axes.shape == (16, 4)  # as many as there are directions
    for t in range(13):
        error, _ = portable.errors((t,), 5000, 77, [rounding.rounded(t)])
        assert 1e-3 < error.max() <= 1.2e-2  # at places that were not checked


def test_blocks_that_matter_less_are_rounded_more_coarsely(portable):
    rounding = Rounding(portable, Transform(portable))
    rounding.allow(1e-2)
    level = np.mean([own[0] for own in rounding.levels], axis=0)
    assert level[:, :3].mean() > level[:, -4:].mean() + 2
    # Nor is a block next to one that matters.
    assert level[:, 4].max() <= 3


def test_bytes(portable):
    found = rounding_of(portable, within=1e-2).coded()
    assert found.error <= 1e-2
    assert found.basis.shape == (4, 16)
    assert found.numbers.before == [t % 12 > 0 for t in range(13)]
    first, second = (sum(map(len, found.numbers.streams[t])) for t in (0, 1))
    assert second < first


def test_some_phases_are_kept_without_choosing_the_levels_again(portable, monkeypatch):
    phases = [0, 4, 5, 9]
    whole = rounding_of(portable, within=1e-2)
    monkeypatch.setattr(Rounding, "allow", None)
    own = whole.kept(portable_of(phases), phases, within=1e-2)
    assert own.transform is whole.transform
    for levels, t in zip(own.levels, phases, strict=True):
        for level, before in zip(levels, whole.levels[t], strict=True):
            assert (level <= before).all()
            assert (level == before).mean() > 0.7
    assert 0 < own.error <= 1e-2
    assert own.coded().numbers.before == [False, True, True, True]
    for t in range(4):
        error, _ = own.portable.errors((t,), 5000, 77, [own.rounded(t)])
        assert error.max() <= 1.2e-2


def test_blocks_and_the_transform_go_back(portable):
    table = portable.features[3][0]
    np.testing.assert_array_equal(unblocked(blocks(table, 2), 2), table)
    np.testing.assert_array_equal(blocks(table, 2)[1, 2], table[2:4, 4:6].reshape(-1))
    transform = Transform(portable)
    np.testing.assert_allclose(transform.features(transform.along(table)), table, atol=1e-3)
    basis, middle = transform.basis()
    again = unblocked(np.tensordot(transform.along(table), basis, ([0], [0])) + middle, 2)
    np.testing.assert_allclose(again, table, atol=1e-3)
