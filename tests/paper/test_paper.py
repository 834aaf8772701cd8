"""All experiments on six phantoms, with priors that take seconds: files, numbers in range, resuming."""

import csv
import json

import numpy as np
import pytest

from nisf.cli import main
from nisf.outputs import read_part
from nisf.paper import EXPERIMENTS, budget
from nisf.paper.ablations import CHOICES
from nisf.paper.estimate import jobs
from nisf.paper.methods import FROZEN, OURS, REFERENCE_SHAPE, SECOND, UNET, UNET_NEAREST, UNET_SHAPE, UNFROZEN
from nisf.paper.sparse import KINDS
from nisf.paper.variants import base, score_variant
from nisf.picture import STYLE
from tiny_budget import TINY

pytestmark = pytest.mark.usefixtures("light")


def rows_of(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(study):
    """Every experiment, run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nisf.kinds.latent.fit.TRIAL_STEPS", 2)
        patch.setattr("nisf.paper.fig2.MEASURED", 1024)
        patch.setattr("nisf.paper.variants.VOXELS", 1024)
        patch.setitem(STYLE, "pdf.fonttype", 3)  # embedding TrueType fonts takes longer than drawing
        return study.output, {name: experiment.run(study) for name, experiment in EXPERIMENTS.items()}


def test_before_anything_is_done(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(budget.BUDGETS, "minutes", TINY)
    command = ["paper", "all", "--data", str(phantoms), "-o", str(tmp_path), "--budget", "minutes"]
    assert main([*command, "--estimate"]) == 0
    printed = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert name in printed
    assert "in total, estimated" in printed
    assert not (tmp_path / "priors").exists()
    assert read_part(tmp_path, "", "paper").whole(tmp_path)
    for name in ("table1.csv", "fig4-slices.png"):
        mine = tmp_path / name
        mine.write_text("mine")
        assert main(command) == 2
        assert f"{name}: was not written by nisf" in capsys.readouterr().err
        assert mine.read_text() == "mine"
        mine.unlink()


def test_each_leaves_its_files(done):
    folder, results = done
    for name, result in results.items():
        assert result is not None, name
        assert result.line.endswith((".", "mL")) or "Dice" in result.line
        for end in ("csv", "pdf", "png", "json"):
            assert (folder / f"{name}.{end}").stat().st_size > 100
        json.loads((folder / f"{name}.json").read_text())
        for row in rows_of(folder, name):
            if row.get("dice"):
                assert 0 <= float(row["dice"]) <= 1


def test_table1_compares_all_methods_on_the_same_subjects(done, study):
    folder, results = done
    rows = rows_of(folder, "table1")
    methods = {FROZEN, UNFROZEN, SECOND, OURS, UNET}
    assert {row["method"] for row in rows} == methods
    for method in methods:
        cases = {row["case"] for row in rows if row["method"] == method}
        assert cases == {case.name for case in study.test}
    names = [line[0] for line in results["table1"].table[1:]]
    assert names[0] == "the paper"
    assert set(names[1:]) == methods
    # The table's mean is the mean of the CSV.
    dice = np.mean([float(row["dice"]) for row in rows if row["method"] == UNET])
    (line,) = [line for line in results["table1"].table if line[0] == UNET]
    assert float(line[4].split()[0]) == pytest.approx(dice, abs=6e-4)


def test_hidden_slices_are_scored_apart(done):
    rows = rows_of(done[0], "fig4")
    assert len({row["protocol"] for row in rows}) == 4
    assert {row["method"] for row in rows} == {
        FROZEN,
        SECOND,
        OURS,
        UNET_SHAPE,
        UNET_NEAREST,
        REFERENCE_SHAPE,
    }
    assert (done[0] / "fig4-slices.png").is_file()


def test_what_is_varied(done):
    rows = rows_of(done[0], "ablations")
    assert {row["varied"] for row in rows} == set(CHOICES)
    kept = {(row["kept"], row["every"]): float(row["share"]) for row in rows_of(done[0], "sparse")}
    assert kept["all", "1"] == 1
    assert len(kept) == 1 + sum(len(everies) for _, everies in KINDS.values())
    assert all(0 < share < 1 for key, share in kept.items() if key[1] != "1")


def test_views_have_volumes(done):
    rows = rows_of(done[0], "planes")
    for row in rows:
        assert float(row["area_length_ml"]) > 0
        assert 10 < float(row["reference_ml"]) < 400


@pytest.mark.usefixtures("done")
def test_nothing_is_computed_twice(study, monkeypatch):
    left = [job for job in jobs(study, list(EXPERIMENTS)) if job.seconds]
    assert not left
    monkeypatch.setattr("nisf.paper.results.save_figure", lambda *_: None)
    said = len(study.said)
    for name in ("table1", "fig2", "fig4", "planes", "slices"):
        EXPERIMENTS[name].run(study)
    assert not any("training" in line or "Dice" in line for line in study.said[said:])


@pytest.mark.usefixtures("done")
def test_curves_and_variants_are_those_of_the_test_subjects(study, monkeypatch):
    """With fewer subjects than before, or more, they are computed anew."""
    monkeypatch.setattr("nisf.paper.fig2.MEASURED", 1024)
    monkeypatch.setattr("nisf.paper.variants.VOXELS", 1024)
    monkeypatch.setattr("nisf.paper.fig2.picture", lambda *_: None)
    other = study.training[0]
    monkeypatch.setitem(vars(study), "test", [*study.test, other])
    assert EXPERIMENTS["fig2"].run(study).line.startswith("2 subjects.")
    rows = score_variant(study, base(study))
    assert {row["case"] for row in rows} == {case.name for case in study.test}


def test_wrong_options(phantoms, tmp_path, capsys):
    command = ["paper", "table1", "--data", str(phantoms), "-o", str(tmp_path)]
    assert main([*command, "--use", "image"]) == 2
    assert "write paper=, image=, unet= or base=" in capsys.readouterr().err
    assert main([*command, "--test", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    for name, what in (("paper", "prior"), ("unet", "U-Net")):
        missing = tmp_path / "missing"
        assert main([*command, "--use", f"{name}={missing}"]) == 2
        assert f"{missing}: contains no trained {what}" in capsys.readouterr().err
        assert not missing.exists()
