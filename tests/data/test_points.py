from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toys
from nisf.data.case import UNKNOWN, Case, Points
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import Region, reference_pose, region_from_labels, whole_region


def oblique_case(seed=1, *, labelled=True, **options):
    axes = toys.rotation(seed) * np.array([1, -1, 1])
    grid = toys.toy_grid(axes=axes, centre=(30, -80, 200), **options)
    return toys.toy_case(seed, grid, labelled=labelled)


def loose(position, time=0.25, label=1):
    n = len(position)
    index = np.full(n, -1)
    return Points(
        np.asarray(position, dtype=float),
        np.full(n, time),
        np.linspace(0, 1000, n)[:, None],
        np.full(n, label),
        index,
        index,
    )


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("half", [(31.3, 25.7, 19.9), None])
def test_coordinates_golden(half, dimensions):
    """Every voxel, one after the other, the slow and obvious way."""
    case = oblique_case(shape=(14, 13, 4), spacing=(6.0, 7.0, 12.0))
    region = whole_region(case)
    if half is not None:
        region = region_from_labels(case, half, order=True)
        assert region is not None
    stack = case.stacks[0]
    coordinates, intensity, label, frame = [], [], [], []
    for item in case.slices:
        assert item.label is not None
        for i in range(item.image.shape[0]):
            for j in range(item.image.shape[1]):
                place = region.coordinates(item.affine(np.array([i, j, 0])))
                if np.abs(place).max() <= 1:
                    coordinates.append([*place, item.time][:dimensions])
                    intensity.append(stack.normalise(item.image[i, j]))
                    label.append(item.label[i, j])
                    frame.append(item.frame)
    points = CasePoints(case, region, dimensions)
    assert len(points) == len(coordinates) > 300
    np.testing.assert_allclose(points.coordinates(np.arange(len(points))), coordinates, atol=1e-6)
    np.testing.assert_array_equal(points.intensity, intensity)
    np.testing.assert_array_equal(points.label, label)
    np.testing.assert_array_equal(points.frames[points.slice], frame)
    # Any order, any number of times.
    index = np.random.default_rng(0).integers(len(points), size=50)
    np.testing.assert_allclose(points.coordinates(index), np.array(coordinates)[index], atol=1e-6)


def test_draw_is_balanced():
    case = oblique_case()
    points = CasePoints(case, whole_region(case), 4)
    rng = np.random.default_rng(0)
    share = np.bincount(points.label, minlength=3) / len(points)
    uniform = points.draw(rng, 30_000)
    found = np.bincount(points.label[uniform], minlength=3) / 30_000
    np.testing.assert_allclose(found, share, atol=0.01)
    half = points.draw(rng, 30_000, balanced=0.5)
    assert len(half) == 30_000
    found = np.bincount(points.label[half], minlength=3) / 30_000
    np.testing.assert_allclose(found, 0.5 * share + 0.5 / 3, atol=0.01)
    all_ = points.draw(rng, 30_001, balanced=1.0)
    assert len(all_) == 30_001
    found = np.bincount(points.label[all_], minlength=3) / 30_001
    np.testing.assert_allclose(found, 1 / 3, atol=0.001)


