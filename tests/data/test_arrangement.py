import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import toys
from nisf.data.arrangement import (
    Arrangement,
    arrangement_between,
    arrangements,
    in_plane,
    towards_world,
)
from nisf.data.geometry import Affine, Grid

EVERY = list(arrangements())
PLANE = np.arange(6).reshape(2, 3, 1)
SHAPE = (3, 4, 5)


def oblique(seed=0, spacing=(1.3, 1.6, 8.0)):
    return Affine.from_axes(toys.rotation(seed), np.array(spacing), np.array([4.0, -7.0, 11.0]))


def test_there_are_48():
    assert len(set(EVERY)) == 48
    assert EVERY[0].changes_nothing


@pytest.mark.parametrize("arrangement", EVERY)
def test_undone_and_in_place(arrangement):
    """Undoing gives the array back, and every voxel stays where it is in the world."""
    array = np.arange(np.prod(SHAPE) * 2).reshape(*SHAPE, 2)
    moved = arrangement.apply(array)
    np.testing.assert_array_equal(arrangement.undo(moved), array)
    assert moved.base is not None, "a view"
    grid = Grid(SHAPE, oblique())
    other = arrangement.of_grid(grid)
    assert other.shape == moved.shape[:3]
    back = arrangement.undo_grid(other)
    assert back.shape == grid.shape
    np.testing.assert_allclose(back.affine.matrix, grid.affine.matrix, atol=1e-12)
    where = {
        tuple(np.round(p, 6)): v
        for p, v in zip(grid.points().reshape(-1, 3), array.reshape(-1, 2)[:, 0], strict=True)
    }
    for p, v in zip(other.points().reshape(-1, 3), moved.reshape(-1, 2)[:, 0], strict=True):
        assert where[tuple(np.round(p, 6))] == v


@given(st.sampled_from(EVERY), st.integers(0, 1000))
def test_found_between_grids(arrangement, seed):
    grid = Grid(SHAPE, oblique(seed))
    assert arrangement_between(grid, arrangement.of_grid(grid)) == arrangement


def test_not_found_where_grids_do_not_coincide():
    grid = Grid(SHAPE, oblique())
    shifted = Grid(SHAPE, grid.affine.shifted((0, 0, 0.5)))
    turned = Grid(
        SHAPE,
        Affine.from_axes(
            Rotation.from_rotvec([0, 0, 0.2]).as_matrix() @ grid.affine.axes, grid.spacing, grid.affine.origin
        ),
    )
    assert arrangement_between(grid, shifted) is None
    assert arrangement_between(grid, turned) is None
    assert arrangement_between(grid, Grid((3, 4, 6), grid.affine)) is None


@given(st.sampled_from(EVERY), st.sampled_from(EVERY))
def test_one_after_the_other(first, second):
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(first.then(second).apply(array), second.apply(first.apply(array)))


def test_eight_of_them_keep_the_order_of_the_slices():
    ways = in_plane()
    assert ways[0].changes_nothing
    assert len(set(ways)) == 8
    assert all(way.axes[2] == 2 and not way.flips[2] for way in ways)
    quarter = next(way for way in ways if np.array_equal(way.apply(PLANE), np.rot90(PLANE)))
    half, mirror = quarter.then(quarter), Arrangement(flips=(True, False, False))
    assert (Arrangement().words(), quarter.words()) == ("", "turned by 90 degrees")
    assert half.words() == "turned by 180 degrees"
    assert half.then(quarter).words() == "turned by 90 degrees"
    assert {mirror.then(way).words() for way in (Arrangement(), quarter, half)} == {"mirrored"}


@given(st.sampled_from(EVERY), st.sampled_from(["RAS", "LPS", "PIR", "ASL", "SPL"]), st.integers(0, 1000))
def test_towards_the_world_as_nibabel_does(arrangement, codes, seed):
    """However the array is stored, it ends the same."""
    turn = Rotation.from_rotvec(0.5 * np.random.default_rng(seed).uniform(-1, 1, 3)).as_matrix()
    grid = Grid(SHAPE, Affine.from_axes(turn, (1.0, 1.2, 3.0), (1.0, 2.0, 3.0)))
    stored = arrangement.of_grid(grid)
    found = towards_world(stored.affine, codes).of_grid(stored)
    assert "".join(nib.aff2axcodes(found.affine.matrix)) == codes
    plain = towards_world(grid.affine, codes).of_grid(grid)
    np.testing.assert_allclose(found.affine.matrix, plain.affine.matrix, atol=1e-9)


def test_what_is_none_is_refused():
    with pytest.raises(ValueError, match="no arrangement of three axes"):
        Arrangement((0, 0, 2))
