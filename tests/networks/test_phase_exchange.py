"""What a slice takes from itself at other phases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_slice_exchange import images_of, maps_of

import toys
from nisf.kinds.image.augment import alike, phase_stacks
from nisf.kinds.image.recipe import ImageRecipe
from nisf.kinds.image.scenes import Scenes
from nisf.networks.canvas import Canvases
from nisf.networks.encoder import Encoder
from nisf.networks.image_field import ImageField
from nisf.networks.phase_exchange import mean_of_phases, most_different

IMAGE = replace(toys.IMAGE.image, slice_exchange=1, phase_exchange=2)
CONFIG = toys.settings(toys.IMAGE, image={"slice_exchange": 1, "phase_exchange": 2}, train={"subjects": 3})


def trained(module):
    """What is added to the features is no longer nothing."""
    for part in module.moments:
        torch.nn.init.normal_(part.into.weight, std=0.3)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return trained(Encoder(IMAGE, channels=1))


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    field = ImageField(CONFIG.field, CONFIG.image)
    trained(field.encoder)
    return field.eval().requires_grad_(False)


def cine(times=5, slices=4):
    """Canvases of a cine; the second and the last phase differ most."""
    images = images_of(slices).expand(times, -1, -1, -1, -1).clone()
    for t, change in enumerate([0.1, -0.3, 0.0, 0.2, 0.4][:times]):
        images[t] = (images[t] + change * images_of(slices, seed=7)).clamp(0, 1)
    maps = maps_of(slices).expand(times, -1, -1, -1)
    times_of = np.repeat(np.arange(times) / times, slices)
    return Canvases(images.flatten(0, 1).half(), maps.reshape(-1, 3, 4), times_of)


def test_begins_with_nothing_new():
    torch.manual_seed(1)
    without = Encoder(replace(IMAGE, phase_exchange=0), channels=1)
    encoder = Encoder(IMAGE, channels=1)
    missing = encoder.load_state_dict(without.state_dict(), strict=False)
    assert all(name.startswith("moments.") for name in missing.missing_keys)
    assert not missing.unexpected_keys
    images, maps = torch.cat([images_of(3), images_of(3, seed=5)]), [maps_of(3)] * 2
    for found, expected in zip(encoder(images, maps, [2]), without(images, maps), strict=True):
        torch.testing.assert_close(found, expected)


def test_mean_of_phases_against_loops():
    x = torch.randn(2 + 2 + 3 + 1 + 1, 2, 4, 4)
    found = mean_of_phases(x, [2, 2, 3, 1, 1], [2, 1, 2])
    both, last = (x[:2] + x[2:4]) / 2, (x[7:8] + x[8:9]) / 2
    torch.testing.assert_close(found, torch.cat([both, both, x[4:7], last, last]))


def test_phases_see_each_other_and_other_subjects_do_not(encoder):
    images = [images_of(3, seed=s) for s in range(4)]
    maps = [maps_of(3)] * 4
    first = encoder(torch.cat(images), maps, [2, 2])[0]
    images[1] = images_of(3, seed=9)
    second = encoder(torch.cat(images), maps, [2, 2])[0]
    assert (first[:3] - second[:3]).abs().max() > 1e-3
    torch.testing.assert_close(first[6:], second[6:])


def test_shown_is_what_phases_show_each_other(encoder):
    """Encoding the reference first and each phase after it is encoding them together."""
    images, maps = [images_of(3, seed=s) for s in range(2)], [maps_of(3)] * 2
    together = encoder(torch.cat(images), maps, [2])[0]
    shown, *_ = encoder.shown_by(torch.cat(images), maps)
    assert len(shown) == IMAGE.phase_exchange
    apart = torch.cat([encoder(i, maps[:1], shown=shown)[0] for i in images])
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-4)


def test_without_others_a_moment_is_its_own_reference(encoder):
    images, maps = images_of(3), [maps_of(3)]
    shown, *_ = encoder.shown_by(images, maps)
    torch.testing.assert_close(encoder(images, maps)[0], encoder(images, maps, shown=shown)[0])


@pytest.mark.parametrize("times", [1, 2])
def test_few_phases_are_all_taken(times):
    assert most_different(torch.rand(times, 3, 1, 8, 8)) == tuple(range(times))


def test_most_different_against_loops():
    images = torch.rand(6, 2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    coarse = images.reshape(6, 2, 2, 4, 2, 4).mean((3, 5))
    pairs = {(i, j): (coarse[i] - coarse[j]).abs().sum().item() for i in range(6) for j in range(i)}
    assert most_different(images) == tuple(sorted(max(pairs, key=pairs.get)))


def test_scenes_take_the_two_that_differ_most(field):
    canvases = cine()
    images = canvases.images.reshape(5, 4, *canvases.images.shape[1:])
    maps = canvases.maps[:4]
    shown, *_ = field.encoder.shown_by(images[[1, 4]].flatten(0, 1).float(), [maps] * 2)
    scenes = Scenes(field, canvases)
    for phase in range(5):
        expected = field.encode(images[phase].float(), maps, shown)
        torch.testing.assert_close(scenes.at(phase).features, expected.features, atol=1e-4, rtol=1e-4)


def test_scenes_do_not_mix_phases_of_other_slices(field):
    """A stack that was measured elsewhere at each phase has no other phase to look at."""
    canvases = cine(times=2)
    maps = canvases.maps.clone()
    maps[4:, 2, 3] += 3.0
    scenes = Scenes(field, replace(canvases, maps=maps))
    expected = field.encode(canvases.images[:4].float(), maps[:4])
    torch.testing.assert_close(scenes.at(0).features, expected.features, atol=1e-5, rtol=1e-4)


def test_samples_of_a_subject_are_one_view_of_two_phases():
    training = ImageRecipe(toys.setup_of(toys.toy_cohort(3), CONFIG))
    drawn = [phases for step in range(8) for phases in training.samples(step, training.config.image)]
    assert {len(phases) for phases in drawn} == {1, 2}
    pairs = [phases for phases in drawn if len(phases) == 2]
    for first, second in pairs:
        for name in ("maps", "points"):
            assert torch.equal(getattr(first, name), getattr(second, name)), name
        assert not torch.equal(first.images, second.images)
    # What differs is what moved: far from the heart the two phases look the same, but for the noise.
    first, second = pairs[0]
    assert (first.intensity - second.intensity).abs().median() < 0.1
    assert any((a.label != b.label).any() for a, b in pairs)
    assert torch.isfinite(training.loss(0)[0])


def test_alike():
    first, second = phase_stacks(toys.toy_case(0), (0.0, 0.0, 0.0), 4.0)
    assert alike(first, second)
    assert not alike(first, replace(second, z=second.z + 1.0))
    assert not alike(
        first, phase_stacks(toys.toy_case(0, toys.toy_grid((24, 24, 5))), (0.0, 0.0, 0.0), 4.0)[0]
    )
