"""How coarsely blocks are rounded: as far as every answer allows."""

import numpy as np

from nisf.subject.portable import Touched
from nisf.view.steps import allowed, block_of, variances


def test_blocks_of_pixels_slice_by_slice():
    assert block_of([(2, 4), (4, 2)], 2).tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]


def test_variances_are_those_of_random_rounding():
    rng = np.random.default_rng(0)
    where = block_of([(2, 6)], 2)
    pixel = np.array([[[0, 1, 6, 7]], [[1, 2, 7, 8]]])
    weight = rng.uniform(size=(2, 1, 4)).astype(np.float32)
    effect = rng.normal(size=(2, 3, 1, 5)).astype(np.float32)
    found = variances(effect, Touched(pixel, weight), where, np.eye(5) / 12) @ np.array([1.0, 9.0, 0.0])
    step = np.array([1.0, 3.0, 0.0])[where]
    noise = rng.uniform(-0.5, 0.5, (40_000, 12, 5)) * step[:, None]
    seen = np.einsum("rpkcf,pkc->rpkf", noise[:, pixel], weight)
    moved = np.einsum("rpkf,pmkf->rpm", seen, effect)
    np.testing.assert_allclose(moved.var(0).ravel(), found, rtol=0.05)


def test_every_answer_allows_the_steps_and_some_would_allow_no_more():
    rng = np.random.default_rng(1)
    pixel = rng.integers(0, 40, (300, 2, 4))
    touched = Touched(pixel, rng.uniform(size=pixel.shape).astype(np.float32))
    effect = rng.lognormal(sigma=2, size=(300, 2, 2, 3)).astype(np.float32)
    own = variances(effect, touched, np.append(np.arange(40), 40), np.eye(3))
    squares = allowed(own, 1e-6)
    assert np.isinf(squares[40])  # nothing depends on it
    found = own[:, :40] @ squares[:40]
    assert found.max() <= 1.2e-6
    touched_by = (own[:, :40] > 0).toarray()
    tight = (found > 0.7e-6) @ touched_by
    assert (tight > 0).mean() > 0.9
