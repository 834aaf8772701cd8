import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.data.arrangement import in_plane
from nisf.data.case import Case, Points, Stack, slices_of_volume
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.outline import box_of, outline, outlines_of
from nisf.data.region import (
    Region,
    labelled_positions,
    larger_end_last,
    mean_shift,
    over_all_slices,
    pixel_positions,
    reference_pose,
    region_from_labels,
    region_from_motion,
    whole_region,
)

HALF = (40.0, 40.0, 30.0)
FLIPS = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)]
seeds = st.integers(0, 1000)


def oblique(seed, flip=(1, 1, 1), **options):
    centre = np.random.default_rng(seed).uniform(-200, 200, 3)
    return toys.toy_grid(axes=toys.rotation(seed) * np.array(flip), centre=centre, **options)


def rotation_of(pose):
    return pose.matrix[:3, :3]


@given(seeds, st.sampled_from(FLIPS), st.booleans())
def test_pose_is_rigid(seed, flip, reverse):
    case = toys.toy_case(0, oblique(seed, flip))
    pose = reference_pose(case, (1.0, 2.0, 3.0), reverse=reverse)
    np.testing.assert_allclose(rotation_of(pose) @ rotation_of(pose).T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(pose(np.array([1.0, 2.0, 3.0])), 0, atol=1e-9)
    # Model axes run along the stack's, the third one against it if reversed.
    along = rotation_of(pose) @ case.stacks[0].grid.affine.axes
    np.testing.assert_allclose(along, np.diag([1, 1, -1 if reverse else 1]), atol=1e-9)


def test_pose_of_a_sheared_affine_is_rigid():
    matrix = np.diag([2.0, 2, 5, 1])
    matrix[0, 1], matrix[1, 2] = 0.4, 1.0
    grid = Grid((6, 6, 3), Affine(matrix), cycle_times(2))
    pose = reference_pose(toys.toy_case(0, grid), (0, 0, 0))
    np.testing.assert_allclose(rotation_of(pose) @ rotation_of(pose).T, np.eye(3), atol=1e-12)


def test_box():
    region = Region(Affine.rigid(toys.rotation(1), (5, 6, 7)), np.array([10.0, 20, 30]))
    np.testing.assert_allclose(region.centre(), [5, 6, 7])
    edge = region.pose.inverse(np.array([[9.99, -19.9, 29.9], [10.01, 0, 0], [0, 0, -30.1]]))
    np.testing.assert_array_equal(region.contains(edge), [True, False, False])
    np.testing.assert_allclose(region.coordinates(edge)[0], [0.999, -0.995, 29.9 / 30])


@given(seeds)
def test_turned(seed):
    region = Region(Affine.rigid(toys.rotation(seed), (5, 6, 7)), np.array([10.0, 20, 30]))
    world = np.random.default_rng(seed).uniform(-40, 40, (20, 3))
    x, y, z = region.pose(world).T
    seen = set()
    for quarters, (u, v) in enumerate([(x, y), (-y, x), (-x, -y), (y, -x)]):
        other = region.turned(quarters)
        np.testing.assert_allclose(other.pose(world).T, [u, v, z], atol=1e-9)
        np.testing.assert_array_equal(other.contains(world), region.contains(world))
        np.testing.assert_allclose(other.centre(), region.centre(), atol=1e-9)
        for mirror in (False, True):
            for reverse in (False, True):
                view = region.turned(quarters, mirror=mirror, reverse=reverse)
                np.testing.assert_array_equal(view.contains(world), region.contains(world))
                seen.add(tuple(np.round(view.pose(world[:1])[0], 6)))
    assert len(seen) == 16
    np.testing.assert_allclose(region.turned(mirror=True).pose(world).T, [-x, y, z], atol=1e-9)
    np.testing.assert_allclose(region.turned(reverse=True).pose(world).T, [x, y, -z], atol=1e-9)


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_region_from_labels_is_centred_on_the_structures(seed, flip):
    grid = oblique(seed, flip)
    shift = np.array([8.0, -12.0, 0.0])
    case = toys.toy_case(3, grid, shift)
    region = region_from_labels(case, HALF, order=True)
    assert region is not None
    expected = grid.centre() + grid.affine.axes @ shift
    np.testing.assert_allclose(region.centre(), expected, atol=2.1)  # half a voxel
    assert region.contains(labelled_positions(case)).all()
    np.testing.assert_array_equal(region.half, HALF)


@pytest.mark.parametrize("flip", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_order_of_voxels_does_not_move_the_region(flip):
    """The same volume, stored the other way round along some axes."""
    grid = oblique(4, frames=4)
    case = toys.toy_case(3, grid, (8, 4, 0))
    image, label = toys.image_of(case), toys.label_of(case)
    axes = [a for a in range(3) if flip[a] < 0]
    last = [n - 1 if f < 0 else 0 for n, f in zip(grid.shape, flip, strict=True)]
    affine = Affine(grid.affine.shifted(last).matrix @ np.diag([*flip, 1.0]))
    stored = Grid(grid.shape, affine, grid.times)
    slices = slices_of_volume(np.flip(image, axes), np.flip(label, axes), stored)
    other = Case("flipped", (Stack("sa", stored),), slices, toys.LABELS)
    a, b = region_from_labels(case, HALF, order=True), region_from_labels(other, HALF, order=True)
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(b.centre(), a.centre(), atol=1e-9)
    np.testing.assert_allclose(whole_region(other).centre(), whole_region(case).centre(), atol=1e-9)
    # Ordered by size, the third model axis means the same for both.
    np.testing.assert_allclose(rotation_of(a.pose)[2], rotation_of(b.pose)[2], atol=1e-9)
    moving = region_from_motion(case, HALF), region_from_motion(other, HALF)
    assert moving[0] is not None
    assert moving[1] is not None
    np.testing.assert_allclose(moving[0].centre(), moving[1].centre(), atol=1e-6)


def test_larger_end_last(toy_cohort):
    case = toy_cohort[0]
    assert not larger_end_last(case)
    label = toys.label_of(case)
    turned = slices_of_volume(toys.image_of(case), np.flip(label, 2), case.stacks[0].grid)
    assert larger_end_last(replace(case, slices=turned))
    assert not larger_end_last(toys.toy_case(0, labelled=False))
    one = case.keep(lambda s: s.position == 2)
    assert not larger_end_last(one)


def test_no_labels(toy_cohort):
    case = toys.toy_case(0, labelled=False)
    assert region_from_labels(case, HALF, order=True) is None
    with pytest.raises(ValueError, match="no case has labels"):
        box([case], 10)
    # An unlabelled case has no say beside a labelled one.
    np.testing.assert_array_equal(box([case, toy_cohort[0]], 10), box([toy_cohort[0]], 10))


def box(cases, margin_mm):
    return box_of(outlines_of(cases, order=True), margin_mm)


def test_the_box_of_a_cohort(toy_cohort):
    with_margin, without = box(toy_cohort, 12.0), box(toy_cohort, 0.0)
    np.testing.assert_allclose(with_margin - without, 12)
    assert with_margin[0] == with_margin[1]
    for case in toy_cohort:
        region = region_from_labels(case, with_margin, order=True)
        assert region is not None
        assert region.contains(labelled_positions(case)).all()
    label = toys.label_of(toy_cohort[0])
    index = np.argwhere(label.any(3))
    extent = (index.max(0) - index.min(0)) * [4, 4, 10] / 2
    np.testing.assert_allclose(box(toy_cohort[:1], 0)[2], extent[2])
    np.testing.assert_allclose(box(toy_cohort[:1], 0)[0], extent[:2].max())


def test_structures_in_a_single_slice_have_a_box(toy_cohort):
    case = toy_cohort[0]
    flat = replace(case, slices=tuple(s for s in case.slices if s.position == 3))
    found = outline(flat, order=True)
    assert found.half is not None
    assert found.half[2] == 0
    region = region_from_labels(flat, HALF, order=True)
    np.testing.assert_array_equal(found.pose.matrix, region.pose.matrix)
    assert box([flat], 12)[2] == 12
    assert box([flat], 0)[2] == 0.5


@pytest.mark.parametrize("flip", FLIPS)
def test_whole_region_holds_every_pixel(flip):
    case = toys.toy_case(0, oblique(7, flip))
    region = whole_region(case)
    places = np.concatenate([pixel_positions(s).reshape(-1, 3) for s in case.slices])
    assert region.contains(places).all()
    np.testing.assert_allclose(region.centre(), case.stacks[0].grid.centre(), atol=1e-9)
    np.testing.assert_allclose(region.half, [23 * 2 + 0.5, 23 * 2 + 0.5, 25 + 5])


def test_whole_region_of_one_slice_of_one_row():
    grid = Grid((1, 8, 1), Affine.scaling((2, 2, 6)))
    slices = slices_of_volume(np.zeros((1, 8, 1, 1, 1)), None, grid)
    region = whole_region(Case("row", (Stack("sa", grid),), slices, toys.LABELS))
    assert region.contains(pixel_positions(slices[0])).all()
    np.testing.assert_allclose(region.half, [0.5, 7.5, 3])


def test_whole_region_of_points_beside_slices():
    case = toys.toy_case(0)
    index = np.array([-1])
    far = Points(np.array([[300.0, 0, 0]]), np.zeros(1), np.zeros((1, 1)), index, index, index)
    region = whole_region(replace(case, points=far))
    assert region.contains(far.position).all()
    alone = whole_region(Case("p", (), (), toys.LABELS, points=far))
    np.testing.assert_allclose(alone.centre(), far.position[0])


def moving(shift, *, distractor=True, frames=8):
    grid = oblique(5, shape=(48, 48, 6), frames=frames)
    case = toys.toy_case(2, grid, shift, noise=0.01)
    image = toys.image_of(case).copy()
    if distractor:
        image[2:8, 40:46] = 5000.0  # bright, but it does not move
    return replace(case, slices=slices_of_volume(image, None, grid))


@pytest.mark.parametrize("shift", [(0, 0, 0), (24, -20, 0), (-30, 16, 0)])
def test_region_from_motion(shift):
    case = moving(shift)
    region = region_from_motion(case, HALF)
    assert region is not None
    grid = case.stacks[0].grid
    found = grid.affine.axes.T @ (region.centre() - grid.centre())
    np.testing.assert_allclose(found[:2], shift[:2], atol=3)
    assert abs(found[2]) < 10


def test_no_motion():
    assert region_from_motion(moving((0, 0, 0), frames=2), HALF) is None
    still = moving((0, 0, 0))
    grid = still.stacks[0].grid
    image = np.repeat(toys.image_of(still)[:, :, :, :1], 8, axis=3)
    assert region_from_motion(replace(still, slices=slices_of_volume(image, None, grid)), HALF) is None


def test_two_things_that_move_far_apart():
    """The mean lies between them, where nothing moves: still a region, without a crash."""
    grid = toys.toy_grid((60, 8, 1), frames=4, spacing=(10, 10, 10))
    image = np.zeros((60, 8, 1, 4, 1))
    image[[0, 59], 4, 0, ::2] = 1.0
    case = Case("two", (Stack("sa", grid),), slices_of_volume(image, None, grid), toys.LABELS)
    region = region_from_motion(case, HALF)
    assert region is not None
    assert np.isfinite(region.centre()).all()


def test_mean_shift_finds_the_dense_place():
    rng = np.random.default_rng(0)
    dense, stray = rng.normal((30, 0, 0), 3, (300, 3)), np.tile([-90.0, 0, 0], (50, 1))
    places, weight = np.concatenate([dense, stray]), np.ones(350)
    centre, inside = mean_shift(places, weight, (40.0, 40.0, 40.0))
    np.testing.assert_allclose(centre, dense.mean(0), atol=0.1)
    assert inside[:300].all()
    assert not inside[300:].any()
    # What has no weight is not in the window, wherever it lies.
    weight[:10] = 0
    _, inside = mean_shift(places, weight, (40.0, 40.0, 40.0))
    assert not inside[:10].any()


def test_mean_shift_in_a_window_that_is_open_along_an_axis():
    places = np.array([[0.0, 0, -500], [0, 0, 500], [0, 0, 30], [80, 0, 0]])
    centre, inside = mean_shift(places, np.array([1.0, 1, 1, 0.01]), (30.0, 30.0))
    np.testing.assert_allclose(centre, [0, 0, 10], atol=0.3)
    assert inside.tolist() == [True, True, True, False]


def test_mean_shift_between_two_places_finds_nothing():
    centre, inside = mean_shift(np.array([[-90.0, 0, 0], [90, 0, 0]]), np.ones(2), (40.0, 40.0, 40.0))
    np.testing.assert_array_equal(centre, [0, 0, 0])
    assert not inside.any()


@pytest.mark.parametrize("offset", [0.0, 40.0, -40.0])
def test_over_all_slices(offset):
    case = toys.toy_case(1)
    axes = case.stacks[0].grid.affine.axes
    centre = case.stacks[0].grid.centre() + offset * axes[:, 2]
    region = Region(Affine.rigid(axes.T, centre), np.array([20.0, 20.0, 10.0]))
    longer = over_all_slices(case, region)
    for item in case.slices:
        middle = item.affine(np.array([12, 12, 0]))
        assert abs(longer.coordinates(middle)[2]) < 1
    np.testing.assert_allclose(longer.half[:2], region.half[:2])
    np.testing.assert_allclose(longer.pose.matrix, region.pose.matrix)
    # One that is long enough stays as it is.
    large = Region(region.pose, np.array([20.0, 20.0, 500.0]))
    np.testing.assert_allclose(over_all_slices(case, large).half, large.half)


def test_shown():
    region = Region(Affine.rigid(np.eye(3), (10.0, -20.04, 0.0)), np.array([40.0, 40.0, 32.5]))
    assert repr(region) == "Region(80 x 80 x 65 mm around (10, -20, 0) mm)"


@given(seeds, st.sampled_from(FLIPS))
def test_shown_in_one_line(seed, flip):
    assert toys.shown(whole_region(toys.toy_case(0, oblique(seed, flip)))).startswith("Region(")


def test_the_whole_region_of_a_cine_takes_the_memory_of_a_slice():
    case = toys.toy_case(1, toys.toy_grid((100, 100, 6), frames=20))
    tracemalloc.start()
    region = whole_region(case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # the places of one slice take 0.2 MB, of all 29 MB
    np.testing.assert_allclose(region.half, [200.0, 200.0, 30.0], atol=2.0)
    first = case.keep(lambda item: item.frame == 0)
    np.testing.assert_array_equal(whole_region(first).pose.matrix, region.pose.matrix)


def test_along_the_axes_of_a_stack_that_is_stored_another_way():
    case = toys.toy_case(0, toys.toy_grid(axes=toys.rotation(4)))
    region = Region(reference_pose(case, (1.0, 2.0, 3.0)), np.array([10.0, 20, 30]))
    for way in in_plane():
        found = region.arranged(way)
        expected = reference_pose(case.arranged(way), (1.0, 2.0, 3.0))
        np.testing.assert_allclose(found.pose.matrix, expected.matrix, atol=1e-9)
        np.testing.assert_array_equal(found.half, [20, 10, 30] if way.axes[0] else [10, 20, 30])
