"""The benchmarks that draw conclusions about fits, on toys: they run, and what they say is measured."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toys
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.kinds.latent.validation import point_dice, scored_points
from nisf.paper.fig2 import MEASURED
from nisf.picture import save_figure

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SECOND = replace(toys.CONFIG.fit, growth=8, points_first=128, points_last=512, points_worth=1024.0)
"""A second-order fit of few points."""


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def load(name):
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def pool():
    return [CasePoints(case, whole_region(case), 4) for case in toys.toy_cohort(2, first=60)]


def test_fit_curve(toy_prior, pool, tmp_path):
    module = load("fit_curve")
    prior = replace(toy_prior, config=replace(toy_prior.config, fit=SECOND))
    found = module.curves(prior, pool, steps=60, iterations=60, say=lambda _: None)
    assert [row["iterations"] for row in found["adam"]][-1] == 60
    assert [row["iterations"] for row in found["second_order"]][-1] == 60
    # Both begin at the same place, the prior's mean, and get better from there.
    first, same = found["adam"][0], found["second_order"][0]
    assert first["mean_dice"] == same["mean_dice"]
    assert found["second_order"][-1]["loss"] < first["loss"]
    index = scored_points(pool, 1, MEASURED)
    rows = [
        point_dice(prior.field, prior.latent_mean, case, i, 3) for case, i in zip(pool, index, strict=True)
    ]
    assert first["mean_dice"] == pytest.approx(np.mean(rows))
    # Far past its end the second-order fit has nowhere to go.
    assert found["end"]["iterations"] < 60
    assert abs(found["second_order"][-1]["mean_dice"] - found["end"]["mean_dice"]) < 0.02
    json.dumps(found)
    save_figure(module.picture(found, 30), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_calibration(toy_prior, pool, tmp_path):
    module = load("calibration")
    prior = replace(toy_prior, config=replace(toy_prior.config, fit=SECOND))
    found = module.compare(prior, pool)
    assert found["mean_dice"] > 0.85
    for name in ("latent alone", "averaged over the posterior"):
        counts, accuracy = found[name]["count"], found[name]["accuracy"]
        assert sum(counts) == 2 * module.VOXELS
        right = sum(n * a for n, a in zip(counts, accuracy, strict=True) if n)
        assert right / sum(counts) > 0.9
        assert 0 <= found[name]["expected_calibration_error"] < 0.2
    json.dumps(found)
    module.picture(found, tmp_path / "calibration.png")
    assert (tmp_path / "calibration.png").read_bytes()[:4] == b"\x89PNG"


SHIFTS = np.array([[0, 0], [2, -1], [-2, 0], [1, 2], [-1, -1], [0, 0]])
"""Pixels of 4 mm by which each slice of a toy subject is moved."""


def breathing(case):
    """The case as it would be measured with its slices moved by `SHIFTS`."""

    def moved(item):
        image, label = (np.roll(a, SHIFTS[item.position], axis=(0, 1)) for a in (item.image, item.label))
        return replace(item, image=image, label=label)

    return replace(case, slices=tuple(moved(item) for item in case.slices))


def test_alignment(toy_prior, tmp_path):
    module = load("alignment")
    case = breathing(toys.toy_case(99))
    fit = replace(SECOND, points_last=2048, points_worth=4096.0, tolerance=1e-4)
    prior = replace(toy_prior, config=replace(toy_prior.config, fit=fit))
    (row,) = module.run(iter([(case, 4.0 * SHIFTS)]), prior, tmp_path, gains=False)
    assert row["slices"] == 4
    assert row["largest_mm"] < 1 < row["largest_before_mm"]
    assert row["dice_after"] > row["dice_before"]
    # Put back by what was found, the slices are where they were before they moved.
    shifts = {int(k): np.array(v) for k, v in row["shifts_mm"].items()}
    # Two rows a slice: the four in the middle.
    measured, aligned, true = (
        module.cut(c, s)[2:10] for c, s in ((case, {}), (case, shifts), (toys.toy_case(99), {}))
    )
    assert np.abs(aligned - true)[:, 6:18].mean() < 0.6 * np.abs(measured - true)[:, 6:18].mean()
    assert (tmp_path / "toy99.png").is_file()
    assert json.loads((tmp_path / "alignment.json").read_text())[0]["case"] == "toy99"


def test_latents_from_training(toy_prior, toy_cohort):
    module = load("real_data")
    case = toy_cohort[2]
    subject = module.as_trained(case, toy_prior)
    assert toys.dice(subject.render().label, toys.label_of(case), 1) > 0.85
    assert module.as_trained(toys.toy_case(99), toy_prior) is None


def test_fit_uncertainty(toy_image_prior, tmp_path):
    module = load("fit_uncertainty")
    prior = toy_image_prior
    cache = module.CaseCache(tmp_path, 0, {})
    cases = [cache.case(case, prior, "toys", voxels=True) for case in toys.toy_cohort(5, first=70)]
    again = cache.case(toys.toy_case(70), prior, "toys", voxels=True)
    assert all(np.array_equal(again[name], cases[0][name], equal_nan=True) for name in again)
    # What is compared are volumes of the labels and of the answer.
    for found in cases:
        np.testing.assert_allclose(found["value"], found["truth"], rtol=0.5)
    calibration, reliability = module.fit_probabilities(cases)
    for way in ("given", "hidden"):
        before, after = (reliability[way, when]["all"] for when in ("before", "after"))
        assert before.count.sum() == after.count.sum() > 1000
        assert after.expected_error < before.expected_error + 0.01
    intervals, rows = module.fit_intervals(cases, toys.ANATOMY, 0)
    assert [row["measure"] for row in rows] == list(intervals.scales)
    assert all(row["cases"] == 5 and 0 <= row["coverage"] <= 1 for row in rows)
    (row, *_) = module.judged(cases, toys.ANATOMY, intervals)
    assert row["coverage"] == 1.0  # the largest score of five
    # Nothing predicts the Dice of these; where it is known, intervals of poor cases are wider.
    assert intervals.usual_error is None
    known = [case | {"predicted": np.array(0.9 - 0.1 * (i == 0))} for i, case in enumerate(cases)]
    wider, _ = module.fit_intervals(known, toys.ANATOMY, 0)
    assert wider.usual_error == pytest.approx(0.1)
    np.testing.assert_allclose(module.wider_than_usual(known, wider.usual_error), [2, 1, 1, 1, 1])
    module.picture(reliability, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes()[:4] == b"\x89PNG"
    other = replace(prior, config=prior.config, field=type(prior).new_field(prior.config))
    entries = module.appendix(other, prior, calibration.to_json())
    assert entries["prior"] == other.fingerprint != entries["fitted_for"] == prior.fingerprint
    json.dumps(entries)


def test_deviation(toy_image_prior, tmp_path, monkeypatch, capsys):
    module = load("deviation")
    monkeypatch.setattr(module, "cases_of", lambda *_: iter(toys.toy_cohort(1, first=75)))
    monkeypatch.setattr(module, "load_prior", lambda _: toy_image_prior)
    assert module.main(["nowhere", "toy", "-o", str(tmp_path), "--samples", "3"]) == 0
    told = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    values = {" ".join(name.split()): float(value) for name, value in told.items()}
    assert values["deviation 1"] > values["deviation 0"]
    assert 0.5 < values["ROC area of doubt hidden"] <= 1
    score, wrong = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert module.area(score, wrong) == 0.75
