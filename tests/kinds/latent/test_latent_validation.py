from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import toys
from nisf.data.case import UNKNOWN
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.kinds.latent.validation import StepDice, point_dice, step_counts, validate


@pytest.mark.parametrize("most", [0, 1, 9, 10, 11, 100, 672, 2000])
def test_step_counts(most):
    counts = step_counts(most)
    assert counts[0] == 0
    assert counts[-1] == most
    assert all(a < b for a, b in pairwise(counts))
    assert len(counts) < 25


def points_of(case):
    return CasePoints(case, whole_region(case), 4)


def test_point_dice(toy_prior, toy_fitted):
    case = toys.toy_case(99)
    points = points_of(case)
    fitted = replace(toy_fitted, region=points.region)
    index = np.arange(len(points))
    found = point_dice(toy_prior.field, toy_fitted.latent, points, index, 3)
    if toy_fitted.summary["orientation"]["reverse"]:
        points = CasePoints(case, toy_fitted.region, 4)
        fitted = toy_fitted
        found = point_dice(toy_prior.field, toy_fitted.latent, points, index, 3)
    label, truth = fitted.render().label, toys.label_of(case)
    np.testing.assert_allclose(found, [toys.dice(label, truth, k) for k in (1, 2)], atol=2e-3)
    # A structure that the subject lacks has no score.
    points.label[points.label == 2] = UNKNOWN
    only = np.flatnonzero(points.label >= 0)
    assert np.isnan(point_dice(toy_prior.field, toy_fitted.latent, points, only, 3)).tolist() == [False, True]


def statistics(prior):
    return prior.latent_mean, prior.latent_covariance


def test_validate_second_order(toy_prior):
    config = toys.settings(fit={"method": "second-order", "growth": 8, "points_last": 512})
    pool = [points_of(toys.toy_case(seed)) for seed in (60, 61)]
    found = validate(toy_prior.field, *statistics(toy_prior), pool, config, toys.LABELS, str)
    assert found.steps[:2] == (0, 10)
    assert found.steps[-1] < config.fit.iterations
    assert all(len(values) == len(found.steps) for values in found.dice.values())
    assert found.mean()[-1] > found.mean()[0] + 0.02


def test_validate(toy_prior):
    config = toys.settings(fit={"steps": 60})
    pool = [points_of(toys.toy_case(seed)) for seed in (60, 61)]
    said = []
    found = validate(toy_prior.field, *statistics(toy_prior), pool, config, toys.LABELS, said.append)
    assert found.steps == tuple(step_counts(60))
    assert list(found.dice) == ["blood", "muscle"]
    assert all(len(values) == len(found.steps) for values in found.dice.values())
    assert found.best_steps == max(1, found.steps[int(found.mean().argmax())])
    assert found.mean().max() > found.mean()[0] + 0.02
    assert said[0] == "validation: fitting 2 cases in up to 60 steps"
    assert f"after {found.best_steps} fitting steps" in said[1]
    assert len(said) == 2
    assert not toy_prior.field.training
    # The same again: nothing is left to chance.
    again = validate(toy_prior.field, *statistics(toy_prior), pool, config, toys.LABELS, said.append)
    assert again == found


def test_structure_that_nobody_has(toy_prior):
    points = points_of(toys.toy_case(60))
    points.label[points.label == 2] = 0
    found = validate(
        toy_prior.field, *statistics(toy_prior), [points], toys.settings(fit={"steps": 3}), toys.LABELS, str
    )
    assert list(found.dice) == ["blood"]


def test_validation_as_json():
    found = StepDice((0, 10, 14), {"a": [0.1, 0.123456, 0.1], "b": [0.2, 0.9, 0.3]}, 10)
    np.testing.assert_allclose(found.mean(), [0.15, 0.511728, 0.2])
    assert found.to_dict() == {
        "steps": [0, 10, 14],
        "dice": {"a": [0.1, 0.1235, 0.1], "b": [0.2, 0.9, 0.3]},
        "best_steps": 10,
    }
