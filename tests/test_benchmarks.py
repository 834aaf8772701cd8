"""The benchmarks run to their end on little; what they measure is theirs alone."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nisf.kinds.latent.fit
from nisf.config.schema import FieldConfig, FitConfig
from nisf.errors import NisfError
from nisf.kinds.load import load_prior
from nisf.phantom import write_cohort

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def small_cohort(folder):
    """One phantom in few slices and two frames."""
    return write_cohort(folder, 1, 0, replace(small().scanner, matrix=(32, 32), spacing_mm=6.0))


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
    monkeypatch.setattr(nisf.kinds.latent.fit, "TRIAL_STEPS", 1)
    monkeypatch.setattr(measuring, "product", lambda *sizes: lambda: float(np.prod(sizes)))
    monkeypatch.setattr(tasks, "start_up", lambda *_: {"beyond torch": measuring.summary([1.0])})
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

    def fake(command, **_):
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

    # Of so little work any row may come first: all of them are asked for.
    assert "aten::addmm" in profiled.table(kind, 20, 100, baseline=baseline)


def test_gpu_rehearsed_on_the_processor(tmp_path):
    import gpu

    assert gpu.main(["-o", str(tmp_path), "--device", "cpu", "--quick"]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert max(result["agreement"]["plain"].values()) < 1e-4
    for part in ("ceilings", "training", "fitting", "queries", "image recipe"):
        assert result[part]
        for name, row in result[part].items():
            assert row["least"] > 0, name


def test_devices_rehearsed_on_the_processor(tmp_path):
    import devices

    assert devices.main(["-o", str(tmp_path), "--device", "cpu", "--quick"]) == 0
    result = json.loads((tmp_path / "devices.json").read_text())
    assert all(row["drawn"] > 300 and not row["differ"] for row in result["voxels"])
    of = result["losses"]["cpu"]
    assert set(of) == {"image recipe", "U-Net"}
    assert all(len(set(losses)) == devices.STEPS for losses in of.values())


TINY = (
    "image.pixels=32 image.pixel_mm=6 image.width=8 image.levels=3 image.features=4 image.hidden=8 "
    "image.latent=4 augment.coarse_pixels=16 train.steps=2 train.points=16 train.validate_points=16 "
    "region.finder_steps=2"
)


def test_models_are_trained_round_after_round(tmp_path, capsys):
    import train_models

    write_cohort(tmp_path / "data", 5, 0, small().scanner)
    command = ["cardiac-sax", str(tmp_path / "data"), "-o", str(tmp_path / "out"), "--set", *TINY.split()]
    assert train_models.main(command) == 0
    priors = [load_prior(tmp_path / "out" / f"round{k}") for k in (1, 2, 3, 4, 5, 6)]
    assert [p.config.image.slice_exchange for p in priors] == [0, 0, 0, 3, 3, 3]
    assert [p.config.image.phase_exchange for p in priors] == [0, 0, 0, 0, 0, 3]
    assert [p.config.augment.hide for p in priors] == [0.5, 0.6, 0.7, 0.7, 0.7, 0.7]
    assert [p.card.get("start") for p in priors] == [None, *(p.fingerprint for p in priors[:5])]
    assert {p.card["licence"] for p in priors} == {train_models.ACDC}
    # The model that ships has seen everyone in its last three rounds.
    assert [p.card["training"]["subjects"] for p in priors] == [4, 4, 4, 5, 5, 5]
    assert [p.card["validation"] is None for p in priors] == [False, False, False, True, True, True]
    capsys.readouterr()
    assert train_models.main(command) == 0
    assert capsys.readouterr().out.count("is there") == 6
    kept = train_models.rounds("cardiac-sax-80", tmp_path / "data", tmp_path / "b", [])
    assert all(str(tmp_path / "b" / "val.txt") in command for command in kept)
    assert len((tmp_path / "b" / "val.txt").read_text().split()) == 1


def test_seeds_of_three_methods(tmp_path, capsys):
    import seeds

    write_cohort(tmp_path / "data", 10, 0, replace(small().scanner, matrix=(32, 32), spacing_mm=6.0))
    command = [str(tmp_path / "data"), "-o", str(tmp_path / "out"), "--seeds", "3", "4", "--test", "1"]
    command += ["--longer", "1", "--set", *TINY.split(), "augment.coarse=0"]
    assert seeds.main(command) == 0
    said = capsys.readouterr().out
    assert f"{'every-2nd-slice':16s} {'pair':22s} Dice" in said
    rows = (tmp_path / "out" / "seeds.csv").read_text().splitlines()
    found = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    unets = {"U-Net + shape", "U-Net + nearest"}
    longer = [row for row in found if row["method"].startswith("longer ")]
    assert {row["method"] for row in longer} == {f"longer {name}" for name in unets}
    assert {row["seed"] for row in longer} == {"3"}
    found = [row for row in found if row not in longer]
    assert {row["method"] for row in found} == {"field", "pair", *unets}
    assert {row["seed"] for row in found} == {"3", "4"}
    # Three structures at two phases.
    assert len(found) == 4 * 2 * 2 * 6
    for kind, moments in (("field", 0), ("pair", 3)):
        first, second = (load_prior(tmp_path / "out" / f"{kind}{seed}") for seed in (3, 4))
        assert first.config.image.phase_exchange == moments
        assert first.fingerprint != second.fingerprint
    capsys.readouterr()
    assert seeds.main(command) == 0
    assert "step 2 of 2" not in capsys.readouterr().out
    assert (tmp_path / "out" / "seeds.csv").read_text().splitlines() == rows


@pytest.mark.parametrize(
    "program", ["train_models.py", "real_data.py", "robustness.py", "calibration.py", "seeds.py"]
)
@pytest.mark.parametrize(
    ("made", "problem"),
    [(lambda path: path.mkdir(), "an empty folder"), (lambda _: None, "no such file or folder")],
)
def test_a_wrong_folder_is_one_sentence(program, made, problem, tmp_path, monkeypatch, capsys):
    data, output = tmp_path / "data", tmp_path / "out"
    made(data)
    model = "hippocampus"
    arguments = [model, str(data)] if program == "train_models.py" else [str(data), model]
    if program == "seeds.py":
        arguments = [str(data)]
    verb = ["scores"] if program == "real_data.py" else []
    monkeypatch.setattr(sys, "argv", [program, *verb, *arguments, "-o", str(output)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / program), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"{program}: {data}: ")
    assert problem in said
    assert said.count("\n") == 1


def test_a_cohort_that_a_model_was_not_made_for():
    import train_models

    with pytest.raises(NisfError, match=r"a case without a number"):
        train_models.kept_out(["heart7", "heart"])
    assert train_models.kept_out(["patient005", "patient006", "x12_10"]) == ["patient005", "x12_10"]


def test_a_case_that_cannot_be_read_costs_itself(tmp_path, capsys):
    from held import cases_of

    data, prior = tmp_path / "data", load_prior("cardiac-sax")
    write_cohort(data, 2, 0, small().scanner)
    cut = data / "phantom0000" / "sa.nii.gz"
    cut.write_bytes(cut.read_bytes()[:200])
    assert [case.name for case in cases_of(data, prior, None, None)] == ["phantom0001"]
    assert f"left out: {cut}" in capsys.readouterr().err
    with pytest.raises(NisfError, match="none of 1 cases can be read"):
        list(cases_of(data, prior, None, 1))


def test_slices_are_moved_to_where_they_agree():
    import hidden

    label = np.zeros((20, 20), dtype=np.int16)
    label[8:14, 5:9] = 1
    off = np.roll(label, (2, -3), (0, 1))
    spacing = np.array([2.0, 2.0, 10.0])
    np.testing.assert_array_equal(hidden.best_moved(off, label, spacing), label)
    far = np.roll(label, (5, 0), (0, 1))  # 10 mm, farther than slices are moved
    assert (hidden.best_moved(far, label, spacing) != label).any()
    np.testing.assert_array_equal(hidden.moved_as_neighbours_say(off, 2, np.array([-2.0, 3.0])), label)


def test_certainty_is_chosen_on_one_half_and_measured_on_the_other(tmp_path, capsys, monkeypatch):
    import certainty

    monkeypatch.setattr(certainty, "CANDIDATES", (0.0, 0.9))
    write_cohort(tmp_path / "data", 2, 0, replace(small().scanner, matrix=(32, 32), spacing_mm=6.0))
    command = [str(tmp_path / "data"), "cardiac-sax-80", "-o", str(tmp_path / "out")]
    assert certainty.main(command) == 0
    said = capsys.readouterr().out
    for way in ("nothing asked", "the prior's own", "chosen on the other half"):
        assert f"{way}: (" in said
    rows = (tmp_path / "out" / "certainty.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2 * 3 + 3 * 2 * 2
    assert all(0 <= float(row.rsplit(",", 1)[1]) <= 1 for row in rows[1:])


def test_what_hidden_slices_cost(tmp_path, capsys):
    import hidden

    small_cohort(tmp_path / "data")
    command = [str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out")]
    assert hidden.main([*command, "--protocol", "every-2nd-slice"]) == 0
    said = capsys.readouterr().out
    names = ("hidden", "hidden, best moved", "given", "given, placed")
    dice = {way: float(said.split(f"\n{way} ")[1].split()[0]) for way in names}
    assert min(dice.values()) > 0.6
    assert dice["hidden"] <= dice["hidden, best moved"]
    rows = (tmp_path / "out" / "hidden.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 * 3 * 2


def test_robustness(tmp_path, monkeypatch):
    import robustness

    small_cohort(tmp_path / "data")
    monkeypatch.setattr(
        sys, "argv", ["robustness.py", str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out")]
    )
    assert robustness.main() == 0
    header, row = (tmp_path / "out" / "robustness.csv").read_text().splitlines()
    dice = dict(zip(header.split(",")[1:], map(float, row.split(",")[1:]), strict=True))
    assert list(dice)[1:] == [*robustness.CHANGES, *robustness.PIXELS]
    assert dice["as it is"] > 0.5
    for change in ("reverse order", "scaled"):
        assert abs(dice[change] - dice["as it is"]) < 0.01
