import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from checker import unchecked
from nisf.data.geometry import Affine, Grid, cycle_times

spacings = st.tuples(*[st.floats(0.1, 20)] * 3)
places = st.tuples(*[st.floats(-500, 500)] * 3)
seeds = st.integers(0, 10_000)


flips = st.tuples(*[st.sampled_from([-1, 1])] * 3)


def oblique(parts):
    """An oblique, flipped, anisotropic affine, as scanners write them."""
    seed, flip, spacing, origin = parts
    return Affine.from_axes(toys.rotation(seed) * np.array(flip), spacing, origin)


# Made into an affine in the tests: the shape checker draws random numbers, which strategies must not.
parts_of_affines = st.tuples(seeds, flips, spacings, places)


@given(parts_of_affines, seeds, places)
def test_voxel_world_model_and_back(affine, seed, centre):
    affine = oblique(affine)
    voxel = np.random.default_rng(seed).uniform(-50, 300, (4, 5, 3))
    pose = Affine.rigid(toys.rotation(seed + 1), centre)
    model = pose(affine(voxel))
    np.testing.assert_allclose(affine.inverse(pose.inverse(model)), voxel, atol=1e-6)
    np.testing.assert_allclose((affine.inverse @ pose.inverse)(model), voxel, atol=1e-6)
    np.testing.assert_allclose(pose(np.array(centre)), 0, atol=1e-9)
    # A pose keeps distances: model coordinates are true millimetres.
    world = affine(voxel)
    np.testing.assert_allclose(
        np.linalg.norm(model[1:] - model[:-1], axis=-1),
        np.linalg.norm(world[1:] - world[:-1], axis=-1),
        rtol=1e-9,
    )


@given(parts_of_affines, parts_of_affines, seeds)
def test_matmul_is_composition(a, b, seed):
    a, b = oblique(a), oblique(b)
    point = np.random.default_rng(seed).uniform(-10, 10, (7, 3))
    np.testing.assert_allclose((a @ b)(point), a(b(point)), rtol=1e-9, atol=1e-6)


@given(parts_of_affines)
def test_parts_make_the_whole(affine):
    affine = oblique(affine)
    again = Affine.from_axes(affine.axes, affine.spacing, affine.origin)
    np.testing.assert_allclose(again.matrix, affine.matrix, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(affine.axes, axis=0), 1)


def test_scaling():
    affine = Affine.scaling((1, 2, 3), (10, 20, 30))
    np.testing.assert_array_equal(affine(np.array([1, 1, 1])), [11, 22, 33])
    assert affine(np.zeros((2, 0, 3))).shape == (2, 0, 3)


@given(parts_of_affines, st.tuples(*[st.integers(-20, 20)] * 3))
def test_shifted_counts_from_another_voxel(affine, voxel):
    affine = oblique(affine)
    moved = affine.shifted(voxel)
    np.testing.assert_allclose(moved.origin, affine(np.array(voxel)), atol=1e-9)
    index = np.array([[3, 4, 5], [0, 0, 0]])
    np.testing.assert_allclose(moved(index), affine(index + np.array(voxel)), atol=1e-6)


@given(parts_of_affines)
def test_normal_is_across_the_slices(affine):
    affine = oblique(affine)
    normal = affine.normal()
    np.testing.assert_allclose(np.linalg.norm(normal), 1)
    np.testing.assert_allclose(affine.axes[:, :2].T @ normal, 0, atol=1e-9)
    step = affine(np.array([0, 0, 1])) - affine(np.array([0, 0, 0]))
    np.testing.assert_allclose(step @ normal, affine.spacing[2])  # no shear: all of the step is across


