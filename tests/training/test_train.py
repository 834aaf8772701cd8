from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import nisf.training.search
import toys
from nisf.chunks import training_points
from nisf.data.case import UNKNOWN
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import whole_region
from nisf.errors import NisfError
from nisf.files import read_tensors
from nisf.kinds.latent.recipe import draw_batch, objective
from nisf.kinds.load import load_prior
from nisf.networks.latent_field import LatentField
from nisf.optimisation.loop import subjects_of
from nisf.optimisation.state import rate_factor
from nisf.training.train import TrainOptions, train


def test_by_seed(tmp_path):
    config = toys.settings(toys.TINY, train={"steps": 3})
    fingerprints = [
        toys.train_toy(
            tmp_path / name, toys.settings(config, train={"seed": seed}), validation=[]
        ).fingerprint
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_without_validation(tmp_path):
    prior = toys.train_toy(
        tmp_path, toys.settings(toys.TINY, train={"steps": 2}), validation=[], card={"licence": "CC0"}
    )
    assert prior.config.fit.steps == toys.TINY.fit.steps
    assert prior.card["validation"] is None
    assert prior.card["licence"] == "CC0"
    # Validation cases without labels say nothing.
    unlabelled = [toys.toy_case(0, labelled=False)]
    brief, lines = toys.settings(toys.TINY, train={"steps": 2}), []
    prior = toys.train_toy(tmp_path / "b", brief, validation=unlabelled, say=lines.append)
    assert prior.card["validation"] is None
    assert "1 of 1 validation case without labels (toy0): nothing is scored on those" in lines


def test_validation_cases_that_are_trained_on_are_told(tmp_path):
    """Whatever they are called."""
    config, said = toys.settings(toys.TINY, train={"steps": 1}), []
    cases = [*toys.toy_cohort(2), replace(toys.toy_case(2), name="twin")]
    for name, validation in (("a", [toys.toy_case(80)]), ("b", [toys.toy_case(2), toys.toy_case(80)])):
        toys.train_toy(tmp_path / name, config, cases, validation, say=said.append)
    found = [sentence for sentence in said if "also in training" in sentence]
    assert len(found) == 1
    assert found[0].startswith("1 of 2 validation cases also in training (toy2): the validation says little")


def test_whole_frames(tmp_path):
    prior = toys.train_toy(tmp_path, toys.settings(toys.TINY, train={"steps": 3, "points": 0}), validation=[])
    assert torch.isfinite(prior.latent_mean).all()
    pool = [CasePoints(c, whole_region(c), 4) for c in toys.toy_cohort(2)]
    _, batch = draw_batch(pool, replace(toys.TINY.train, points=0), 0)
    assert batch.weight.sum(1).tolist() == [24 * 24 * 6] * 2
    part = training_points(toys.TINY.train.subjects, torch.device("cpu"))
    assert 0 <= batch.weight.shape[1] - 24 * 24 * 6 < part
    assert batch.weight.shape[1] % part == 0


def thinned():
    """One subject whole, one with an unlabelled frame and a half-labelled slice, one without labels."""
    whole, partly = toys.toy_cohort(2)
    slices = list(partly.slices)
    for i, item in enumerate(slices):
        assert item.label is not None
        if item.frame == 1:
            slices[i] = replace(item, label=None)
        elif item.position == 2:
            slices[i] = replace(item, label=np.where(np.arange(24) < 12, item.label, UNKNOWN))
    return [whole, replace(partly, slices=tuple(slices)), toys.toy_case(2, labelled=False)]


def test_labels_may_be_missing(tmp_path):
    prior = toys.train_toy(
        tmp_path, toys.settings(toys.TINY, train={"steps": 5, "balanced": 0.5}), thinned(), validation=[]
    )
    assert prior.card["training"]["labelled_slices"] == 12 + 6
    assert torch.isfinite(prior.latent_covariance).all()


def test_no_labels_at_all(tmp_path):
    cases = [toys.toy_case(seed, labelled=False) for seed in range(2)]
    config = toys.settings(toys.TINY, train={"steps": 2}, region={"whole": False})
    said = []
    prior = train(cases, [], toys.ANATOMY, config, tmp_path, TrainOptions(say=said.append))
    assert prior.half is None
    assert any("the whole field of view is used" in line for line in said)


@pytest.mark.parametrize("labelled", [True, False])
def test_an_unlabelled_subject_does_not_teach_classes(labelled):
    case = toys.toy_case(0, labelled=labelled)
    field = LatentField(toys.TINY.field)
    points = CasePoints(case, whole_region(case), 4)
    batch = batch_of([(points, np.arange(200))])
    latent = torch.full((1, 8), 1e-4)
    loss, terms = objective(field, field, latent, batch, toys.TINY.train)
    loss.backward()
    gradient = field.class_head.weight.grad
    assert gradient is not None
    assert bool((gradient == 0).all()) != labelled
    assert (float(terms["class_bce"].detach()) == 0) != labelled
    assert (float(terms["dice_loss"].detach()) == 0) != labelled
    assert field.intensity_head.weight.grad.abs().max() > 0


def test_objective_is_the_sum_of_its_terms():
    config = replace(toys.TINY.train, alpha=3.0, weight_l2=0.1, latent_l2=0.2)
    case = toys.toy_case(0)
    field = LatentField(toys.TINY.field)
    points = CasePoints(case, whole_region(case), 4)
    batch = batch_of([(points, np.arange(200))])
    latent = torch.full((1, 8), 0.5)
    loss, terms = objective(field, field, latent, batch, config)
    squares = sum(float(p.detach().square().sum()) for b in field.backbones for p in b.parameters())
    expected = (
        terms["class_bce"] + terms["dice_loss"] + 3 * terms["intensity_bce"] + 0.1 * squares + 0.2 * 0.25
    )
    torch.testing.assert_close(loss, expected)
    assert terms["loss"] is loss


def test_subjects_come_equally_often():
    config = replace(toys.TINY.train, subjects=2)
    seen = np.concatenate([subjects_of(step, 5, config) for step in range(10)])
    for round_ in seen.reshape(4, 5):
        assert sorted(round_) == [0, 1, 2, 3, 4]
    assert len({tuple(r) for r in seen.reshape(4, 5)}) > 1


def test_cases_with_nothing_in_their_region(tmp_path, monkeypatch):
    """A subject without labels, whose box in the image's middle holds no voxel, is left out."""
    monkeypatch.setattr(nisf.training.search, "train_finder", lambda *_, **__: None)
    wide = toys.toy_grid((2, 2, 2), spacing=(400.0, 400.0, 400.0))
    cases = [*toys.toy_cohort(2), toys.toy_case(9, wide, labelled=False)]
    config = toys.settings(toys.TINY, train={"steps": 2}, region={"whole": False})
    said = []
    prior = train(cases, [], toys.ANATOMY, config, tmp_path, TrainOptions(say=said.append))
    assert "left out 1 cases without measurements inside their region" in said
    assert prior.card["training"]["subjects"] == 2
    assert len(read_tensors(tmp_path / "checkpoint.safetensors")[0]["latents.weight"]) == 2
    monkeypatch.setattr(CasePoints, "__len__", lambda _: 0)
    with pytest.raises(NisfError, match="no case was measured inside its region"):
        train(cases, [], toys.ANATOMY, config, tmp_path / "b", TrainOptions(say=said.append))


def test_rate_factor():
    constant = replace(toys.TINY.train, steps=1000)
    assert {rate_factor(constant, s) for s in (0, 500, 999)} == {1.0}
    cosine = replace(constant, schedule="cosine")
    factors = [rate_factor(cosine, s) for s in range(1000)]
    assert factors[0] == pytest.approx(1 / 20)
    assert max(factors) == 1.0
    assert factors.index(1.0) == 19
    assert all(a >= b for a, b in pairwise(factors[20:]))
    assert factors[-1] == pytest.approx(0.01, abs=1e-4)
    assert rate_factor(replace(cosine, steps=1), 0) == 1.0


def test_region_from_labels_and_finder(tmp_path):
    """The whole way: box from labels, finder, unlabelled subjects found by it."""
    region = {"whole": False, "margin_mm": 8.0, "finder_steps": 20}
    config = toys.settings(toys.TINY, train={"steps": 3}, region=region)
    prior = toys.train_toy(tmp_path, config, thinned())
    assert prior.half is not None
    assert prior.half[2] == pytest.approx(15 + 8)
    assert prior.finder is not None
    again = load_prior(tmp_path)
    np.testing.assert_array_equal(again.half, prior.half)
    assert again.finder is not None
