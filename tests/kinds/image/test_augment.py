from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import toys
from nisf.config.schema import AugmentConfig
from nisf.data.case import UNKNOWN
from nisf.kinds.image.augment import draw_sample, phase_stacks
from nisf.kinds.image.lighting import degraded
from nisf.kinds.image.views import draw_view, for_anatomy, hidden_slices, padded

STILL = AugmentConfig(
    window=99, hide=0, scale=0, scale_z=0, centre_mm=0, bend_mm=0, slice_shift_mm=0, gamma=0, gain=0,
    offset=0, bias=0, slice_gain=0, blur=0, noise=0,
)  # fmt: skip
IMAGE = toys.IMAGE.image


def the_stack(case=None):
    case = toys.toy_case(0, noise=0.0) if case is None else case
    return phase_stacks(case, case.stacks[0].grid.centre(), IMAGE.pixel_mm)[0]


def test_measured():
    case = toys.toy_case(0)
    stacks = phase_stacks(case, (0.0, 0.0, 5.0), IMAGE.pixel_mm)
    assert len(stacks) == 2  # one per frame
    assert stacks[0].images.shape == (6, 1, 24, 24)
    np.testing.assert_allclose(stacks[0].z, [-30, -20, -10, 0, 10, 20], atol=1e-5)
    np.testing.assert_allclose(stacks[0].middle, np.full((6, 2), 46.0), atol=1e-5)
    np.testing.assert_array_equal(stacks[1].labels[4], case.slices[10].label)
    assert phase_stacks(toys.toy_case(0, labelled=False), (0.0, 0.0, 0.0), IMAGE.pixel_mm) == []


def test_slices_without_labels_are_unknown():
    case = toys.toy_case(0)
    slices = tuple(replace(s, label=None) if s.position == 2 else s for s in case.slices)
    (first, _) = phase_stacks(replace(case, slices=slices), (0.0, 0.0, 0.0), IMAGE.pixel_mm)
    assert (first.labels[2] == UNKNOWN).all()
    assert (first.labels[3] != UNKNOWN).all()


@pytest.mark.parametrize("seed", range(4))
def test_labels_stay_with_their_image(seed):
    """Whatever the warp: blood is bright, muscle is grey, and so says the canvas at the same place."""
    config = replace(STILL, scale=0.2, scale_z=0.25, centre_mm=5.0, bend_mm=3.0, slice_shift_mm=2.0)
    sample = draw_sample(the_stack(), IMAGE, config, 400, np.random.default_rng(seed))
    medians = [sample.intensity[sample.label == k, 0].median() for k in range(3)]
    assert medians[1] > medians[2] + 0.2
    assert medians[2] > medians[0] + 0.1
    pixel = torch.einsum("ij,pj->pi", sample.maps[0, :2, :3], sample.points) + sample.maps[0, :2, 3]
    on = (sample.points[:, 2] + sample.maps[:, 2, 3:]).abs() < 1e-3  # slice, point
    u, v = pixel.round().long().unbind(1)
    nearest = torch.stack([sample.images[on[:, p].long().argmax(), 0, u[p], v[p]] for p in range(len(u))])
    assert (nearest - sample.intensity[:, 0]).abs().median() < 0.02


def test_without_augmentation_all_is_a_turn_of_what_was_measured():
    stack = the_stack()
    sample = draw_sample(stack, IMAGE, STILL, 50, np.random.default_rng(0))
    assert len(sample.images) == 6
    np.testing.assert_allclose(np.sort(sample.maps[:, 2, 3].abs()), np.sort(stack.z.abs()), atol=1e-5)
    radius = sample.points[:, :2].norm(dim=1)
    blood = radius[sample.label == 1]
    case = toys.toy_case(0, noise=0.0)
    places = case.stacks[0].grid.points()[toys.label_of(case)[..., 0] == 1]
    assert blood.max() <= np.linalg.norm(places[:, :2], axis=1).max() + 3.0


def test_hidden_slices_are_scored_but_not_given():
    config = replace(STILL, hide=1.0)
    for seed in range(8):
        sample = draw_sample(the_stack(), IMAGE, config, 20, np.random.default_rng(seed))
        assert 1 <= len(sample.images) < 6
        assert len(sample.points) == 6 * 20
        assert len(sample.points[:, 2].unique()) == 6


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_hidden_patterns(count):
    rng = np.random.default_rng(0)
    patterns = [hidden_slices(count, rng) for _ in range(50)]
    assert all(len(p) == count and not p.all() for p in patterns)
    if count < 3:
        assert not np.any(patterns)
    else:
        assert len({tuple(p) for p in patterns}) > 2


def test_by_seed():
    a, b, c = (
        draw_sample(the_stack(), IMAGE, AugmentConfig(), 30, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.label, b.label)
    assert not torch.equal(a.points[:30], c.points[:30])


def test_only_what_the_anatomy_allows():
    """Files that show an anatomy one way teach it one way: hardly turned, not mirrored, in order."""
    upright = for_anatomy(replace(STILL, centre_mm=0), replace(toys.ANATOMY, turn=False, reorder=False))
    assert for_anatomy(STILL, replace(toys.ANATOMY, turn=True, reorder=True)) == STILL
    stack = the_stack()
    corner = torch.zeros_like(stack.images)
    corner[:, :, 16:, 10:14] = 1.0  # a mark on one side
    marked = replace(stack, images=corner)
    for seed in range(6):
        sample = draw_sample(marked, IMAGE, upright, 20, np.random.default_rng(seed))
        np.testing.assert_allclose(sample.maps[:, 2, 3], -stack.z, atol=1e-5)
        image = sample.images[0, 0]
        assert image[20:].sum() > 10 * image[:12].sum()


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.6])
def test_blur_is_gaussian(sigma):
    config = replace(STILL, blur=1.0, blur_pixels=1.6)
    view = padded([draw_view(2, STILL, np.random.default_rng(0))], 2)
    view = replace(view, blur=torch.tensor([[sigma, 1.2, 1.0]]))
    image = torch.zeros(1, 2, 1, 21, 21)
    image[..., 10, 10] = 1.0
    flat = torch.zeros_like(image)
    blurred = degraded(image, view, flat, torch.zeros(21, 21, 2), torch.zeros(1, 2), config)
    reach = [np.ceil(2.5 * s) / s for s in (sigma, 1.2)]
    expected = gaussian_filter(image[0, 0, 0].numpy(), (sigma, 0), truncate=reach[0])
    expected = gaussian_filter(expected, (0, 1.2), truncate=reach[1])
    for one in blurred[0, :, 0]:
        np.testing.assert_allclose(one.numpy(), expected, atol=1e-5)
