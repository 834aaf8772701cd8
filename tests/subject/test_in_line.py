"""A subject of slices that were put in line answers on the stack's own grid as its slices show it."""

from dataclasses import replace

import numpy as np

import toys
from nisf.alignment import Shift
from nisf.io.subject_file import read_record, subject_in, write_subject
from nisf.kinds.latent.breath_hold import BreathHold, shifted
from nisf.prior.fit import fit

SHIFTS = (Shift(0, 1, (4.0, -2.0)), Shift(0, 3, (-3.0, 1.0)))


def test_own_grid_shows_each_slice_at_its_shift(toy_image_prior):
    subject = fit(toys.toy_case(99), toy_image_prior)
    moved = replace(subject, shifts=SHIFTS)
    grid = subject.stacks[0].grid
    shown, world = moved.render().label, subject.render().label
    for k in range(grid.shape[2]):
        mm = next((np.array(shift.mm) for shift in SHIFTS if shift.position == k), np.zeros(2))
        places = grid.points_of_slice(k, slice(0, grid.shape[0])) - grid.affine.axes[:, :2] @ mm
        for t, time in enumerate(grid.times):
            _, probability = subject.query(places, float(time))
            expected = probability.argmax(axis=-1).reshape(grid.shape[:2])
            np.testing.assert_array_equal(shown[:, :, k, t], expected)
    assert (shown[:, :, 1] != world[:, :, 1]).any()
    np.testing.assert_array_equal(moved.render(grid).label, world)


def test_the_file_keeps_them(toy_image_prior, tmp_path):
    subject = replace(fit(toys.toy_case(99), toy_image_prior), shifts=SHIFTS)
    write_subject(tmp_path / "a.nisf", subject)
    back = subject_in(read_record(tmp_path / "a.nisf"), toy_image_prior)
    assert back.shifts == SHIFTS
    np.testing.assert_array_equal(back.render().label, subject.render().label)


def test_breath_holds_add_to_them():
    holds = [BreathHold(0, 1, (1.0, 1.0), gain=2.0), BreathHold(0, 2)]
    found = shifted(holds, [*SHIFTS, Shift(1, 0, (9.0, 9.0))])
    assert found == [
        BreathHold(0, 1, (5.0, -1.0), gain=2.0),
        BreathHold(0, 2),
        BreathHold(0, 3, (-3.0, 1.0)),
    ]


def test_a_fit_says_how_far_it_moved_slices(toy_image_prior):
    case = toys.toy_case(99)
    assert fit(case, toy_image_prior, align=True).summary["moved_mm"] == []
    assert "moved_mm" not in fit(case, toy_image_prior).summary
