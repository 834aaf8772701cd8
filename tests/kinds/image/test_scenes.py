import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from nisf.data.region import Region, reference_pose
from nisf.kinds.image.scenes import KEPT, Scenes
from nisf.networks.canvas import canvases
from nisf.networks.image_field import ImageField
from nisf.networks.lookup import interpolate, nearby


@pytest.fixture(scope="module", params=[0, 2])
def scenes(request):
    torch.manual_seed(0)
    image = replace(toys.IMAGE.image, slice_exchange=request.param)
    field = ImageField(toys.IMAGE.field, image).eval().requires_grad_(False)
    for part in field.encoder.exchange:
        part.into.weight.normal_(std=0.3)
    case = toys.toy_case(0, toys.toy_grid(frames=8))
    region = Region(reference_pose(case, (0.0, 0.0, 0.0)), np.full(3, 50.0))
    return Scenes(field, canvases(case, case.slices, region, toys.IMAGE.image))


def test_phases_are_mixed_and_the_cycle_closes(scenes):
    assert scenes.weights(0.25) == [(2, 1.0)]
    assert scenes.weights(0.3125) == [(2, pytest.approx(0.5)), (3, pytest.approx(0.5))]
    assert scenes.weights(0.96875) == [(7, pytest.approx(0.25)), (0, pytest.approx(0.75))]
    assert scenes.weights(0.1250001) == scenes.weights(0.1249999) == [(1, 1.0)]  # rounded
    assert scenes.weights(1.0) == scenes.weights(0.0) == [(0, 1.0)]
    place = np.random.default_rng(0).normal(size=(40, 3)) * 20
    between = scenes.ask(place, np.full(40, 0.9375))[1]
    before, after, field = scenes.at(7), scenes.at(0), scenes.field
    features = (before.features + after.features) / 2
    latent = (before.latent + after.latent) / 2
    near = nearby(before.maps, torch.from_numpy(place).float(), features.shape[1], field.image.neighbours)
    own = interpolate(features, near.index, near.u, near.v)
    expected = field.decode(own, near, latent, both=True)[1].softmax(dim=1)
    np.testing.assert_allclose(between, expected.numpy(), atol=1e-6)


def test_many_times_at_once(scenes):
    place = np.random.default_rng(1).normal(size=(30, 3)) * 20
    times = np.arange(30) % 5 / 5
    _, together = scenes.ask(place, times)
    alone = np.concatenate([scenes.ask(place[i : i + 1], times[i : i + 1])[1] for i in range(30)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1.0, atol=1e-5)
    assert len(scenes._phases) <= len(scenes.times)


def test_little_memory_gives_the_same(scenes):
    place = np.random.default_rng(2).normal(size=(600, 3)) * 20
    a, b = (scenes.ask(place, np.zeros(600), memory_mb=m)[0] for m in (512.0, 0.001))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_few_phases_are_kept_where_they_are_large(scenes, monkeypatch):
    monkeypatch.setattr("nisf.kinds.image.scenes.KEPT_BYTES", 1000)
    few = Scenes(scenes.field, scenes.canvases)
    for phase in range(len(few.times)):
        few.at(phase)
    assert len(few._phases) == KEPT


def test_encoded_phases_go_once_all_averages_are_there(scenes):
    few, every = (Scenes(scenes.field, scenes.canvases, ready=ready) for ready in (2, 9))
    phases = range(len(every.times))
    assert len(phases) > 2
    found = [(few.at(phase), every.at(phase)) for phase in phases]
    assert (len(few._phases), len(every._phases)) == (len(phases), 0)
    for a, b in found:
        assert torch.equal(a.features, b.features)
    again = every.corrected(lambda scene, _: scene)
    assert again.at(1) is every.at(1)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is resident")
def test_pages_of_averaged_phases_are_given_back(scenes, monkeypatch, tmp_path):
    monkeypatch.setattr("nisf.data.scratch.LARGE", 1)
    monkeypatch.setattr("nisf.data.scratch._folder", tmp_path)
    large = smoothed_over(scenes, 1 / 8)
    large.at(3)
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = [i for i, line in enumerate(lines) if str(tmp_path) in line]
    resident = [int(line.split()[1]) for i in start for line in lines[i : i + 6] if line.startswith("Rss:")]
    assert len(resident) == 5
    assert sum(resident) == 0


def features_by_hand(scenes, phase, axes=()):
    """Of the canvases flipped along some pixel axes, flipped back."""
    seen, size = scenes.canvases, scenes.field.image.pixels
    slice_index = torch.from_numpy(np.flatnonzero(seen.times == scenes.times[phase]))
    maps = seen.maps[slice_index].clone()
    for axis in axes:
        maps[:, axis] *= -1
        maps[:, axis, 3] += size - 1
    images = seen.images[slice_index].float().flip([2 + axis for axis in axes])
    return scenes.field.encode(images, maps).features.flip([1 + axis for axis in axes])


@pytest.mark.parametrize(("mirrors", "ways"), [(1, [(), (0,)]), (2, [(), (0,), (1,), (0, 1)])])
def test_mirror_images_are_averaged(scenes, mirrors, ways):
    found = Scenes(scenes.field, scenes.canvases, mirrors=mirrors).at(3).features
    expected = torch.stack([features_by_hand(scenes, 3, axes) for axes in ways]).mean(0)
    torch.testing.assert_close(found, expected)
    assert (found - features_by_hand(scenes, 3)).abs().max() > 1e-3


def smoothed_over(scenes, sigma, **changes):
    """The same subject, its features averaged over time."""
    field = copy.copy(scenes.field)
    field.image = replace(field.image, time_sigma=sigma)
    return Scenes(field, replace(scenes.canvases, **changes))


def test_average_over_time(scenes):
    """Eight phases, one standard deviation apart: those that count a hundredth are left out."""
    weight = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    weight /= weight.sum()
    for middle in (0, 3):
        found = smoothed_over(scenes, 1 / 8).at(middle).features
        terms = [
            w * features_by_hand(scenes, (middle + k) % 8) for k, w in zip(range(-2, 3), weight, strict=True)
        ]
        torch.testing.assert_close(found, torch.stack(terms).sum(0).float(), rtol=1e-3, atol=1e-3)
    assert smoothed_over(scenes, 0.02).at(2).features.equal(scenes.at(2).features)


def test_phases_that_are_posed_otherwise_are_not_averaged(scenes):
    maps = scenes.canvases.maps.clone()
    maps[6:12, :2, 3] += 1.0  # the second phase's
    found = smoothed_over(scenes, 1 / 8, maps=maps)
    assert found.at(1).features.equal(found._phases.get(1).scene.features)
    weight = {3: 1.0, 2: np.exp(-0.5), 4: np.exp(-0.5), 5: np.exp(-2.0)}
    terms = [w / sum(weight.values()) * features_by_hand(scenes, k) for k, w in weight.items()]
    torch.testing.assert_close(found.at(3).features, torch.stack(terms).sum(0).float(), rtol=1e-3, atol=1e-3)
