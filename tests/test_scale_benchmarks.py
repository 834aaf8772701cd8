"""The benchmarks of training at scale run to their end on little."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def test_many_cases(tmp_path, monkeypatch, capsys):
    import many_cases

    monkeypatch.setattr(many_cases, "DISTINCT", 2)
    assert many_cases.main([str(tmp_path), "--cases", "5", "--steps", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^\| (\w+) \| 5 \|", printed, re.MULTILINE) == ["first", "again", "train"]
    assert "50000 cases, opened again" in printed
    assert len(list((tmp_path / "cache").glob("*/outline.json"))) == 5


def test_two_ranks():
    command = [sys.executable, str(ROOT / "benchmarks" / "two_ranks.py"), "--steps", "1", "--repeats", "1"]
    small = "train.subjects=2 train.points=16 image.pixels=32 image.pixel_mm=5 image.width=8 image.levels=3"
    ended = subprocess.run([*command, "--set", small], capture_output=True, text=True, check=True)
    assert re.search(r"times on 2 ranks$", ended.stdout.strip())
