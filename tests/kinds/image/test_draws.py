import numpy as np
import pytest

import toys
from nisf.prior.fit import fit


@pytest.fixture(scope="module")
def subject(toy_image_prior):
    return fit(toys.toy_case(97), toy_image_prior)


def asked(answerer, position, time=0.0):
    return answerer.answer(position, np.full(len(position), time), memory_mb=64)


def test_the_mean_and_the_deviation_are_of_the_single_draws(subject):
    position = np.random.default_rng(0).normal(size=(50, 3)) * 15
    found = asked(subject.drawn(5, seed=3), position)
    single = np.stack([asked(one, position).probability for one in subject.single_draws(5, seed=3)])
    np.testing.assert_allclose(found.probability, single.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.deviation, single.std(0), atol=1e-6)
    again, other = (asked(subject.drawn(5, seed=s), position).deviation for s in (3, 4))
    np.testing.assert_array_equal(again, found.deviation)
    assert np.abs(other - found.deviation).max() > 1e-4


def test_draws_differ_more_away_from_the_measured_slices(subject):
    grid = subject.stacks[0].grid
    pixel = np.stack(np.meshgrid(np.arange(24), np.arange(24), [1, 2, 3, 4], indexing="ij"), axis=-1)
    on, between = (grid.affine(pixel.reshape(-1, 3) + np.array([0, 0, along])) for along in (0.0, 0.5))
    spread = [asked(subject.drawn(8), place).deviation.mean() for place in (on, between)]
    assert spread[1] > 1.2 * spread[0]


def test_a_rendering_has_deviations(subject):
    drawn = subject.render(samples=4, probabilities=True)
    assert drawn.deviation.shape == drawn.probability.shape
    assert 0 < drawn.deviation.max() <= 0.5
    same = subject.render().label == drawn.label
    assert same.mean() > 0.95
