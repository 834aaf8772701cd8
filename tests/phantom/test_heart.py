from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nisf.phantom import LABELS, Heart, ejection_fraction, label, random_heart, tissue_intensity, volumes_ml
from nisf.phantom.chest import near, surroundings, tissue
from nisf.phantom.heart import axes, contraction, pose, shape_at

HEART = Heart(roll_deg=12.0, tilt_deg=(9.0, -6.0), centre_mm=(-30.0, 15.0, 40.0), rv_contraction=0.4)
seeds = st.integers(0, 10_000).map(lambda seed: random_heart(np.random.default_rng(seed)))


def box(heart, spacing):
    """World points of a fine grid around the heart, along its own axes."""
    sides = [np.arange(low, high, spacing) for low, high in ((-50, 95), (-60, 60), (-65, 65))]
    local = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    return pose(heart).inverse(local.reshape(-1, 3))


@pytest.mark.parametrize("time", [0.0, 0.2, HEART.end_systole])
def test_volumes_are_those_of_counted_voxels(time):
    counts = np.bincount(label(HEART, box(HEART, 1.25), time), minlength=4)
    for index, name in enumerate(LABELS[1:], start=1):
        assert counts[index] * 1.25**3 / 1000 == pytest.approx(volumes_ml(HEART, time)[name], rel=0.01)


@settings(max_examples=4, deadline=None)
@given(heart=seeds)
def test_volumes_of_random_hearts_are_those_of_random_points(heart):
    rng = np.random.default_rng(0)
    local = rng.uniform([-60, -70, -80], [150, 70, 80], size=(300_000, 3))
    counts = np.bincount(label(heart, pose(heart).inverse(local), 0.0), minlength=4)
    size = 210 * 140 * 160 / 1000
    for index, name in enumerate(LABELS[1:], start=1):
        assert counts[index] / len(local) * size == pytest.approx(volumes_ml(heart, 0.0)[name], rel=0.03)


@settings(max_examples=20, deadline=None)
@given(ejection=st.floats(0.1, 0.85), radius=st.floats(15, 40), wall=st.floats(5, 16), time=st.floats(0, 1))
def test_ejection_is_exact_and_muscle_is_kept(ejection, radius, wall, time):
    heart = Heart(radius_mm=radius, wall_mm=wall, ejection_fraction=ejection)
    assert ejection_fraction(heart) == pytest.approx(ejection, abs=1e-12)
    rest = volumes_ml(heart, 0.0)["LV myocardium"]
    assert volumes_ml(heart, time)["LV myocardium"] == pytest.approx(rest, rel=1e-9)


def test_the_cycle_is_smooth_and_closes():
    times = np.linspace(0, 1, 2001)
    moved = contraction(HEART, times)
    assert moved.min() == moved[0] == moved[-1] == 0
    assert moved.max() == pytest.approx(1, abs=1e-5)
    assert abs(times[np.argmax(moved)] - HEART.end_systole) < 1e-3
    assert np.abs(np.diff(moved)).max() < 0.005
    points = box(HEART, 4.0)
    np.testing.assert_array_equal(label(HEART, points, 0.0), label(HEART, points, 1.0))
    np.testing.assert_array_equal(label(HEART, points, 0.3), label(HEART, points, 2.3))


def test_the_wall_thickens_and_the_base_comes_down():
    rest, tense = shape_at(HEART, 0.0), shape_at(HEART, HEART.end_systole)
    assert rest.outer_radius - rest.radius == pytest.approx(HEART.wall_mm)
    assert tense.outer_radius - tense.radius > 1.25 * HEART.wall_mm
    assert 10 < (tense.middle - tense.above) - (rest.middle - rest.above) < 25
    assert rest.middle + rest.outer_length == pytest.approx(tense.middle + tense.outer_length)


def test_a_time_for_each_point_is_the_same_as_one_at_a_time():
    points = box(HEART, 6.0)
    times = np.random.default_rng(0).choice([0.0, 0.1, 0.35], size=len(points))
    for answer in (label, tissue_intensity):
        together = answer(HEART, points, times)
        assert together.shape == times.shape
        for time in np.unique(times):
            chosen = times == time
            np.testing.assert_allclose(together[chosen], answer(HEART, points[chosen], time))


def test_blood_is_bright_muscle_is_dark_and_neither_is_flat():
    points = box(HEART, 4.0)
    found, signal = label(HEART, points, 0.0), tissue_intensity(HEART, points, 0.0)
    cavity, muscle = signal[found == 1], signal[found == 2]
    assert cavity.min() > 2 * muscle.max()
    assert 0.01 < cavity.std() < 0.15


@settings(max_examples=10, deadline=None)
@given(heart=seeds, time=st.sampled_from([0.0, 0.2, 0.35]))
def test_nothing_of_the_heart_moves_outside_the_box_that_is_redrawn(heart, time):
    points = np.random.default_rng(0).uniform(-160, 160, size=(20_000, 3)) + heart.centre_mm
    local, around = pose(heart)(points), surroundings(heart, points)
    changed = tissue(heart, shape_at(heart, time), local, around) != around
    # Samples reach half a slice away from a voxel's centre.
    far = ~near(heart, local + 5.5 * np.sign(local))
    assert not (changed & far).any()


def test_axes_are_a_right_handed_frame_with_the_apex_to_the_left_front_and_below():
    frame = axes(HEART)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)
    right_ventricle, _, apex = axes(Heart())
    assert apex[0] < 0 < apex[1]
    assert apex[2] < 0 < right_ventricle[0]
    lower = axes(replace(HEART, tilt_deg=(9.0, 4.0)))[2]
    assert lower[2] < frame[2][2]


@pytest.mark.parametrize("wrong", [{"radius_mm": 0.0}, {"ejection_fraction": 1.0}, {"end_systole": 0.0}])
def test_impossible_hearts_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Heart(**wrong)
