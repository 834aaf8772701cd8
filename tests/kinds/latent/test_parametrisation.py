from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import toys
from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import Region, reference_pose, whole_region
from nisf.kinds.latent.parametrisation import (
    groups_of,
    latent_root,
    moved_region,
    parametrisation_of,
    placed_points,
    rotation,
)
from nisf.networks.latent_field import LatentField

ALL = FitConfig(shift_mm=4.0, gain=0.1, pose_mm=5.0, pose_degrees=10.0)


def oblique(seed=0):
    return toys.toy_case(seed, toys.toy_grid(axes=toys.rotation(3), centre=(10, -20, 30)))


@pytest.fixture
def points():
    case = oblique()
    return CasePoints(case, whole_region(case), 4)


@pytest.fixture
def subject(toy_prior, points):
    return parametrisation_of(
        toy_prior.field, toy_prior.latent_mean, toy_prior.latent_covariance, ALL, [points]
    )


def drawn(points, count=300):
    index = points.spread(np.random.default_rng(0), count)
    return index, placed_points([(points, index)], batch_of([(points, index)]).coordinates)


def test_rotation():
    turns = torch.tensor(
        [[0.0, 0.0, 0.0], [0.3, -0.2, 0.9], [1e-4, 0, 0]], dtype=torch.float64, requires_grad=True
    )
    expected = Rotation.from_rotvec(turns.detach().numpy()).as_matrix()
    np.testing.assert_allclose(rotation(turns).detach().numpy(), expected, atol=1e-9)
    (slope,) = torch.autograd.grad(rotation(turns)[0, 2, 1], turns)
    np.testing.assert_allclose(slope[0], [1, 0, 0], atol=1e-9)


def test_sizes_and_start(subject, toy_prior):
    assert subject.sizes == (12, 12, 12, 6)
    latent = toy_prior.latent_mean + torch.linspace(-1, 1, 12)
    found = subject.split(subject.join(latent[None]))
    torch.testing.assert_close(found[0][0], latent, atol=1e-4, rtol=1e-4)
    assert all((part == 0).all() for part in found[1:])
    only = replace(subject, shift_mm=0.0, gain=0.0, pose_mm=0.0, pose_degrees=0.0)
    assert only.sizes == (12, 0, 0, 0)
    assert only.split(only.join(latent[None]))[1:] == (None, None, None)


def test_nothing_moved_is_the_field_itself(subject, points):
    _, where = drawn(points)
    x = torch.zeros(1, sum(subject.sizes))
    plain = subject.field.intensity(where.coordinates, subject.mean[None])
    torch.testing.assert_close(subject.intensity(x, where), plain, atol=1e-5, rtol=1e-5)


def test_a_shift_moves_one_slice_along_its_image_axes(subject, points):
    """What is seen in a shifted slice is the tissue from which it has moved there."""
    index, where = drawn(points)
    x = torch.zeros(1, sum(subject.sizes))
    x[0, 12 + 2 * 3 : 12 + 2 * 4] = torch.tensor([8.0, -4.0]) / 4.0  # 8 and -4 mm
    seen = subject.intensity(x, where)[0]
    case = oblique()
    slice_index = points.slice[index]
    moved = np.array([case.slices[s].position == 3 for s in slice_index])
    assert 10 < moved.sum() < 100
    pixel = points.pixel[index].astype(float)
    back = np.array([2.0, -1.0])  # pixels of 4 mm
    world = np.stack(
        [
            case.slices[s].affine(np.array([*(p - back * m), 0.0]))
            for s, p, m in zip(slice_index, pixel, moved, strict=True)
        ]
    )
    coordinates = np.c_[points.region.coordinates(world), points.times[slice_index]].astype(np.float32)
    plain = subject.field.intensity(torch.from_numpy(coordinates)[None], subject.mean[None])[0]
    torch.testing.assert_close(seen, plain, atol=1e-4, rtol=1e-4)


def test_gain_and_offset_of_one_slice(subject, points):
    index, where = drawn(points)
    x = torch.zeros(1, sum(subject.sizes))
    x[0, 24:26] = torch.tensor([2.0, -3.0])  # of 0.1 each, first position
    plain = subject.intensity(torch.zeros_like(x), where)[0]
    own = torch.from_numpy(np.array([points.breath_holds[s] == (0, 0) for s in points.slice[index]]))
    expected = torch.where(own[:, None], 1.2 * plain - 0.3, plain)
    torch.testing.assert_close(subject.intensity(x, where)[0], expected)


