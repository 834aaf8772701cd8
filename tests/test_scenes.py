from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.canvas import canvases
from nisf.image_field import ImageField
from nisf.region import Region, reference_pose
from nisf.scenes import KEPT, Scenes


@pytest.fixture(scope="module", params=[0, 2])
def scenes(request):
    torch.manual_seed(0)
    image = replace(toys.IMAGE.image, exchange=request.param)
    field = ImageField(toys.IMAGE.field, image).eval().requires_grad_(False)
    for part in field.encoder.exchange:
        part.into.weight.normal_(std=0.3)
    case = toys.toy_case(0, toys.toy_grid(frames=8))
    region = Region(reference_pose(case, (0.0, 0.0, 0.0)), np.full(3, 50.0))
    return Scenes(field, canvases(case, case.slices, region, toys.IMAGE.image))


def test_moments_are_mixed_and_the_cycle_closes(scenes):
    assert scenes.shares(0.25) == [(2, 1.0)]
    assert scenes.shares(0.3125) == [(2, pytest.approx(0.5)), (3, pytest.approx(0.5))]
    assert scenes.shares(0.96875) == [(7, pytest.approx(0.25)), (0, pytest.approx(0.75))]
    assert scenes.shares(0.1250001) == scenes.shares(0.1249999) == [(1, 1.0)]  # rounded
    assert scenes.shares(1.0) == scenes.shares(0.0) == [(0, 1.0)]
    place = np.random.default_rng(0).normal(size=(40, 3)) * 20
    a, b, between = (scenes.ask(place, np.full(40, t))[1] for t in (0.875, 0.0, 0.9375))
    np.testing.assert_allclose(between, (a + b) / 2, atol=1e-6)


def test_many_times_at_once(scenes):
    place = np.random.default_rng(1).normal(size=(30, 3)) * 20
    times = np.arange(30) % 5 / 5
    _, together = scenes.ask(place, times)
    alone = np.concatenate([scenes.ask(place[i : i + 1], times[i : i + 1])[1] for i in range(30)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1.0, atol=1e-5)
    assert len(scenes._kept) <= KEPT


def test_little_memory_gives_the_same(scenes):
    place = np.random.default_rng(2).normal(size=(600, 3)) * 20
    a, b = (scenes.ask(place, np.zeros(600), memory_mb=m)[0] for m in (512.0, 0.001))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_mirror_images_are_averaged(scenes):
    """By hand: the canvases flipped, the places looked up where they went."""
    place = np.random.default_rng(3).normal(size=(50, 3)) * 20
    seen, size = scenes.canvases, scenes.field.image.pixels
    maps = seen.maps.clone()
    maps[:, 0, :] *= -1
    maps[:, 0, 3] += size - 1
    flipped = Scenes(scenes.field, replace(seen, images=seen.images.flip(2), maps=maps))
    expected = (scenes.ask(place, np.zeros(50))[1] + flipped.ask(place, np.zeros(50))[1]) / 2
    both = Scenes(scenes.field, seen, mirrors=1)
    np.testing.assert_allclose(both.ask(place, np.zeros(50))[1], expected, atol=1e-5)
    assert np.abs(expected - scenes.ask(place, np.zeros(50))[1]).max() > 1e-4
    assert len(Scenes(scenes.field, seen, mirrors=2).at(0)) == 4
