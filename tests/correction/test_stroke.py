"""Strokes: where they lie, on any grid, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.correction.stroke import LASTS, Stroke, check_labels
from nisf.errors import BadSettingError


def stroke(*points, time=0.0, label="blood", **options):
    return Stroke(tuple(points) or ((0.0, 0.0, 0.0),), time, label, **options)


def distance_to_line(position, line, places=20_001):
    """To the nearest of many places on the line."""
    corner = np.r_[0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    way = np.linspace(0, corner[-1], places)
    many = np.stack([np.interp(way, corner, line[:, k]) for k in range(3)], axis=1)
    return np.array([np.linalg.norm(many - place, axis=1).min() for place in position])


@given(st.integers(0, 10**6))
def test_covers_what_is_within_the_radius(seed):
    rng = np.random.default_rng(seed)
    line = rng.normal(size=(rng.integers(1, 5), 3)) * 10
    one = stroke(*map(tuple, line.tolist()), radius_mm=4.0)
    position = line[0] + rng.normal(size=(40, 3)) * 6
    away = distance_to_line(position, line)
    clear = np.abs(away - 4.0) > 0.01
    np.testing.assert_array_equal(one.covers(position)[clear], (away <= 4.0)[clear])


@given(st.integers(0, 10**6))
def test_voxels_of_any_grid(seed):
    rng = np.random.default_rng(seed)
    grid = toys.toy_grid(axes=toys.rotation(seed), centre=rng.normal(size=3) * 10)
    line = grid.centre() + rng.normal(size=(3, 3)) * 25
    one = stroke(*map(tuple, line.tolist()), radius_mm=7.0)
    by_hand = np.flatnonzero(one.covers(grid.points().reshape(-1, 3)))
    np.testing.assert_array_equal(one.voxels(grid), by_hand)


def test_places_along():
    one = stroke((0.0, 0.0, 0.0), (3.0, 0.0, 0.0), (3.0, 4.0, 0.0))
    assert one.length_mm == 7
    np.testing.assert_allclose(
        one.along(1.0, 100)[[0, 3, 5, 7]], [[0, 0, 0], [3, 0, 0], [3, 2, 0], [3, 4, 0]]
    )
    assert len(one.along(0.1, 5)) == 5
    assert stroke().along(1.0, 10).shape == (1, 3)


def test_lasts_around_its_time_and_across_the_end_of_the_cycle():
    one = stroke(time=0.0)
    np.testing.assert_array_equal(
        one.lasts(np.array([0.0, LASTS / 2, 1 - LASTS / 2, 2 * LASTS])), [1, 1, 1, 0]
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"points": ()}, "1 to 2000 points, not 0"),
        ({"points": ((0.0, 0.0, 0.0),) * 2001}, "not 2001"),
        ({"points": ((0.0, float("nan"), 0.0),)}, "a point is three numbers"),
        ({"points": ((0.0, 1e9, 0.0),)}, "up to 100000"),
        ({"time": 1.5}, "time 1.5: give a fraction"),
        ({"radius_mm": 0.0}, "radius_mm 0.0: give 0.25 to 30 mm"),
        ({"radius_mm": float("inf")}, "radius_mm inf"),
    ],
)
def test_values_out_of_bounds(options, sentence):
    with pytest.raises(BadSettingError, match=sentence):
        Stroke(**{"points": ((0.0, 0.0, 0.0),), "time": 0.0, "label": "blood", **options})


def test_unknown_class():
    check_labels((stroke(),), toys.LABELS)
    with pytest.raises(BadSettingError, match="stroke 2: no class is called 'bone'; there are back"):
        check_labels((stroke(), stroke(label="bone")), toys.LABELS)
