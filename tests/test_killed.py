"""Renderings, reports and papers that are killed: nothing half-written counts, and a second run ends.

Cohorts and trainings are in `tests/test_safe.py`.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.data.anatomy import load_anatomy
from nisf.io.readers import CaseReader, open_cohort
from nisf.outputs import read_record
from nisf.phantom import Scanner, write_cohort
from nisf.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs signals")]
ROOT = Path(__file__).parents[1]
SCANNER = Scanner(matrix=(40, 40), spacing_mm=4.5, frames=3)
KILLS = 4
WITH_A_TINY_BUDGET = (
    "import sys; from nisf.paper.budget import BUDGETS; from tiny_budget import TINY; "
    "BUDGETS['minutes'] = TINY; from nisf.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_cohort(folder, 6, seed=5, scanner=SCANNER)
    return folder


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, data):
    """Two cases, and the prior that did them."""
    anatomy = load_anatomy("cardiac-sax")
    cases = [case for _, case in CaseReader(open_cohort(data, anatomy), anatomy)]
    prior, out = (tmp_path_factory.mktemp(name) / name for name in ("prior", "out"))
    train(cases, [], anatomy, toys.settings(toys.TINY, train={"steps": 2}), prior)
    (out.parent / "names.txt").write_text("phantom0000\nphantom0001\n")
    words = ["segment", str(data), "--prior", str(prior), "-o", str(out), "--steps", "1"]
    assert main([*words, "--only", str(out.parent / "names.txt")]) == 0
    return out


def kill_again_and_again(words: list[str], look: Callable[[], None], program: tuple[str, ...] = ()) -> None:
    """Start the command and kill it, some times in the midst of its work; then let it end.

    Args:
        words: words of the command, without ``nisf``.
        look: called after each kill, to look at what is there.
        program: a Python program; nisf if empty.
    """
    command = [sys.executable, *(program or ("-m", "nisf")), *words]
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}

    def run(seconds: float | None) -> subprocess.CompletedProcess[str] | None:
        try:  # which kills it when the time is over
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return None

    rng = random.Random(3)
    began = time.monotonic()
    assert (whole := run(None)) is not None
    assert whole.returncode == 0, whole.stderr
    took = time.monotonic() - began
    again = [*command, "--overwrite"] if "paper" not in words else command
    command = again
    for _ in range(KILLS):
        run(rng.uniform(0.3, 0.95) * took)
        look()
    ended = run(None)
    assert ended is not None
    assert ended.returncode == 0, ended.stderr


def no_drafts(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.name.startswith(".writing-")]


def test_a_rendering(segmented, tmp_path):
    out = tmp_path / "fine.nii.gz"
    files = [tmp_path / f"fine_{kind}.nii.gz" for kind in ("seg", "image")]

    def look():
        for path in files:
            if path.exists():  # whole, whether of this run or of the one before
                assert np.asarray(nib.load(path).dataobj).ndim == 4

    words = ["render", str(segmented / "phantom0000.nisf"), "-o", str(out), "--spacing", "2,2,2"]
    kill_again_and_again(words, look)
    look()
    assert all(path.exists() for path in files)
    assert no_drafts(tmp_path)


def test_a_report(segmented):
    pages = segmented / "report"

    def look():
        for page in pages.glob("*.html"):
            assert page.read_text(encoding="utf-8").rstrip().endswith("</html>"), page

    kill_again_and_again(["report", str(segmented)], look)
    look()
    assert (pages / "index.html").exists()
    assert len(list(pages.glob("*.html"))) == 3
    assert no_drafts(segmented)


def test_a_paper(data, tmp_path):
    def look():
        for path in tmp_path.glob("*.csv"):
            with path.open(newline="") as file:
                rows = list(csv.reader(file))
            assert len({len(row) for row in rows}) == 1, path

    words = ["paper", "slices", "--data", str(data), "-o", str(tmp_path), "--budget", "minutes"]
    kill_again_and_again(words, look, ("-c", WITH_A_TINY_BUDGET))
    look()
    assert read_record(tmp_path).parts["paper"].whole(tmp_path)
    assert no_drafts(tmp_path)
