from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.errors import BadFileError
from nisf.prior.fit import fit
from nisf.subject.calibrated import Calibration, temperature_features

HOT = Calibration((0.3, -0.2, 0.6, 0.4, -0.3), 0.4)
"""Of three classes."""


def random_probability(seed, count=200, classes=3, sharp=4.0):
    logits = np.random.default_rng(seed).normal(size=(count, classes)) * sharp
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 1000), st.lists(st.floats(-4, 4), min_size=5, max_size=5), st.floats(0, 0.5))
def test_the_most_probable_class_stays(seed, weights, removed):
    calibration = Calibration(tuple(weights), removed)
    shown, before = random_probability(seed), random_probability(seed + 1)
    for found in (calibration.cooled(shown), calibration.doubted(shown, before)):
        np.testing.assert_array_equal(found.argmax(1), shown.argmax(1))
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
        assert (found >= 0).all()
        assert found.dtype == shown.dtype


def test_ties_and_what_is_certain_stay():
    tied = np.array([[0.5, 0.5, 0.0], [np.nextafter(np.float32(0.5), 1), 0.5, 0.0], [1, 0, 0]], np.float32)
    tied = np.r_[tied, tied[:, [1, 0, 2]]].astype(np.float32)
    found = HOT.cooled(tied)
    np.testing.assert_array_equal(found.argmax(1), tied.argmax(1))
    np.testing.assert_array_equal(found[[2, 5]], tied[[2, 5]])


def test_no_temperature_changes_nothing_and_one_alone_is_a_power():
    probability = random_probability(3, sharp=2.0)
    np.testing.assert_allclose(Calibration((0.0,) * 5).cooled(probability), probability, atol=1e-6)
    power = probability ** (1 / 1.7)
    found = Calibration((0.0, 0.0, np.log(1.7), 0.0, 0.0)).cooled(probability)
    np.testing.assert_allclose(found, power / power.sum(1, keepdims=True), atol=1e-5)


def test_features():
    found = temperature_features(np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]]))
    margins = np.log([3.5, 2.0]) / 10
    np.testing.assert_allclose(found[:, :3], [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_allclose(found[:, 3:], np.c_[margins, margins**2])


def test_what_was_removed_counts_a_little():
    shown, before = np.array([[0.9, 0.1, 0.0]]), np.array([[0.1, 0.0, 0.9]])
    found = Calibration((0.0,) * 5, 0.3).doubted(shown, before)
    np.testing.assert_allclose(found, [[0.66, 0.07, 0.27]], atol=1e-6)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"removed": 0}, "has no usable 'temperature'"),
        ({"temperature": ["hot"], "removed": 0}, "no usable could not convert"),
        ({"temperature": [1.0], "removed": 0}, "has 1 weights, but a field of 3 classes needs 5"),
        ({"temperature": [float("nan")] * 5, "removed": 0}, "needs 5 finite ones"),
    ],
)
def test_damaged_appendices_are_refused(entries, sentence):
    with pytest.raises(BadFileError, match=sentence):
        Calibration.from_json(entries, 3, "there")


def test_the_appendix_is_read_again():
    found = Calibration.from_json(HOT.to_json(), 3, "there")
    assert found == HOT


@pytest.fixture(scope="module", params=["toy_prior", "toy_image_prior"])
def subjects(request):
    """The same subject without and with a calibration; what it is not sure of is removed."""
    prior = request.getfixturevalue(request.param)
    settings = replace(prior.config.fit, islands="remove", certain=(0.97, 0.9))
    subject = fit(toys.toy_case(98), prior, config=settings)
    entries = {"calibration": HOT.to_json()}
    return subject, replace(subject, prior=replace(prior, appendices=entries))


def test_labels_are_the_same_to_the_last_voxel(subjects):
    plain, calibrated = (one.render(probabilities=True) for one in subjects)
    np.testing.assert_array_equal(calibrated.label, plain.label)
    np.testing.assert_array_equal(calibrated.probability.argmax(-1), plain.label)
    assert np.abs(calibrated.probability - plain.probability).max() > 0.02
    np.testing.assert_array_equal(subjects[1].render().label, plain.label)
    finer = subjects[0].stacks[0].grid.at_spacing((3.0, 3.0, 4.0))
    plain, calibrated = (one.render(finer, probabilities=True) for one in subjects)
    np.testing.assert_array_equal(calibrated.label, plain.label)
    np.testing.assert_array_equal(calibrated.probability.argmax(-1), plain.label)


def test_points_and_grids_are_told_the_same(subjects):
    grid = subjects[1].stacks[0].grid
    drawn = subjects[1].render(grid.at_times([0.0]), probabilities=True).probability
    _, asked = subjects[1].query(grid.points(), 0.0)
    np.testing.assert_allclose(asked, drawn[..., 0, :], atol=1e-5)