def test_normal_of_a_sheared_affine():
    matrix = np.eye(4)
    matrix[:3, 2] = [1, 0, -2]
    np.testing.assert_array_equal(Affine(matrix).normal(), [0, 0, -1])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "4 x 4"),
        (np.diag([1, 1, 0, 1.0]), "singular"),
        (np.array([[1, 2, 0, 0], [2, 4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.diag([1, np.nan, 1, 1]), "not finite"),
        (np.diag([1, np.inf, 1, 1]), "not finite"),
        (np.diag([1, 1, 1, 2.0]), "last row"),
    ],
)
def test_bad_affines(matrix, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        Affine(matrix)


def test_tiny_voxels_are_not_singular():
    assert Affine.scaling((1e-4, 1e-4, 1e-4)).inverse.spacing == pytest.approx([1e4] * 3)


def test_affine_keeps_its_own_matrix():
    matrix = np.eye(4)
    affine = Affine(matrix)
    matrix[0, 0] = 5
    assert affine.matrix[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 2


def test_cycle_times():
    np.testing.assert_allclose(cycle_times(4), [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(cycle_times(1), [0])


def corners(grid):
    """Outer faces of a grid along its own axes, mm: (3,) lengths and the centre."""
    return np.array(grid.shape) * grid.spacing


@given(parts_of_affines, st.tuples(*[st.integers(1, 40)] * 3), spacings)
def test_at_spacing_keeps_the_field_of_view(affine, shape, spacing):
    affine = oblique(affine)
    grid = Grid(shape, affine, cycle_times(3))
    other = grid.at_spacing(spacing)
    np.testing.assert_allclose(other.spacing, spacing)
    np.testing.assert_allclose(other.centre(), grid.centre(), atol=1e-6)
    np.testing.assert_allclose(other.affine.axes, affine.axes, atol=1e-9)
    np.testing.assert_array_equal(other.times, grid.times)
    # Each outer face within half a new voxel; a grid of one voxel cannot get smaller.
    off = np.abs(corners(other) - corners(grid)) / 2
    assert (off[np.array(other.shape) > 1] <= 0.5 * np.array(spacing)[np.array(other.shape) > 1] + 1e-6).all()


def test_at_spacing_of_whole_factors():
    grid = toys.toy_grid((4, 4, 2), spacing=(2, 2, 8))
    fine = grid.at_spacing((1, 1, 2))
    assert fine.shape == (8, 8, 8)
    np.testing.assert_allclose(fine.affine(np.array([-0.5] * 3)), grid.affine(np.array([-0.5] * 3)))
    same = grid.at_spacing((2, 2, 8))
    np.testing.assert_allclose(same.affine.matrix, grid.affine.matrix)


@pytest.mark.parametrize("spacing", [(1, 1), (0, 1, 1), (-1, 1, 1), (1, np.nan, 1), (1, np.inf, 1)])
def test_bad_spacings(spacing):
    with pytest.raises(ValueError, match="three positive numbers"):
        toys.toy_grid().at_spacing(spacing)


def test_grid_of_points_and_times():
    grid = Grid((2, 3, 4), Affine.scaling((1, 2, 3), (5, 6, 7)))
    assert grid.points().shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(grid.points()[1, 2, 3], [6, 10, 16])
    np.testing.assert_array_equal(grid.centre(), grid.points().reshape(-1, 3).mean(0))
    assert grid.voxel_ml == pytest.approx(6 / 1000)
    np.testing.assert_array_equal(grid.with_frames(2).times, [0, 0.5])
    np.testing.assert_array_equal(grid.at_times([0.1, 0.9]).times, [0.1, 0.9])


def test_bad_grids():
    with pytest.raises(ValueError, match="at least 1"):
        Grid((2, 0, 2), Affine(np.eye(4)))
    with pytest.raises(ValueError, match="finite time"):
        Grid((2, 2, 2), Affine(np.eye(4)), np.zeros(0))
    with pytest.raises(ValueError, match="finite time"):
        Grid((2, 2, 2), Affine(np.eye(4)), np.array([np.nan]))
    with pytest.raises(ValueError, match="at least 1"):
        toys.toy_grid().with_frames(0)


@given(places, seeds, st.floats(5, 200), st.floats(5, 200), st.floats(0.5, 4), st.booleans())
def test_plane(centre, seed, width, height, spacing, given_up):
    rng = np.random.default_rng(seed)
    normal, up = rng.normal(size=3) * 7, rng.normal(size=3)
    grid = Grid.plane(
        centre, normal, size_mm=(width, height), spacing_mm=spacing, up=up if given_up else None
    )
    assert grid.shape == (max(1, round(width / spacing)), max(1, round(height / spacing)), 1)
    np.testing.assert_allclose(grid.centre(), centre, atol=1e-6)
    np.testing.assert_allclose(grid.spacing, spacing)
    unit = normal / np.linalg.norm(normal)
    np.testing.assert_allclose((grid.points() - np.array(centre)) @ unit, 0, atol=1e-6)
    np.testing.assert_allclose(grid.affine.axes.T @ grid.affine.axes, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(grid.affine.normal() @ unit, 1)
    assert np.linalg.det(grid.affine.axes) == pytest.approx(1)
    if given_up:
        assert grid.affine.axes[:, 1] @ up > 0
        assert grid.affine.axes[:, 0] @ up == pytest.approx(0, abs=1e-9)


def test_bad_planes():
    with pytest.raises(ValueError, match="zero vector"):
        Grid.plane((0, 0, 0), (0, 0, 0), size_mm=(9, 9), spacing_mm=1)
    with pytest.raises(ValueError, match="parallel"):
        Grid.plane((0, 0, 0), (0, 0, 1), size_mm=(9, 9), spacing_mm=1, up=(0, 0, 3))


@given(parts_of_affines, st.tuples(*[st.integers(1, 600)] * 3), st.integers(1, 100))
def test_shown_in_one_line(affine, shape, frames):
    affine = oblique(affine)
    assert toys.shown(affine).startswith("Affine(")
    words = f"{shape[0]} x {shape[1]} x {shape[2]}, "
    assert toys.shown(Grid(shape, affine, cycle_times(frames))).startswith(f"Grid({words}")


def test_shown():
    affine = Affine.scaling((1.5, 1.5625, 8.0), (-120.04, 0.0, 33.333))
    assert repr(affine) == "Affine(1.5 x 1.562 x 8 mm, origin (-120, 0, 33.3) mm)"
    assert repr(Grid((216, 256, 10), affine)) == "Grid(216 x 256 x 10, 1.5 x 1.562 x 8 mm, 1 frame)"
    assert repr(Grid((2, 3, 1), Affine.scaling((1, 1, 1)), cycle_times(30))) == (
        "Grid(2 x 3 x 1, 1 x 1 x 1 mm, 30 frames)"
    )
