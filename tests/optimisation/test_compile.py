import functools
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import toys
from nisf.chunks import training_points
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.kinds.latent.recipe import draw_batch
from nisf.networks.latent_field import LatentField
from nisf.optimisation import compile as module
from nisf.optimisation.compile import CACHE, can_compile, compiled, in_parts, keep_compiled_code


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """No test leaves anything in the user's folders."""
    monkeypatch.setenv(CACHE, str(tmp_path / "compiled"))


def double(x):
    return 2 * x


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = []
    assert not can_compile()
    assert compiled(double, said.append) is double
    assert len(said) == 1
    assert "no working C++ compiler" in said[0]


def test_compiler_at_hand(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_works", lambda path: path == "/usr/bin/g++")
    assert can_compile()


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("what", ["exec sleep 600", "sleep 600", "exit 1", "exit 0"])
def test_a_compiler_that_hangs_or_fails(tmp_path, monkeypatch, what):
    path = tmp_path / "g++"
    path.write_text(f"#!/bin/sh\n{what}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if "sleep" in what:  # the others may take as long as a busy machine needs
        monkeypatch.setattr(module, "COMPILER_SECONDS", 0.2)
    began = time.monotonic()
    assert can_compile() == (what == "exit 0")
    assert time.monotonic() - began < 300  # nobody waits for the sleeper


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of folders")
def test_a_cache_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    used = keep_compiled_code()
    assert used != tmp_path / "compiled"
    assert module.is_private(used)
    monkeypatch.setattr(module.os, "getuid", lambda: -1)
    assert not module.is_private(used)


def test_compiling_that_works(monkeypatch):
    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda f, **_: lambda x: f(x) + 100)
    said = []
    fast = compiled(double, said.append)
    assert [fast(1), fast(2)] == [102, 104]
    assert said == []


def test_compiling_that_fails(monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

    calls = []

    def broken(*_, **__):
        def call(x):
            calls.append(x)
            raise TorchDynamoException("no")

        return call

    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", broken)
    said = []
    fast = compiled(double, said.append)
    assert [fast(1), fast(2), fast(3)] == [2, 4, 6]
    assert calls == [1]  # tried once, then never again
    assert len(said) == 1
    assert "compilation failed (TorchDynamoException)" in said[0]
    assert issubclass(BackendCompilerFailed, TorchDynamoException)


def test_errors_of_the_function_itself_come_through(monkeypatch):
    def wrong(_):
        raise ValueError("three")

    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    with pytest.raises(ValueError, match="three"):
        compiled(wrong, print)(1)


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_really_compiled():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    said = []
    fast = compiled(network, said.append)
    x = torch.randn(5, 3)
    torch.testing.assert_close(fast(x), network(x))
    assert said == []


def test_compiled_code_is_kept_in_the_users_cache(tmp_path, monkeypatch):
    assert keep_compiled_code() == tmp_path / "compiled"  # named already: left as it is
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert keep_compiled_code() == tmp_path / "cache" / "nisf" / "compiled"
    assert Path(os.environ[CACHE]).is_dir()
    monkeypatch.setenv(CACHE, str(Path(tempfile.gettempdir()) / "torchinductor_somebody"))
    assert keep_compiled_code() == tmp_path / "cache" / "nisf" / "compiled"  # it was PyTorch's choice
    monkeypatch.delenv(CACHE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert keep_compiled_code() == tmp_path / "home" / ".cache" / "nisf" / "compiled"


@pytest.mark.parametrize("home", ["a file", "nobody"])
def test_without_a_cache_folder(tmp_path, monkeypatch, home):
    def nobody():
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv(CACHE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Path, "home", (lambda: tmp_path / "file") if home == "a file" else nobody)
    used = keep_compiled_code()
    assert module.is_private(used)
    assert os.environ[CACHE] == str(used)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 96, 100])
def test_parts_change_nothing(monkeypatch, n):
    monkeypatch.setattr("nisf.chunks.TRAINING_POINTS", 64)
    torch.manual_seed(0)
    field = LatentField(toys.CONFIG.field).double()
    sizes = []

    def network(coordinates, latent):
        sizes.append(coordinates.shape[1])
        return field(coordinates, latent)

    latent = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    coordinates = torch.rand(2, n, 4, dtype=torch.float64)
    answers = []
    for call in (field, functools.partial(in_parts, network)):
        field.zero_grad()
        latent.grad = None
        intensity, classes = call(coordinates, latent)
        (intensity.square().sum() + classes.square().sum()).backward()
        weights = torch.cat([p.grad.flatten() for p in field.parameters()])
        answers.append((intensity.detach(), classes.detach(), weights, latent.grad.clone()))
    for a, b in zip(*answers, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert sizes == [32] * (n // 32) + [n % 32] * (n % 32 > 0)


def test_parts_on_a_gpu_are_large():
    assert training_points(1, torch.device("cuda")) > 10 * training_points(1, torch.device("cpu"))
    assert training_points(10**9, torch.device("cpu")) == 1


@pytest.mark.parametrize("points", [0, 512])
def test_nothing_is_compiled_again(monkeypatch, points):
    """Whole frames of subjects of many sizes: one graph, compiled once."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    weight = torch.randn(4, 3)
    fast = compiled(lambda x, latent: (x @ weight, x[..., :1] + latent[:, None, :1]), print)
    grids = [toys.toy_grid(shape=(20 + 6 * i, 24, 6), frames=2) for i in range(4)]
    cases = [toys.toy_case(i, grid) for i, grid in enumerate(grids)]
    pool = [CasePoints(case, whole_region(case), 4) for case in cases]
    settings = replace(toys.TINY.train, points=points, subjects=1)
    lengths = set()
    for step in range(6):
        _, batch = draw_batch(pool, settings, step)
        lengths.add(float(batch.weight.sum()))
        in_parts(fast, batch.coordinates, torch.zeros(1, 8))
    assert len(lengths) == (4 if points == 0 else 1)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
