"""What a GPU computes in batches is what a processor computes one by one, and nothing waits for the GPU."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import toys
from nisf.chunks import BATCHINGS, ON_CPU, ON_GPU, batching
from nisf.data.region import Region, reference_pose
from nisf.device import Arriving
from nisf.kinds.image.batches import InBatches
from nisf.kinds.image.phases import OneByOne, encoding_bytes
from nisf.kinds.image.scenes import Scenes
from nisf.measures.case import Measuring
from nisf.networks.canvas import canvases
from nisf.networks.encoder_inference import FrozenEncoder
from nisf.networks.image_field import ImageField
from nisf.prior.fit import fit

META = torch.device("meta")
FRAMES, SLICES = 8, 6


def field_of(**settings):
    """A field with random weights; its exchanges change something."""
    torch.manual_seed(0)
    field = ImageField(toys.IMAGE.field, replace(toys.IMAGE.image, **settings)).eval().requires_grad_(False)
    for part in (*field.encoder.exchange, *field.encoder.moments):
        part.into.weight.normal_(std=0.3)
    return field


@pytest.fixture(scope="module")
def seen():
    case = toys.toy_case(0, toys.toy_grid(frames=FRAMES))
    region = Region(reference_pose(case, (0.0, 0.0, 0.0)), np.full(3, 50.0))
    return canvases(case, case.slices, region, toys.IMAGE.image)


def both_ways(monkeypatch, field, seen, mirrors=0, phases=None):
    """The same subject one by one and in batches, of at most so many phases."""
    alone = Scenes(field, seen, mirrors)
    nbytes = ON_GPU.encoding_bytes
    if phases is not None:
        nbytes = phases * SLICES * 2**mirrors * encoding_bytes(field.image)
    monkeypatch.setitem(BATCHINGS, "cpu", replace(ON_GPU, encoding_bytes=nbytes))
    together = Scenes(field, seen, mirrors)
    assert isinstance(alone._phases, OneByOne)
    assert isinstance(together._phases, InBatches)
    return alone, together


def assert_same(alone, together):
    for phase in range(len(alone.times)):
        expected, found = alone.at(phase), together.at(phase)
        torch.testing.assert_close(found.features, expected.features, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(found.latent, expected.latent, atol=2e-5, rtol=1e-5)
        assert torch.equal(found.maps, expected.maps)


@pytest.mark.parametrize("mirrors", [0, 1, 2])
@pytest.mark.parametrize("exchange", [{}, {"slice_exchange": 2, "phase_exchange": 3, "time_sigma": 0.1}])
def test_batches_of_any_size_give_the_same(seen, monkeypatch, exchange, mirrors):
    field = field_of(**exchange)
    for phases, size in ((FRAMES, FRAMES), (3, 3), (1, 2)):  # the reference is two phases
        monkeypatch.setitem(BATCHINGS, "cpu", ON_CPU)
        alone, together = both_ways(monkeypatch, field, seen, mirrors, phases)
        assert together._phases.size == size
        assert_same(alone, together)


@pytest.mark.parametrize(("gigabytes", "expected"), [(141, 4), (16, 2), (4, 0.5)])
def test_a_small_gpu_has_smaller_batches(monkeypatch, gigabytes, expected):
    seen = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: seen)
    assert batching(torch.device("cuda")).encoding_bytes == expected * 2**30
    assert batching(torch.device("cpu")) == ON_CPU
    assert batching(META) == ON_GPU


def test_answers_are_the_same(seen, monkeypatch):
    alone, together = both_ways(monkeypatch, field_of(phase_exchange=2, time_sigma=0.1), seen, mirrors=1)
    place = np.random.default_rng(0).normal(size=(200, 3)) * 20
    time = np.arange(200) % 5 / 5
    for expected, found in zip(alone.ask(place, time), together.ask(place, time), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_phases_that_are_posed_otherwise_are_encoded_by_themselves(seen, monkeypatch):
    maps = seen.maps.clone()
    maps[SLICES : 2 * SLICES, :2, 3] += 1.0  # the second phase's
    field = field_of(slice_exchange=2, phase_exchange=3, time_sigma=0.1)
    alone, together = both_ways(monkeypatch, field, replace(seen, maps=maps), mirrors=1)
    assert [len(posed.slices) for posed in together._phases.posed] == [FRAMES - 1, 1]
    assert_same(alone, together)


def test_a_batch_that_was_dropped_is_encoded_again(seen, monkeypatch):
    _, together = both_ways(monkeypatch, field_of(phase_exchange=2), seen, phases=2)
    before = together._phases.get(5).scene.features
    together._phases.clear()
    assert len(together._phases) == 0
    torch.testing.assert_close(together._phases.get(5).scene.features, before)


def test_a_cine_is_encoded_in_one_call(seen, monkeypatch):
    calls, encode = [], FrozenEncoder.coarse

    def counted(self, images, *rest, **named):
        calls.append(len(images))
        return encode(self, images, *rest, **named)

    monkeypatch.setattr(FrozenEncoder, "coarse", counted)
    field = field_of(slice_exchange=2, phase_exchange=3, time_sigma=0.1)
    alone, together = both_ways(monkeypatch, field, seen, mirrors=1)
    for scenes, expected in ((together, [2 * FRAMES * SLICES]), (alone, [2 * SLICES] * 2 + [SLICES] * 12)):
        calls.clear()
        for phase in range(FRAMES):
            scenes.at(phase)
        assert calls == expected


class OneDevice(TorchDispatchMode):
    """Fails if an operation mixes devices; reading a value of the meta device fails by itself."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)]
        places = {x.device for x in tensors if x.ndim}
        copies = str(func).split(".")[1] in ("_to_copy", "copy_")
        assert copies or META not in places or len(places) == 1, f"{func} mixes {places}"
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_and_nothing_mixes_it_with_the_host(seen):
    """An operation that needs a value on the host, as `item` and `torch.equal` do, raises on ``meta``."""
    field = field_of(slice_exchange=2, phase_exchange=3, time_sigma=0.1).to(META)
    with OneDevice():
        scenes = Scenes(field, seen, mirrors=1)
        assert isinstance(scenes._phases, InBatches)
        for phase in range(FRAMES):
            scenes.at(phase)
        left_out = np.zeros(SLICES, dtype=bool)
        found = scenes.answer(scenes.places(np.zeros((50, 3))), 0.3, lambda _: left_out)
    assert {answer.device for answer in found} == {META}
    with pytest.raises(RuntimeError, match="meta"):
        bool(found[0].sum() > 0)  # what would wait for a GPU


