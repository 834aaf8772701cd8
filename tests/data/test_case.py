from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.data.arrangement import Arrangement, in_plane
from nisf.data.case import UNKNOWN, Case, Points, Stack, intensity_range, slices_of_volume
from nisf.data.geometry import Affine
from nisf.data.region import pixel_positions


def loose(n=5, channels=1):
    rng = np.random.default_rng(0)
    index = np.full(n, -1)
    return Points(
        rng.normal(size=(n, 3)), np.zeros(n), rng.random((n, channels)), np.zeros(n, dtype=int), index, index
    )


def test_slices_of_a_volume():
    grid = toys.toy_grid((5, 6, 3), frames=2, axes=toys.rotation(3))
    image = np.random.default_rng(0).random((5, 6, 3, 2, 1)).astype(np.float32)
    label = np.random.default_rng(1).integers(0, 3, (5, 6, 3, 2))
    slices = slices_of_volume(image, label, grid)
    assert len(slices) == 6
    assert sorted((s.position, s.frame) for s in slices) == [(k, t) for k in range(3) for t in range(2)]
    for item in slices:
        np.testing.assert_array_equal(item.image, image[:, :, item.position, item.frame])
        np.testing.assert_array_equal(item.label, label[:, :, item.position, item.frame])
        assert np.shares_memory(item.image, image)
        assert item.time == grid.times[item.frame]
        assert item.thickness == pytest.approx(10)
        np.testing.assert_allclose(
            item.affine(np.array([2, 3, 0])), grid.affine(np.array([2, 3, item.position]))
        )
    assert {s.thickness for s in slices_of_volume(image, None, grid, thickness=6.0)} == {6.0}
    assert {s.label is None for s in slices_of_volume(image, None, grid)} == {True}


def test_channels_and_keep(toy_cohort):
    case = toy_cohort[0]
    assert case.channels == 1
    first = case.keep(lambda s: s.frame == 0)
    assert {s.frame for s in first.slices} == {0}
    assert len(first.slices) == len(case.slices) // 2
    with pytest.raises(ValueError, match="toy0: a case needs at least one slice or point"):
        case.keep(lambda _: False)


def test_case_of_points():
    points = loose(4, channels=2)
    case = Case("p", (), (), toys.LABELS, points=points)
    assert len(points) == 4
    assert case.channels == 2
    assert case.labelled() == ()
    with pytest.raises(ValueError, match="at least one"):
        Case("p", (), (), toys.LABELS, points=loose(0))


def test_background_comes_first():
    with pytest.raises(ValueError, match="first label must be 'background'"):
        Case("p", (), (), ("heart", "background"), points=loose())


def test_labelled_slices(toy_cohort):
    case = toy_cohort[0]
    first, second, *rest = case.slices
    assert first.label is not None
    unknown = replace(first, label=np.full_like(first.label, UNKNOWN))
    partly = replace(second, label=np.where(np.eye(24), 0, UNKNOWN))
    case = replace(case, slices=(unknown, partly, *(replace(s, label=None) for s in rest)))
    assert case.labelled() == (partly,)


def test_intensities():
    image = np.linspace(0, 100, 10_001).reshape(-1, 1)
    image = np.concatenate([image, 10 * image], axis=1)
    found = intensity_range(image)
    np.testing.assert_allclose(found, [[1, 99], [10, 990]])
    stack = Stack("sa", toys.toy_grid(), intensity_range=found)
    np.testing.assert_allclose(stack.normalise(np.array([[-5.0, 500], [50, 2000]])), [[0, 0.5], [0.5, 1]])
    inside = np.array([[3.0, 500], [77, 20]])
    np.testing.assert_allclose(stack.denormalise(stack.normalise(inside)), inside, rtol=1e-5)


def test_intensity_range_of_many_voxels_and_of_integers():
    image = np.arange(3_000_000, dtype=np.int32).reshape(-1, 1)
    np.testing.assert_allclose(intensity_range(image), [[30_000, 2_970_000]], rtol=1e-3)


