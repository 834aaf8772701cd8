"""The benchmark of the main results, and the tables that are made of what it writes."""

import json
import shutil
from pathlib import Path

import pytest

from nisf.errors import NisfError
from nisf.phantom import Scanner, write_cohort

ROOT = Path(__file__).parents[1]
SMALL = Scanner(matrix=(64, 64), spacing_mm=5.0, thickness_mm=18.0, frames=2, beyond=0)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One phantom as each of the data sets."""
    folder = tmp_path_factory.mktemp("results") / "data"
    (case,) = write_cohort(folder / "acdc", 1, 0, SMALL)
    shutil.copytree(folder / "acdc", folder / "mnms-a")
    (folder / "sunnybrook").mkdir()
    shutil.copy(case / "sa.nii.gz", folder / "sunnybrook" / "x_sa.nii.gz")
    (labels,) = (path for path in case.glob("*.nii.gz") if path.name != "sa.nii.gz")
    shutil.copy(labels, folder / "sunnybrook" / "x_sa_gt.nii.gz")
    return folder


def test_parts_are_scored_once(data, tmp_path, capsys, monkeypatch):
    import generalisation

    monkeypatch.setattr(generalisation, "SUNNYBROOK_NUMBER", 1)
    command = ["cardiac-sax-80", "--data", str(data), "-o", str(tmp_path), "--parts"]
    assert generalisation.main([*command, "given", "every-2nd", "sunnybrook"]) == 0
    first = capsys.readouterr().out
    assert "given phantom0000: Dice 0." in first
    result = json.loads((tmp_path / "generalisation.json").read_text())
    assert list(result["parts"]) == ["given", "every-2nd", "sunnybrook"]
    given = result["parts"]["given"]
    assert 0.5 < given["dice"] == given["worst"] < 1
    assert len(given["structures"]) == 6
    cine = result["parts"]["sunnybrook"]
    assert cine["dice"] >= cine["dice_volume"] > 0.5
    assert abs(cine["largest_volume_error"]) >= cine["volume_error"]
    # Its first structure is that of the first part, in both frames.
    blood = [row["dice"] for row in given["structures"] if row["structure"] == "LV blood pool"]
    assert cine["dice_volume"] == pytest.approx(sum(blood) / 2, abs=0.02)
    # What is done is not done again, also if the last line was cut off.
    with (tmp_path / "cases.jsonl").open("a") as file:
        file.write('{"part": "gi')
    assert generalisation.main([*command, "given"]) == 0
    assert "phantom0000: Dice" not in capsys.readouterr().out
    assert json.loads((tmp_path / "generalisation.json").read_text())["parts"]["given"] == given
    with pytest.raises(NisfError, match="holds no cine"):
        generalisation.main(
            ["cardiac-sax-80", "--data", str(tmp_path), "-o", str(tmp_path / "o"), "--parts", "sunnybrook"]
        )


def test_tables_show_their_numbers(tmp_path, monkeypatch):
    import tables

    shutil.copytree(tables.RESULTS, tmp_path / "results")
    path = tmp_path / "results" / "cardiac-sax-80.json"
    found = json.loads(path.read_text())
    found["parts"]["given"]["dice"] = 0.12345
    path.write_text(json.dumps(found))
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    assert "| **0.123** |" in tables.headline()
    assert "| ACDC, every slice given (20) | **0.123** |" in tables.generalisation()
    assert tables.main(["nothing"]) == 2


def test_weights_of_the_results_are_those_that_ship():
    """If this fails, run the benchmark again on the new weights: see docs/results.md."""
    from nisf.kinds.load import load_prior

    for name in ("cardiac-sax-80", "cardiac-sax"):
        parts = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())["parts"]
        for part, row in parts.items():
            model = "hippocampus" if part == "hippocampus" else name
            assert row["prior"] == load_prior(model).fingerprint, (name, part)
    for name in ("long-axis-phantoms", "long-axis-acdc"):
        found = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
        assert found["prior"] == load_prior("cardiac-sax-80").fingerprint
