import numpy as np
import pytest

import toys
from nisf.data.geometry import Affine, Grid
from nisf.errors import CannotFitError
from nisf.prior.fit import fit
from nisf.subject.subject import Subject
from nisf.uncertainty.spread import Change, Frames, Planes, Spreading

GRID = Grid((10, 1, 4), Affine.scaling((10.0, 10.0, 10.0)))
"""1 mL a voxel."""


def planes(chance, removed=()):
    """Two classes; the chance of the structure at each x of each plane, and planes where it is removed."""
    chance = np.array(chance, dtype=np.float64)
    probability = np.stack([1 - chance, chance], axis=-1).reshape(-1, 2)
    plane = np.repeat(np.arange(4), 10)
    barred = np.zeros(probability.shape, dtype=bool)
    barred[np.isin(plane, removed), 1] = True
    return Planes(probability, barred, plane, GRID)


RAMP = 1 / (1 + np.exp(np.linspace(-9, 9, 10)))
"""Logits 9, 7, ..., 1, -1, ..., -9: the border moves by half a voxel a logit."""


def test_borders_move_by_what_the_logit_decides():
    flat = 1 / (1 + np.exp(np.linspace(-1.8, 1.8, 10)))  # 0.4 apart
    (change,) = planes([flat, RAMP, RAMP * 0, RAMP * 0]).borders()
    # A logit of 1 moves the first plane's border by 2.5 voxels, and the second's by one or none.
    assert change.ml == pytest.approx([2.5], abs=1.01)
    (sure,) = planes([RAMP**9, RAMP * 0, RAMP * 0, RAMP * 0]).borders()
    assert sure.ml.item() < change.ml.item()


def test_sections_at_the_ends_and_removed_ones_could_be_otherwise():
    weak, strong = np.where(RAMP > 0.5, 0.7, 0.1), np.where(RAMP > 0.5, 0.99, 0.01)
    found = planes([weak, strong, strong, weak], removed=[3]).sections()
    # The first section may be absent, the third is the last that is drawn, the fourth may be there.
    assert [change.ml.item() for change in found] == pytest.approx([-5, -5, 5])
    weights = [4 * c * (1 - c) for c in (0.7, 0.99, 0.7)]
    assert [change.weight for change in found] == pytest.approx(weights)
    assert planes(np.zeros((4, 10))).sections() == []


def test_squares_add_up_and_draws_keep_their_phases_together():
    volumes = np.array([[100.0], [40.0]])
    changes = ((Change(np.array([3.0])),), (Change(np.array([-4.0]), 0.25),))
    frames = Frames(np.array([0.0, 0.4]), changes, np.array([[[2.0], [2.0]], [[-2.0], [-2.0]]]))

    def measure(ml):
        return np.array([ml[0, 0], ml[1, 0], ml[0, 0] - ml[1, 0]])

    np.testing.assert_allclose(frames.squares(volumes, measure), [9 + 4, 4 + 4, 9 + 4])
    # No volume falls below nothing.
    none = Frames(frames.times, ((Change(np.array([-500.0])),), ()), frames.draws[:0])
    np.testing.assert_allclose(none.squares(volumes, measure), [100**2, 0, 100**2])


def test_a_subject_is_looked_at_frame_by_frame(toy_image_prior):
    subject = fit(toys.toy_case(96), toy_image_prior)
    spreading = Spreading(subject, draws=3)
    spreading.frame(1)
    found = spreading.at([0.49, 0.01])
    np.testing.assert_allclose(found.times, [0.5, 0.0])
    assert found.draws.shape == (3, 2, 2)
    np.testing.assert_allclose(found.draws.mean(0), 0, atol=1e-9)
    assert all(len(changes) >= 2 for changes in found.changes)
    assert max(abs(change.ml).max() for change in found.changes[0]) > 0.1


def test_a_kind_without_draws_says_so(toy_image_prior, monkeypatch):
    subject = fit(toys.toy_case(96), toy_image_prior)
    for name in ("drawn", "single_draws"):
        monkeypatch.setattr(type(subject), name, getattr(Subject, name))
    with pytest.raises(CannotFitError, match="gives one answer"):
        Spreading(subject, draws=2)
