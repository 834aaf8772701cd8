import numpy as np
import pytest

from nisf.data.case import UNKNOWN
from nisf.evaluation.calibration import reliability


def points(count=200_000, classes=3, seed=0):
    """Probabilities, and labels that are drawn from just these."""
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(classes) * 0.7, size=count)
    label = (probability.cumsum(1) < rng.random(count)[:, None]).sum(1).clip(0, classes - 1)
    return probability, label


def test_calibrated_by_construction():
    found = reliability(*points())
    assert found.expected_error < 0.01
    filled = found.count > 500
    np.testing.assert_allclose(found.confidence[filled], found.accuracy[filled], atol=0.03)
    assert found.count.sum() == 200_000
    # The most probable of three classes has a probability of at least a third.
    assert (found.count[:3] == 0).all()
    assert np.isnan(found.confidence[0])


def test_overconfident_by_a_known_amount():
    probability = np.tile([0.95, 0.05], (1000, 1))
    label = np.r_[np.zeros(700, dtype=int), np.ones(300, dtype=int)]
    found = reliability(probability, label)
    assert found.expected_error == pytest.approx(0.25)
    assert found.count.tolist() == [0] * 9 + [1000]
    assert found.accuracy[-1] == pytest.approx(0.7)


def test_against_a_naive_sum():
    probability, label = points(500, seed=1)
    probability = probability**2 / (probability**2).sum(1, keepdims=True)  # too sure of itself
    found = reliability(probability, label, bins=7)
    said, right = probability.max(1), probability.argmax(1) == label
    error = 0.0
    for b in range(7):
        of = (said > b / 7) & (said <= (b + 1) / 7)
        if of.any():
            assert found.count[b] == of.sum()
            error += of.sum() / 500 * abs(said[of].mean() - right[of].mean())
    assert found.expected_error == pytest.approx(error)
    assert error > 0.03


def test_unknown_labels_do_not_count():
    probability, label = points(1000)
    label[::2] = UNKNOWN
    one, two = reliability(probability, label), reliability(probability[1::2], label[1::2])
    np.testing.assert_array_equal(one.count, two.count)
    assert one.expected_error == two.expected_error
    assert np.isnan(reliability(probability, np.full(1000, UNKNOWN)).expected_error)