def test_a_frame_comes_back_at_once(toy_image_prior, monkeypatch):
    """The host waits once a frame, not once a slice."""
    waits, case = [], toys.toy_case(97, toys.toy_grid(frames=4))
    arrays = Arriving.__call__

    def counted(self):
        waits.append(self)
        return arrays(self)

    monkeypatch.setattr(Arriving, "__call__", counted)
    found = {}
    for name, way in (("one by one", ON_CPU), ("together", ON_GPU)):
        monkeypatch.setitem(BATCHINGS, "cpu", way)
        subject = replace(fit(case, toy_image_prior), islands="keep")
        waits.clear()
        found[name] = subject.render(probabilities=True), len(waits)
    (one, alone), (other, together) = found.values()
    assert together == 4
    assert alone > 2 * together
    assert np.array_equal(one.label, other.label)
    np.testing.assert_allclose(one.probability, other.probability, atol=1e-6)
    np.testing.assert_allclose(one.image, other.image, atol=1e-4)


@pytest.mark.parametrize(("memory_mb", "threads"), [(512.0, 3), (4.0, 1)])
def test_whole_cases_are_the_same_in_any_way(toy_image_prior, monkeypatch, memory_mb, threads):
    case, found = toys.toy_case(97, toys.toy_grid(frames=4)), []
    torch.set_num_threads(threads)
    try:
        for way in (ON_CPU, ON_GPU, replace(ON_GPU, frames=4)):
            monkeypatch.setitem(BATCHINGS, "cpu", way)
            subject = fit(case, toy_image_prior)
            measuring = Measuring(subject, memory_mb=memory_mb)
            rendering = subject.render(probabilities=True, memory_mb=memory_mb, after_frame=measuring.frame)
            found.append((rendering, measuring.finish(rendering).values))
    finally:
        torch.set_num_threads(1)
    (first, values), *others = found
    for other, measured in others:
        assert np.array_equal(first.label, other.label)
        np.testing.assert_allclose(first.probability, other.probability, atol=2e-6)
        assert measured == pytest.approx(values, abs=0.05)
