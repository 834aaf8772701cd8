"""Networks and what they are given meet on one device.

PyTorch's ``meta`` device stands in for a GPU: it has no numbers, but refuses to mix with the processor's
tensors as a GPU does. What a GPU computes is not tested here.
"""

import platform
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from nisf.cli import main
from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.device import (
    CPU,
    half_precision,
    module_device,
    named_device,
    return_freed_memory,
    share_freed_memory,
    side_by_side,
)
from nisf.errors import NisfError
from nisf.kinds.image.recipe import ImageRecipe
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.recipe import LatentRecipe
from nisf.kinds.latent.second_order import posterior_of
from nisf.networks.image_field import ImageField
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import FrozenLatentField
from nisf.networks.lookup import nearby

META = torch.device("meta")


def step_of(recipe):
    """One step; every gradient has to be where its weight is."""
    loss, terms = recipe.loss(0)
    assert {term.device for term in terms.values()} == {META}
    recipe.state.descend(loss)
    for module in recipe.state.modules.values():
        assert module_device(module) == META


def points_of(cohort):
    return [CasePoints(case, whole_region(case), 4) for case in cohort]


@pytest.mark.parametrize("points", [64, 0])
def test_a_step_of_the_auto_decoder(toy_cohort, points):
    train = replace(toys.CONFIG.train, points=points, latent_rows=False, compile=False)
    config = replace(toys.CONFIG, train=train)
    step_of(LatentRecipe(toys.setup_of(toy_cohort, config, META)))


def test_a_step_of_the_image_conditioned_field(toy_cohort):
    step_of(ImageRecipe(toys.setup_of(toy_cohort, toys.IMAGE, META)))


def test_mixing_devices_would_be_seen(toy_cohort):
    recipe = LatentRecipe(toys.setup_of(toy_cohort, toys.CONFIG, CPU))
    recipe.field.to(META)
    with pytest.raises(RuntimeError, match="device"):
        recipe.loss(0)


@pytest.mark.parametrize("wishes", [{}, {"shift_mm": 3.0, "gain": 0.2, "pose_mm": 4.0, "pose_degrees": 5.0}])
def test_linearising_a_posterior(toy_cohort, wishes):
    field = LatentField(toys.CONFIG.field).to(META).requires_grad_(False)
    size = toys.CONFIG.field.latent
    config = FitConfig(points_last=64, **wishes)
    cases = points_of(toy_cohort[:2])
    mean, covariance = torch.zeros(size, device=META), torch.eye(size, device=META)
    subject = parametrisation_of(field, mean, covariance, config, cases)
    near = posterior_of(subject, cases, config, 64, 0).linearise(mean.new_zeros(2, sum(subject.sizes)))
    assert {near.value.device, near.gradient.device, near.matrix().device} == {META}


def test_answers_of_a_latent_field():
    config = toys.CONFIG.field
    frozen = FrozenLatentField(LatentField(config).to(META), torch.zeros(config.latent, device=META), 8)
    assert {answer.device for answer in frozen(torch.zeros(5, config.dimensions, device=META))} == {META}


def test_answers_of_an_image_conditioned_field():
    image = toys.IMAGE.image
    field = ImageField(toys.IMAGE.field, image).to(META)
    maps = torch.zeros(3, 3, 4, device=META)
    scene = field.encode(torch.zeros(3, 1, image.pixels, image.pixels, device=META), maps)
    near = nearby(maps, torch.zeros(5, 3, device=META), image.pixels, image.neighbours)
    answers = FrozenImageField(field, 8)([(scene, 1.0)], near, both=True)
    assert {answer.device for answer in answers} == {META}


def test_a_prior_moves_and_its_weights_stay_the_same(toy_prior):
    moved = toy_prior.to(torch.device("cpu"))
    assert moved.fingerprint == toy_prior.fingerprint
    assert moved.folder == toy_prior.folder
    away = toy_prior.to(META)
    assert module_device(away.field) == away.latent_mean.device == away.latent_covariance.device == META
    assert module_device(toy_prior.field) == torch.device("cpu")


def test_names():
    assert named_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1"):
        with pytest.raises(NisfError, match="no such device; give cpu, cuda or cuda:NUMBER"):
            named_device(name)


def test_no_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.nisf").touch()
    for words in (
        ["segment", str(tmp_path / "x.npy"), "-o", str(tmp_path / "out")],
        ["train", str(tmp_path), "-o", str(tmp_path / "prior")],
        ["render", str(tmp_path / "x.nisf"), "-o", str(tmp_path / "x.nii.gz")],
    ):
        assert main([*words, "--device", "cuda"]) == 2
        said = capsys.readouterr().err
        assert "nisf: cuda: this PyTorch" in said
        assert "sees no GPU; give cpu, or install a PyTorch for CUDA (--device)" in said


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert named_device("cuda") == torch.device("cuda:0")
    assert named_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(NisfError, match="there are 2 GPUs, counted from 0"):
        named_device("cuda:2")


@pytest.mark.parametrize(("amx", "avx"), [(True, False), (False, True), (False, False)])
def test_precision_by_what_the_processor_has(amx, avx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    assert half_precision("auto", CPU) is (amx or avx)
    assert half_precision("bf16", CPU)
    assert not half_precision("fp32", CPU)
    assert not half_precision("auto", torch.device("cuda"))
    assert half_precision("bf16", torch.device("cuda"))


def test_work_side_by_side_is_each_item_once_and_leaves_the_threads_as_they_were():
    done, cores = [], set()
    barrier = threading.Barrier(2, timeout=20)

    def work(item):
        cores.add(torch.get_num_threads())
        barrier.wait()  # two are at work at the same time, or this fails
        done.append(item)

    torch.set_num_threads(2)
    try:
        side_by_side(work, range(10))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert sorted(done) == list(range(10))
    assert cores == {1}


@pytest.mark.parametrize("threads", [1, 3])
def test_what_fails_side_by_side_is_told(threads):
    torch.set_num_threads(threads)
    try:
        with pytest.raises(KeyError, match="4"):
            side_by_side({0: 0, 1: 1, 2: 2, 3: 3}.__getitem__, range(5))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)


def resident_mib():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_freed_memory_is_returned():
    """Pages that are free lie between pages in use, as after a frame of a cine."""
    share_freed_memory()
    pages = [np.ones(100_000, np.uint8) for _ in range(2000)]  # 190 MiB in pieces that the heap serves
    kept = pages[::50]
    pages.clear()
    before = resident_mib()
    return_freed_memory()
    assert before - resident_mib() > 100
    assert len(kept) == 40
