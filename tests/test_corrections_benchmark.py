"""The benchmark of corrections: its rule draws where it should, and its numbers are of what it says."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import toys

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
GRID = toys.toy_grid(shape=(24, 24, 3), spacing=(2.0, 2.0, 8.0))


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("corrections")


def test_the_stroke_lies_along_the_middle_of_the_largest_error(module):
    truth = np.zeros((24, 24, 3, 2), dtype=np.int16)
    truth[4:20, 8:13, 1, 1] = 2
    truth[2:4, 2:4, 0, 0] = 1
    drawn = module.next_stroke(np.zeros_like(truth), truth, GRID, toys.LABELS)
    assert (drawn.position, drawn.frame, drawn.stroke.label) == (1, 1, "muscle")
    assert drawn.area_mm2 == pytest.approx(16 * 5 * 4)
    voxel = GRID.affine.inverse(drawn.stroke.line)
    inner = voxel[(voxel[:, 0] > 6) & (voxel[:, 0] < 17)]
    np.testing.assert_allclose(inner[:, 1], 10, atol=1e-6)
    assert np.ptp(voxel[:, 0]) > 10
    covered = drawn.stroke.voxels(GRID)
    assert (truth[..., 1].reshape(-1)[covered] == 2).all()
    assert module.next_stroke(truth, truth, GRID, toys.LABELS) is None


def test_one_pixel_is_an_error_too(module):
    truth = np.zeros((24, 24, 3, 2), dtype=np.int16)
    truth[5, 5, 0, 0] = 1
    drawn = module.next_stroke(np.zeros_like(truth), truth, GRID, toys.LABELS)
    assert len(drawn.stroke.points) == 1
    fixed = module.pasted(np.zeros_like(truth), [drawn], GRID, toys.LABELS)
    assert fixed[5, 5, 0, 0] == 1
    sets = module.sets_of([drawn], truth)
    assert sets["stroke"].sum() == sets["next"].sum() == sets["others"].sum() == 1
    assert sets["frames"].sum() == 3
    assert not np.logical_and.reduce([sets["stroke"], sets["frames"]]).any()


def test_scores_of_a_toy(module, toy_image_prior, tmp_path):
    case = toys.toy_case(94)
    rows = module.stored(tmp_path / "a.json", case, toy_image_prior, (1, 2))
    assert [row["strokes"] for row in rows] == [1, 2]
    assert module.stored(tmp_path / "a.json", case, toy_image_prior, (1, 2)) == json.loads(json.dumps(rows))
    for row in rows:
        assert row["stroke corrected"] > row["stroke none"]
        assert 0 < row["fit_cpu_s"] < 60
        assert row["wrong_ml pasted"] <= row["wrong_ml none"]
    summary = module.means(rows)
    assert summary["1"]["cases"] == 1
    assert module.table(summary).count("\n") == 7