def test_constant_image():
    stack = Stack("sa", toys.toy_grid(), intensity_range=np.array([[7.0, 7.0]]))
    assert np.isfinite(stack.normalise(np.full((3, 1), 7.0))).all()


def test_wrong_shapes_are_noticed():
    with pytest.raises(Exception, match="Type-check error"):
        Points(np.zeros((4, 3)), np.zeros(5), np.zeros((4, 1)), *[np.zeros(4, dtype=int)] * 3)


def test_world_of_a_slice_far_along_the_stack():
    grid = toys.toy_grid((2, 2, 3))
    item = slices_of_volume(np.zeros((2, 2, 3, 2, 1)), None, grid)[2]
    assert item.position == 2
    assert isinstance(item.affine, Affine)
    assert item.affine.origin[2] == pytest.approx(grid.affine.origin[2] + 20)


def test_shown():
    case = toys.toy_case(3)
    assert repr(case) == "Case('toy3', 24 x 24 x 6, 4 x 4 x 10 mm, 2 frames, 12 slices, 12 labelled)"
    assert repr(case.stacks[0]) == "Stack('sa', 24 x 24 x 6, 4 x 4 x 10 mm, 2 frames)"
    apart = replace(case.stacks[0], oriented=False)
    assert repr(apart) == "Stack('sa', 24 x 24 x 6, 4 x 4 x 10 mm, 2 frames, not oriented)"
    item = case.slices[8]
    assert repr(item) == "Slice(24 x 24, 4 x 4 mm, 10 mm thick, stack 0, position 2, frame 1, labelled)"
    unknown = replace(item, label=np.full_like(item.label, UNKNOWN))
    assert repr(unknown) == "Slice(24 x 24, 4 x 4 mm, 10 mm thick, stack 0, position 2, frame 1)"
    assert repr(loose(5, 2)) == "Points(5 points, 2 channels, 5 labelled)"
    alone = Case("p", (), (), toys.LABELS, points=loose(1))
    assert repr(alone) == "Case('p', 0 slices, 0 labelled, 1 point)"
    two = replace(case, name="two", stacks=case.stacks * 2, slices=(unknown,))
    assert repr(two) == "Case('two', 24 x 24 x 6, 4 x 4 x 10 mm, 2 frames, 2 stacks, 1 slice, 0 labelled)"


@given(st.integers(0, 99), st.integers(1, 40), st.booleans(), st.integers(0, 3))
def test_shown_in_one_line(seed, frames, labelled, count):
    grid = toys.toy_grid((7, 6, 2), frames, (1.3671875, 1.3671875, 9.6), toys.rotation(seed), (80, -9, 1))
    case = toys.toy_case(seed, grid, labelled=labelled)
    case = replace(case, points=loose(count) if count else None)
    for thing in (case, case.stacks[0], case.slices[-1], loose(count)):
        assert toys.shown(thing).startswith(f"{type(thing).__name__}(")


def test_another_in_plane_way_moves_nothing_in_the_world():
    case = toys.toy_case(0, toys.toy_grid((7, 5, 2), spacing=(2.0, 3.0, 10.0), axes=toys.rotation(3)))
    assert case.arranged(Arrangement()) is case
    for way in in_plane()[1:]:
        moved = case.arranged(way)
        assert moved.stacks[0].arrangement == way
        assert moved.stacks[0].grid.shape == way.of_shape((7, 5, 2))
        np.testing.assert_array_equal(way.undo(toys.image_of(moved)), toys.image_of(case))
        np.testing.assert_array_equal(way.undo(toys.label_of(moved)), toys.label_of(case))
        for old, new in zip(case.slices, moved.slices, strict=True):
            places = way.undo(pixel_positions(new)[:, :, None])[:, :, 0]
            np.testing.assert_allclose(places, pixel_positions(old), atol=1e-9)
            np.testing.assert_allclose(
                new.affine.matrix, moved.stacks[0].grid.affine.shifted((0, 0, new.position)).matrix, atol=1e-9
            )
            assert new.image.base is not None  # a view
