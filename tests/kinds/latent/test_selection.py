import numpy as np
import pytest
import torch

import toys
from nisf.config.schema import Config
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.evaluation.calibration import reliability
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.second_order import fit_second_order
from nisf.kinds.latent.selection import STRENGTHS, TEMPERATURES, calibration, choose_fit
from nisf.kinds.load import load_prior
from nisf.networks.latent_inference import ask

CONFIG = toys.settings(
    fit={
        "method": "second-order",
        "growth": 6,
        "points_first": 128,
        "points_last": 512,
        "points_worth": 1024.0,
    }
)


@pytest.fixture(scope="module")
def pool():
    return [CasePoints(case, whole_region(case), 4) for case in toys.toy_cohort(2, first=60)]


@pytest.fixture(scope="module")
def statistics(toy_prior):
    return toy_prior.field, toy_prior.latent_mean, toy_prior.latent_covariance


def test_strength_and_temperature_are_chosen(statistics, pool, monkeypatch):
    said = []
    found = choose_fit(*statistics, pool, CONFIG, toys.LABELS, said.append)
    assert found.prior_strength in STRENGTHS
    assert found.temperature in TEMPERATURES
    assert found.method == "second-order"
    assert len(said) == 1
    assert "expected calibration error" in said[0]
    # Given the choice between the best and one that forbids everything, it takes the former.
    monkeypatch.setattr("nisf.kinds.latent.selection.STRENGTHS", (1e6, found.prior_strength))
    assert choose_fit(*statistics, pool, CONFIG, toys.LABELS, str) == found


def test_calibration_of_the_latents_alone(statistics, pool):
    fits = fit_second_order(parametrisation_of(*statistics, CONFIG.fit, pool), pool, CONFIG.fit)
    found = calibration(statistics[0], fits, 0.0, pool, 0, count=300)
    assert found.count.sum() == 600
    index = [np.random.default_rng([0, 4])]
    rows = [index[0].permutation(np.flatnonzero(case.label >= 0))[:300] for case in pool]
    shares = np.concatenate(
        [ask(statistics[0], fits.latent[i], case.coordinates(rows[i]))[1] for i, case in enumerate(pool)]
    )
    truth = np.concatenate([case.label[row].astype(np.int64) for case, row in zip(pool, rows, strict=True)])
    assert found.expected_error == pytest.approx(
        reliability(shares.astype(np.float64), truth).expected_error, abs=1e-4
    )


def test_a_wider_posterior_is_less_sure(statistics, pool):
    fits = fit_second_order(parametrisation_of(*statistics, CONFIG.fit, pool), pool, CONFIG.fit)
    sure = []
    for temperature in (0.0, 1.0, 30.0):
        found = calibration(statistics[0], fits, temperature, pool, 0)
        sure.append(np.nansum(found.confidence * found.count) / found.count.sum())
    assert np.all(np.diff(sure) < 0)


def test_training_stores_what_was_chosen(tmp_path):
    fit = {"method": "second-order", "growth": 2, "points_last": 128, "iterations": 3}
    prior = toys.train_toy(tmp_path / "prior", toys.settings(toys.TINY, fit=fit))
    again = load_prior(tmp_path / "prior")
    assert again.config.fit == prior.config.fit
    assert again.config.fit.prior_strength in STRENGTHS
    assert isinstance(again.config, Config)
    assert torch.equal(again.latent_covariance, prior.latent_covariance)
    assert again.card["validation"]["steps"][-1] <= 3