def test_pose_is_that_of_a_moved_region(subject, points):
    index, where = drawn(points)
    x = torch.zeros(1, sum(subject.sizes))
    x[0, -6:] = torch.tensor([1.0, -0.5, 0.2, 0.5, -1.0, 0.3])
    region = moved_region(subject, x, points.region)
    assert abs(np.linalg.det(region.pose.matrix)) == pytest.approx(1.0)
    coordinates = torch.from_numpy(points.seen_from(region).coordinates(index))[None]
    plain = subject.field.intensity(coordinates, subject.mean[None])
    torch.testing.assert_close(subject.intensity(x, where), plain, atol=1e-4, rtol=1e-4)


def test_loose_points_belong_to_no_slice():
    case = replace(oblique(), points=toys_points())
    points = CasePoints(case, whole_region(case), 4)
    index = np.array([0, len(points) - 1])
    where = placed_points([(points, index)], batch_of([(points, index)]).coordinates)
    assert where.group.tolist() == [[0, -1]]
    assert (where.axes[0, 1] == 0).all()


def toys_points():
    from nisf.data.case import Points

    return Points(
        np.array([[10.0, -20.0, 30.0]]),
        np.array([0.25]),
        np.array([[0.5]]),
        np.array([-1]),
        np.array([-1]),
        np.array([-1]),
    )


def test_frames_of_a_position_share_a_breath_hold(points):
    assert groups_of(points) == [(0, position) for position in range(6)]
    assert len(points.breath_holds) == 12


def test_subjects_with_fewer_slices(subject):
    pool = []
    for depth in (6, 4):
        case = toys.toy_case(0, toys.toy_grid((24, 24, depth)))
        pool.append(CasePoints(case, whole_region(case), 4))
    items = [(case, case.spread(np.random.default_rng(0), 50)) for case in pool]
    where = placed_points(items, batch_of(items).coordinates)
    assert where.group.amax(1).tolist() == [5, 3]
    assert parametrisation_of(subject.field, subject.mean, torch.eye(12), ALL, pool).groups == 6


def test_latent_root():
    a = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = a @ a.T  # without full rank
    for shrinkage in (0.1, 0.5, 1.0):
        root = latent_root(covariance, shrinkage)
        even = torch.eye(5).double() * torch.trace(covariance) / 5
        torch.testing.assert_close(root @ root.T, (1 - shrinkage) * covariance + shrinkage * even)
        assert (root.triu(1) == 0).all()


def test_region_moved():
    case = oblique()
    region = Region(reference_pose(case, (1.0, 2.0, 3.0), reverse=True), np.array([10.0, 20, 30]))
    turn = np.array([0.1, -0.2, 0.3])
    moved = region.moved(np.array([4.0, 5.0, 6.0]), turn)
    world = np.random.default_rng(0).normal(size=(7, 3)) * 20
    expected = region.pose(world) @ Rotation.from_rotvec(turn).as_matrix().T + [4, 5, 6]
    np.testing.assert_allclose(moved.pose(world), expected)
    np.testing.assert_array_equal(moved.half, region.half)


def test_a_field_of_two_dimensions_is_shifted_and_turned_in_its_plane():
    torch.manual_seed(0)
    field = LatentField(toys.settings(field={"dimensions": 2}).field)
    case = toys.toy_case(0, toys.toy_grid((24, 24, 1), frames=1))
    points = CasePoints(case, whole_region(case), 2)
    model = parametrisation_of(field, torch.zeros(12), torch.eye(12), ALL, [points])
    index, where = drawn(points)
    x = torch.zeros(1, sum(model.sizes))
    x[0, 12:14] = torch.tensor([8.0, -4.0]) / 4.0  # 8 and -4 mm
    x[0, -6:] = torch.tensor([1.0, -0.5, 0.0, 0.0, 0.0, 0.3])
    region = moved_region(model, x, points.region)
    # A shift of 2 and -1 pixels of 4 mm.
    world = case.slices[0].affine(np.c_[points.pixel[index] - [2.0, -1.0], np.zeros(len(index))])
    coordinates = torch.from_numpy(region.coordinates(world)[:, :2].astype(np.float32))[None]
    seen = replace(model, gain=0.0).intensity(torch.cat([x[:, :14], x[:, -6:]], dim=1), where)
    torch.testing.assert_close(seen, field.intensity(coordinates, torch.zeros(1, 12)), atol=1e-4, rtol=1e-4)
