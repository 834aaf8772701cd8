from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.case import Case, Points
from nisf.networks.finder import SIZE, Finder, coarse_case, coarse_slice, doubts, look, region_from_finder
from nisf.networks.finder_training import train_finder

GRID = {"shape": (36, 36, 6), "frames": 2, "spacing": (4.0, 4.0, 10.0)}
HALF = (45.0, 45.0, 30.0)


@pytest.fixture(scope="module")
def finder():
    rng = np.random.default_rng(0)
    cases = [toys.toy_case(seed, toys.toy_grid(**GRID), (*rng.uniform(-25, 25, 2), 0.0)) for seed in range(6)]
    found = train_finder(cases, steps=70)
    assert found is not None
    return found


@pytest.mark.parametrize("shift", [(0, 0, 0), (28, -20, 0), (-30, 10, 0), (12, 30, 0)])
@pytest.mark.parametrize("axes", [np.eye(3), toys.rotation(2) * [-1, 1, 1]])
def test_unseen_subjects_are_found(finder, shift, axes):
    grid = toys.toy_grid(**GRID, axes=axes, centre=(100, -50, 20))
    case = toys.toy_case(70, grid, shift, labelled=False)
    region = region_from_finder(case, finder, HALF)
    assert region is not None
    found = axes.T @ (region.centre() - grid.centre())
    np.testing.assert_allclose(found, shift, atol=8)
    np.testing.assert_array_equal(region.half, HALF)
    rotation = region.pose.matrix[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


def test_the_same_again(finder, toy_cohort):
    a, b = train_finder(toy_cohort, steps=2, seed=1), train_finder(toy_cohort, steps=2, seed=1)
    assert a is not None
    assert b is not None
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    assert not finder.training
    assert not any(p.requires_grad for p in finder.parameters())


def test_random_numbers_of_others_are_left_alone(toy_cohort):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_finder(toy_cohort, steps=1)
    assert torch.equal(torch.rand(3), expected)


def test_nothing_to_see(finder):
    grid = toys.toy_grid(**GRID)
    case = toys.toy_case(70, grid)
    dark = replace(case, slices=tuple(replace(s, image=np.zeros_like(s.image)) for s in case.slices))
    assert region_from_finder(dark, finder, HALF) is None


def points_alone():
    index = np.array([-1])
    points = Points(np.zeros((1, 3)), np.zeros(1), np.zeros((1, 1)), np.array([1]), index, index)
    return Case("p", (), (), toys.LABELS, points=points)


def test_a_second_find(finder):
    grid = toys.toy_grid(**GRID)
    alone = toys.toy_case(70, grid, (-36, 0, 0), labelled=False)
    both = replace(
        alone,
        slices=tuple(
            replace(s, image=np.concatenate([s.image[:18], s.image[:18]]), label=None) for s in alone.slices
        ),
    )

    def found(case):
        return doubts(case, finder, region_from_finder(alone, finder, HALF))[1]

    assert found(alone) < 0.1
    assert found(both) > 0.3


def test_no_slices(finder, toy_cohort):
    assert region_from_finder(points_alone(), finder, HALF) is None
    # Among cases with slices, one without does no harm.
    assert train_finder([points_alone(), toy_cohort[0]], steps=1) is not None


def test_no_labels():
    assert train_finder([toys.toy_case(0, labelled=False)], steps=1) is None
    assert train_finder([points_alone()], steps=1) is None


def test_coarse_slice_keeps_the_centre():
    grid = toys.toy_grid((40, 30, 1), spacing=(2.0, 3.0, 8.0), frames=1)
    (item,) = toys.toy_case(0, grid).slices
    x, y = np.meshgrid(np.arange(40) * 2.0 - 39, np.arange(30) * 3.0 - 43.5, indexing="ij")
    for image, axis in ((x, 0), (y, 1)):
        coarse = coarse_slice(item, image, 1.25)
        assert coarse.shape == (SIZE, SIZE)
        expected = (np.arange(SIZE) - (SIZE - 1) / 2) * 1.25
        inside = np.abs(expected) < 30
        line = coarse[:, SIZE // 2] if axis == 0 else coarse[SIZE // 2]
        np.testing.assert_allclose(line[inside], expected[inside], atol=0.1)


def test_coarse_case_takes_a_few_frames():
    case = toys.toy_case(0, toys.toy_grid((8, 8, 6), frames=30))
    slices, images = coarse_case(case, 2.0)
    assert images.shape == (len(slices), SIZE, SIZE)
    assert len(slices) <= 64
    assert {s.position for s in slices} == set(range(6))
    assert {s.frame for s in slices} >= {0, 29}


@pytest.mark.parametrize(("frames", "examined"), [(30, 30), (120, 53)])
def test_the_region_is_looked_for_in_all_frames_of_a_usual_cine(finder, frames, examined):
    case = toys.toy_case(0, toys.toy_grid((8, 8, 6), frames=frames))
    slices, probability = look(case, finder)
    assert len(slices) == len(probability) == 6 * examined
    assert {s.position for s in slices} == set(range(6))
    assert len({s.frame for s in slices}) == examined


def test_the_region_does_not_depend_on_the_frame_at_which_a_cine_begins(finder):
    case = toys.toy_case(7, toys.toy_grid((36, 36, 6), frames=20, spacing=(4.0, 4.0, 10.0)))
    times, found = case.stacks[0].grid.times, []
    for first in (0, 1, 2, 11):
        turned = []
        for item in case.slices:
            frame = (item.frame - first) % 20
            # The anatomy lies elsewhere in every other frame, so some of the frames show one of both places.
            image = np.roll(item.image, 6 if item.frame % 2 else 0, axis=0)
            turned.append(replace(item, image=image, frame=frame, time=float(times[frame])))
        turned.sort(key=lambda item: (item.frame, item.position))
        region = region_from_finder(replace(case, slices=tuple(turned)), finder, HALF)
        assert region is not None
        found.append(region.centre())
    assert np.abs(np.array(found) - found[0]).max() < 1e-6


def test_shapes():
    assert Finder(1.5)(torch.zeros(2, 1, SIZE, SIZE)).shape == (2, SIZE // 2, SIZE // 2)
