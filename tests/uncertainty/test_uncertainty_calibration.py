import numpy as np
import pytest

import toys
from nisf.evaluation.calibration import reliability
from nisf.prior.fit import fit
from nisf.subject.calibrated import Calibration
from nisf.uncertainty.calibration import (
    NEAR_MM,
    Voxels,
    border_mm,
    calibrated,
    fit_calibration,
    reliabilities,
    voxels_of,
)


def overconfident(count=20_000, temperature=1.8, seed=0):
    """Voxels whose probabilities are too sure by a known temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 3)) * 1.5
    true = np.exp(logits)
    true /= true.sum(1, keepdims=True)
    label = (true.cumsum(1) > random.random((count, 1))).argmax(1)
    shown = np.exp(logits * temperature)
    shown /= shown.sum(1, keepdims=True)
    none = np.zeros(count, dtype=bool)
    return Voxels(shown, shown, none, label, np.zeros(count), none)


def test_a_known_temperature_is_found():
    voxels = overconfident()
    found = fit_calibration([voxels, voxels])
    before, after = (reliability(p, voxels.label) for p in (voxels.shown, calibrated(found, voxels)))
    assert before.expected_error > 0.08
    assert after.expected_error < 0.01
    new = overconfident(seed=1)
    assert reliability(calibrated(found, new), new.label).expected_error < 0.015


def test_what_was_removed_and_often_there_counts():
    voxels = overconfident()
    removed = np.arange(len(voxels.label)) % 4 == 0
    shown = voxels.shown.copy()
    shown[removed] = [0.98, 0.01, 0.01]
    before = voxels.shown.copy()
    before[removed] = [0.02, 0.01, 0.97]
    label = voxels.label.copy()
    label[removed] = np.where(np.random.default_rng(2).random(removed.sum()) < 0.3, 2, 0)
    mixed = Voxels(shown, before, removed, label, voxels.border_mm, voxels.end)
    found = fit_calibration([mixed])
    said = calibrated(found, mixed)[removed].mean(0)
    assert said[2] == pytest.approx(0.3, abs=0.05)


def test_the_border_is_where_the_class_changes():
    label = np.zeros((12, 9), dtype=int)
    label[4:8, 3:6] = 1
    edges = [
        (i, j)
        for i, j in np.ndindex(label.shape)
        for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))
        if 0 <= a < 12 and 0 <= b < 9 and label[a, b] != label[i, j]
    ]
    naive = [min(np.hypot(2 * (i - a), 3 * (j - b)) for a, b in edges) for i, j in np.ndindex(label.shape)]
    np.testing.assert_allclose(border_mm(label, (2.0, 3.0)).ravel(), naive)
    assert np.isinf(border_mm(np.ones((3, 4), dtype=int), (1.0, 1.0))).all()


def test_voxels_of_a_subject(toy_image_prior):
    case = toys.toy_case(94)
    subject = fit(case, toy_image_prior)
    found = voxels_of(subject, case)
    drawn = subject.render(probabilities=True)
    assert (found.label >= 0).all()
    # Every voxel of a labelled frame that is wrong lies near a border, and is looked at.
    wrong = (drawn.label != toys.label_of(case)).sum()
    assert (found.shown.argmax(1) != found.label).sum() == pytest.approx(wrong, rel=0.05)
    places = reliabilities(found.shown, found)
    assert sum(places[name].count.sum() for name in ("border", "inside", "ends")) == places["all"].count.sum()
    assert places["all"].count.sum() == len(found.label)
    assert (found.border_mm[found.end == 0] <= 10 * NEAR_MM).mean() > 0.9
    kept = calibrated(Calibration((0.0,) * 5), found)
    np.testing.assert_allclose(kept, found.shown, atol=1e-5)