def test_draw_depends_on_the_generator_alone():
    case = oblique_case()
    points = CasePoints(case, whole_region(case), 4)
    a, b, c = (points.draw(np.random.default_rng(s), 100, 0.3) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_spread_takes_one_of_every_part():
    case = oblique_case()
    points = CasePoints(case, whole_region(case), 4)
    for count in (7, 300, len(points)):
        index = points.spread(np.random.default_rng(0), count)
        edges = np.arange(count + 1) * len(points) / count
        assert ((index >= np.floor(edges[:-1])) & (index < np.ceil(edges[1:]))).all()
    np.testing.assert_array_equal(index, np.arange(len(points)))
    more = points.spread(np.random.default_rng(0), 2 * len(points))  # than there are
    assert more.max() < len(points)
    a, b, c = (points.spread(np.random.default_rng(s), 100) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_frame_is_one_whole_frame():
    case = oblique_case()
    points = CasePoints(case, whole_region(case), 4)
    seen = set()
    for seed in range(10):
        index = points.frame(np.random.default_rng(seed))
        (frame,) = set(points.frames[points.slice[index]].tolist())
        assert len(index) == 24 * 24 * 6
        seen.add(frame)
    assert seen == {0, 1}


def test_frame_is_the_plain_selection():
    """Slices in the file's order, some frames without a voxel inside, drawn as one would by hand."""
    case = toys.toy_case(4, toys.toy_grid(frames=5))
    region = region_from_labels(case, (30.0, 30.0, 15.0), order=False)
    assert region is not None
    points = CasePoints(case, region, 4)
    for seed in range(8):
        chosen = points.frame(np.random.default_rng(seed))
        frame = np.random.default_rng(seed).choice(np.unique(points.frames[np.unique(points.slice)]))
        np.testing.assert_array_equal(chosen, np.flatnonzero(points.frames[points.slice] == frame))


def test_no_labels_are_unknown():
    case = oblique_case(labelled=False)
    points = CasePoints(case, whole_region(case), 4)
    assert (points.label == UNKNOWN).all()
    assert points.of_class == []
    assert len(points.draw(np.random.default_rng(0), 10, balanced=1.0)) == 10


def test_unknown_pixels_are_in_no_class():
    case = oblique_case()
    slices = tuple(
        replace(s, label=np.where(np.asarray(s.label) == 2, UNKNOWN, s.label)) for s in case.slices
    )
    points = CasePoints(replace(case, slices=slices), whole_region(case), 4)
    assert (points.label == UNKNOWN).any()
    assert {int(points.label[i[0]]) for i in points.of_class} == {0, 1}
    drawn = points.draw(np.random.default_rng(0), 100, balanced=1.0)
    assert (points.label[drawn] != UNKNOWN).all()


def test_loose_points_beside_slices():
    case = oblique_case()
    region = region_from_labels(case, (30.0, 30.0, 20.0), order=False)
    assert region is not None
    inside = region.pose.inverse(np.array([[0.0, 0, 0], [29, -29, 19]]))
    outside = region.pose.inverse(np.array([[0.0, 0, 21]]))
    alone = CasePoints(case, region, 4)
    points = CasePoints(replace(case, points=loose([inside[0], outside[0], inside[1]])), region, 4)
    n = len(alone)
    assert len(points) == n + 2
    found = points.coordinates(np.array([n + 1, 3, n]))
    np.testing.assert_allclose(found[0], [29 / 30, -29 / 30, 19 / 20, 0.25], atol=1e-6)
    np.testing.assert_array_equal(found[1:2], alone.coordinates(np.array([3])))
    np.testing.assert_allclose(found[2], [0, 0, 0, 0.25], atol=1e-6)
    expected = case.stacks[0].normalise(np.array([[0.0], [1000.0]]))
    np.testing.assert_array_equal(points.intensity[n:], expected)
    assert points.label[n:].tolist() == [1, 1]
    np.testing.assert_array_equal(points.intensity[:n], alone.intensity)


def test_loose_points_alone():
    case = Case("p", (), (), toys.LABELS, points=loose(np.eye(3) * 5))
    pose = reference_pose(case, (0.0, 0.0, 0.0))
    points = CasePoints(case, Region(pose, np.array([10.0, 10, 10])), 4)
    assert len(points) == 3
    np.testing.assert_allclose(points.coordinates(np.arange(3)), np.c_[np.eye(3) / 2, np.full(3, 0.25)])
    np.testing.assert_array_equal(points.frame(np.random.default_rng(0)), [0, 1, 2])
    assert points.draw(np.random.default_rng(0), 7).max() < 3
    np.testing.assert_allclose(points.intensity[:, 0], [0, 500, 1000])  # no stack to scale by


def test_nothing_inside():
    case = oblique_case()
    assert len(CasePoints(case, Region(reference_pose(case, (900, 0, 0)), np.ones(3)), 4)) == 0


def test_batch_is_padded_with_nothing():
    a, b = (CasePoints(c, whole_region(c), 3) for c in (oblique_case(1), oblique_case(2)))
    index = np.arange(100, 110), np.arange(4)
    batch = batch_of([(a, index[0]), (b, index[1])], pad_to=8)
    assert batch.coordinates.shape == (2, 16, 3)
    assert batch.weight.sum(1).tolist() == [10, 4]
    np.testing.assert_array_equal(batch.coordinates[0, :10], a.coordinates(index[0]))
    np.testing.assert_array_equal(batch.intensity[1, :4], b.intensity[index[1]])
    np.testing.assert_array_equal(batch.label[0, :10], a.label[index[0]])
    assert (batch.label[batch.weight == 0] == UNKNOWN).all()
    assert batch_of([(a, index[0])], pad_to=10).coordinates.shape[1] == 10
    assert batch_of([(a, index[0])]).coordinates.shape[1] == 10


@pytest.mark.parametrize("view", [{"quarters": 1}, {"quarters": 2, "mirror": True}, {"reverse": True}])
def test_seen_from_a_turned_region_is_drawing_anew(view):
    case = toys.toy_case(3)
    region = whole_region(case)
    points = CasePoints(case, region, 4)
    turned = points.seen_from(region.turned(**view))
    anew = CasePoints(case, region.turned(**view), 4)
    index = np.arange(len(points))
    np.testing.assert_allclose(turned.coordinates(index), anew.coordinates(index), atol=1e-6)
    np.testing.assert_array_equal(turned.intensity, anew.intensity)
    assert turned.intensity is points.intensity
    assert not np.allclose(turned.coordinates(index), points.coordinates(index))


def test_shown():
    case = toys.toy_case(3)
    region = whole_region(case)
    points = CasePoints(case, region, 4)
    assert repr(points) == "CasePoints('toy3', 6912 points, 12 slices, 6912 labelled)"
    assert "6912 points, 12 slices, 0 labelled" in repr(CasePoints(unlabelled(case), region, 4))
    batch = batch_of([(points, np.arange(7)), (points, np.arange(5))], pad_to=8)
    assert repr(batch) == "Batch(2 subjects, 8 points, 1 channel, cpu)"


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 50))
def test_shown_in_one_line(seed, subjects, count):
    case = oblique_case(seed, shape=(6, 5, 2))
    points = CasePoints(case, whole_region(case), 4)
    assert toys.shown(points).startswith(f"CasePoints('toy{seed}', ")
    assert toys.shown(batch_of([(points, np.arange(count))] * subjects)).startswith("Batch(")


def unlabelled(case):
    return replace(case, slices=tuple(replace(item, label=None) for item in case.slices))
