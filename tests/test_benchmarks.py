"""The benchmarks run to their end on little; what they measure is theirs alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nisf.fitting
from nisf.config import FieldConfig, FitConfig

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def small():
    import tasks

    scanner = replace(tasks.QUICK.scanner, matrix=(16, 16), spacing_mm=12.0, thickness_mm=18.0)
    return replace(tasks.QUICK, steps=2, repeats=1, scanner=scanner, compile=False)


def test_the_baseline_is_the_same_network():
    import measuring
    import plain

    subject = measuring.phantom_subject(small().scanner)
    torch.manual_seed(1)
    coordinates, latent = torch.rand(50, 4) * 2 - 1, 0.1 * torch.randn(128)
    intensity, classes = plain.PlainField(subject.prior.field)(coordinates, latent)
    expected = subject.prior.field(coordinates[None], latent[None])
    torch.testing.assert_close(intensity, torch.sigmoid(expected[0][0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(classes, expected[1][0], atol=1e-3, rtol=0)


def test_operations_of_the_papers_network():
    import measuring

    assert measuring.forward_flop(FieldConfig()) == 2 * (4 * 256 + 7 * 128 * 256 + 128 * 5)


def test_speed(tmp_path, monkeypatch, capsys):
    import measuring
    import speed
    import tasks

    monkeypatch.setattr(measuring, "FIT", FitConfig(steps=2, points=16))
    monkeypatch.setattr(nisf.fitting, "TRIAL_STEPS", 1)
    monkeypatch.setattr(measuring, "product", lambda *sizes: lambda: float(np.prod(sizes)))
    monkeypatch.setattr(tasks, "start_up", lambda *rest: {"beyond torch": measuring.summary([1.0])})
    assert speed.main(["-o", str(tmp_path), "--quick"], small()) == 0
    result = json.loads((tmp_path / "speed.json").read_text())
    assert result["quick"] is True
    assert result["fit"]["plain, eager"]["complete"] is False
    assert {"plain, eager", "nisf"} <= set(result["query"])
    assert result["query"]["nisf"]["least"] > 0
    assert (tmp_path / "speed.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "not compared" in printed
    assert "labels the same in 100.0000%" in printed


def test_start_up_is_of_a_second_run(monkeypatch):
    import measuring
    import tasks

    commands = []

    def fake(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "case: done already" if len(commands) > 2 else "", "")

    monkeypatch.setattr(tasks.subprocess, "run", fake)
    rows = tasks.start_up(measuring.phantom_subject(small().scanner), 2, measuring.cpu_seconds)
    assert len(rows["second run"]["all"]) == 2
    assert commands[1][:4] == [sys.executable, "-m", "nisf", "segment"]


def test_growth(tmp_path, monkeypatch, capsys):
    import growth

    monkeypatch.setattr(growth, "SCANNER", small().scanner)
    monkeypatch.setattr(growth, "measure", growth.measure_here)
    sizes = {name: [1, 2] if "points" not in name else [300, 600] for name in growth.SIZES}
    assert growth.main(["-o", str(tmp_path)], sizes) == 0
    result = json.loads((tmp_path / "growth.json").read_text())
    assert [row["size"] for row in result["frames rendered"]] == [1, 2]
    assert all(row["seconds"] > 0 for name in sizes for row in result[name])
    assert (tmp_path / "growth.png").stat().st_size > 1000
    assert "grows with the power" in capsys.readouterr().out


def test_the_power_of_growth():
    import growth

    rows = [{"size": n, "seconds": 3e-6 * n**1.5} for n in (10, 100, 1000)]
    assert growth.exponent(rows) == pytest.approx(1.5)


@pytest.mark.parametrize("kind", ["query", "training", "fit"])
@pytest.mark.parametrize("baseline", [False, True])
def test_profile(kind, baseline):
    import profiled

    assert "aten::addmm" in profiled.table(kind, 20, 10, baseline=baseline)


def test_gpu_rehearsed_on_the_processor(tmp_path):
    import gpu

    assert gpu.main(["-o", str(tmp_path), "--device", "cpu", "--quick"]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert max(result["agreement"]["plain"].values()) < 1e-4
    for part in ("ceilings", "training", "fitting", "queries", "image recipe"):
        assert result[part]
        for name, row in result[part].items():
            assert row["least"] > 0, name
