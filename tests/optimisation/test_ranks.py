"""Training on several ranks, started by torchrun as users start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_script
import torch
from ranks_script import train

from nisf.errors import NisfError
from nisf.files import read_tensors
from nisf.kinds.load import load_prior
from nisf.optimisation import loop, ranks

launches = pytest.mark.skipif(
    os.name == "nt" or not torch.distributed.is_available(), reason="needs torchrun and gloo"
)
KINDS = ["latent", "rows", "image"]
SCRIPT = Path(ranks_script.__file__)


def on_ranks(count, folder, kinds):
    """Train with torchrun; what each rank printed."""
    source = Path(ranks.__file__).parents[2]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(source), str(SCRIPT.parents[1])]),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"]
    ended = subprocess.run(
        [*torchrun, str(SCRIPT), str(folder), ",".join(kinds)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return sorted(line for line in ended.stdout.splitlines() if line)


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same_within_rounding(found, expected, weights=0.05):
    """Losses to three digits, for Adam makes large differences of small ones."""
    assert [record["step"] for record in log(found)] == [record["step"] for record in log(expected)]
    for one, other in zip(log(found), log(expected), strict=True):
        assert set(one) == set(other)
        if "loss" in one:
            assert one == pytest.approx(other, rel=1e-3)
    a, b = (read_tensors(folder / "checkpoint.safetensors") for folder in (found, expected))
    assert set(a[0]) == set(b[0])
    assert a[1] == b[1]
    for name, tensor in b[0].items():
        moved = weights * float(tensor.float().abs().max())
        torch.testing.assert_close(a[0][name].float(), tensor.float(), rtol=0, atol=max(moved, 1e-7))


@launches
def test_two_ranks_are_one_process(tmp_path):
    """Latents and their optimiser's state are spread over the ranks, and whole in the checkpoint."""
    expected = train("latent", tmp_path / "one")
    said = on_ranks(2, tmp_path / "two", ["latent"])
    fingerprint = load_prior(tmp_path / "two" / "latent").fingerprint
    assert said == [f"{rank}/2 latent {fingerprint}" for rank in (0, 1)]
    same_within_rounding(tmp_path / "two" / "latent", tmp_path / "one")
    names = {path.name for path in (tmp_path / "two" / "latent").iterdir()}
    assert names == {path.name for path in (tmp_path / "one").iterdir()}
    found = load_prior(tmp_path / "two" / "latent")
    torch.testing.assert_close(found.latent_mean, expected.latent_mean, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found.latent_covariance, expected.latent_covariance, rtol=1e-3, atol=1e-9)


@launches
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_all_kinds_on_several_ranks(tmp_path, count):
    on_ranks(count, tmp_path, KINDS)
    for kind in KINDS:
        train(kind, tmp_path / f"one-{kind}")
        weights = 2.0 if kind == "image" else 0.05  # of which the first step is compared closely, below
        same_within_rounding(tmp_path / kind, tmp_path / f"one-{kind}", weights)


@launches
@pytest.mark.slow
def test_the_gradient_is_that_of_all_samples(tmp_path):
    """To rounding, after a step of the kind whose objective does not fall apart into samples."""
    on_ranks(2, tmp_path, ["step"])
    train("step", tmp_path / "one")
    a, b = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("step", "one"))
    means = [name for name in b if name.endswith(("exp_avg", "momentum"))]
    assert len(means) > 20
    largest = max(float(b[name].abs().max()) for name in means)
    for name in means:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-6 * largest)


@launches
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rows", "image"])
def test_a_checkpoint_goes_on_on_another_number_of_ranks(tmp_path, kind, monkeypatch):
    """Begun alone, gone on with on two ranks."""
    train(kind, tmp_path / "whole")

    def crash(state, *_):
        saved(state, *_)
        if state.step == 4:
            raise InterruptedError

    saved = loop._save
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_save", crash)
        with pytest.raises(InterruptedError):
            train(kind, tmp_path / kind)
    on_ranks(2, tmp_path, [kind])
    same_within_rounding(tmp_path / kind, tmp_path / "whole")
    resumed = train(kind, tmp_path / kind, resume=True)
    assert resumed.fingerprint == load_prior(tmp_path / kind).fingerprint


@pytest.mark.parametrize(("count", "world"), [(4, 1), (4, 3), (5, 2), (3, 3)])
def test_shares_are_everything_once(monkeypatch, count, world):
    monkeypatch.setattr(ranks, "world", lambda: world)
    parts = []
    for number in range(world):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        parts.append(ranks.share(count))
    assert [i for part in parts for i in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ranks_without_work_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world", lambda: 4)
    with pytest.raises(NisfError, match=r"4 ranks, but only 3 subjects in a step \(train\.subjects\)"):
        ranks.refuse_idle(3, 10)
    with pytest.raises(NisfError, match="4 ranks, but only 2 cases"):
        ranks.refuse_idle(4, 2)
    ranks.refuse_idle(4, 4)


def test_alone_nothing_is_exchanged():
    x = torch.ones(3, requires_grad=True)
    assert ranks.gathered(x) is x
    assert ranks.counted_once(x) is x
    assert ranks.of_all([1, 2]) == [1, 2]
    assert ranks.from_first(lambda: 7) == 7
    assert torch.equal(ranks.summed(x), x)
    assert ranks.leave(3) == 3
    rows = ranks.Rows(torch.arange(6.0).reshape(3, 2), sparse=False)
    rows(torch.tensor([2, 0])).sum().backward()
    rows.settle()
    assert torch.equal(rows.weight.grad, torch.tensor([[1.0, 1], [0, 0], [1, 1]]))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_ranks_that_do_not_meet(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(NisfError, match="WORLD_SIZE is 2, but the ranks cannot connect"),
        ranks.joined(torch.device("cpu")),
    ):
        pass


@pytest.mark.parametrize("size", ["1", "", "many"])
def test_a_dead_setting_of_torchrun_is_no_world(monkeypatch, size):
    monkeypatch.setenv("WORLD_SIZE", size)
    with ranks.joined(torch.device("cpu")) as device:
        assert device.type == "cpu"
        assert ranks.world() == 1
