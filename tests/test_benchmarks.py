"""The benchmarks run to their end on little; what they measure is theirs alone."""

import csv
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import nisf.kinds.latent.fit
from nisf.chunks import BATCHINGS
from nisf.cli.train import refuse_unused
from nisf.config.overrides import override
from nisf.config.presets import preset
from nisf.config.schema import FieldConfig, FitConfig
from nisf.device import CPU
from nisf.errors import NisfError
from nisf.files import read_tensors, write_tensors
from nisf.kinds.load import load_prior
from nisf.networks.latent_field import LatentField
from nisf.phantom import write_cohort
from nisf.prior.bundled import DEFAULT

pytestmark = pytest.mark.usefixtures("light")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def small_cohort(folder):
    """One phantom in few slices and two frames, with enough of the chest around it for the finder."""
    return write_cohort(folder, 1, 0, replace(small().scanner, matrix=(64, 64), spacing_mm=5.0))


def small():
    import tasks

    scanner = replace(tasks.QUICK.scanner, matrix=(16, 16), spacing_mm=12.0, thickness_mm=18.0)
    return replace(tasks.QUICK, steps=2, repeats=1, scanner=scanner, compile=False)


def test_the_baseline_is_the_same_network():
    import plain
    import workloads

    workload = workloads.phantom_workload(small().scanner)
    torch.manual_seed(1)
    coordinates, latent = torch.rand(50, 4) * 2 - 1, 0.1 * torch.randn(128)
    intensity, classes = plain.PlainField(workload.prior.field)(coordinates, latent)
    expected = workload.prior.field(coordinates[None], latent[None])
    torch.testing.assert_close(intensity, torch.sigmoid(expected[0][0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(classes, expected[1][0], atol=1e-3, rtol=0)


def test_operations_of_the_papers_network():
    import timing

    assert timing.forward_flop(FieldConfig()) == 2 * (4 * 256 + 7 * 128 * 256 + 128 * 5)


def test_speed(tmp_path, monkeypatch, capsys):
    import speed
    import tasks
    import timing
    import workloads

    monkeypatch.setattr(
        workloads, "FIT", FitConfig(steps=2, points=16, iterations=2, points_first=16, points_last=32)
    )
    monkeypatch.setattr(nisf.kinds.latent.fit, "TRIAL_STEPS", 1)
    monkeypatch.setattr(timing, "product", lambda *sizes: lambda: float(np.prod(sizes)))
    monkeypatch.setattr(tasks, "start_up", lambda *_: {"beyond torch": timing.summary([1.0])})
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
    import tasks
    import timing
    import workloads

    commands = []

    def fake(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "case: done already" if len(commands) > 2 else "", "")

    monkeypatch.setattr(tasks.subprocess, "run", fake)
    rows = tasks.start_up(workloads.phantom_workload(small().scanner), 2, timing.cpu_seconds)
    assert len(rows["second run"]["all"]) == 2
    assert commands[1][:4] == [sys.executable, "-m", "nisf", "segment"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_gpu_rehearsed_on_the_processor(tmp_path):
    import gpu

    assert gpu.main(["-o", str(tmp_path), "--device", "cpu", "--quick"]) == 0
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert max(result["agreement"]["plain"].values()) < 1e-4
    for part in ("ceilings", "training", "fitting", "queries", "image recipe"):
        assert result[part]
        for name, row in result[part].items():
            assert row["least"] > 0, name


@pytest.mark.slow
def test_devices_rehearsed_on_the_processor(tmp_path):
    import devices

    assert devices.main(["-o", str(tmp_path), "--device", "cpu", "--quick"]) == 0
    result = json.loads((tmp_path / "devices.json").read_text())
    assert all(row["drawn"] > 300 and not row["differ"] for row in result["voxels"])
    found = result["losses"]["cpu"]
    assert set(found) == {"image recipe", "U-Net"}
    assert all(len(set(losses)) == devices.STEPS for losses in found.values())


@pytest.mark.slow
def test_a_gpus_cohort_rehearsed_on_the_processor(tmp_path, monkeypatch):
    import gpu_cohort

    known = dict(BATCHINGS)
    ways = {name: gpu_cohort.WAYS[name] for name in ("one by one", "together")}
    tiny = replace(small().scanner, matrix=(64, 64), spacing_mm=5.0)
    monkeypatch.setattr(gpu_cohort, "WAYS", ways)
    monkeypatch.setattr(gpu_cohort, "PROCESSES", ())
    monkeypatch.setattr(gpu_cohort, "SHORT", 2)
    monkeypatch.setattr(gpu_cohort, "scanner_of", lambda _: tiny)
    monkeypatch.setitem(gpu_cohort.PARTS, "profile", lambda bench: bench.cases[0].nothing)
    until, crew = float("inf"), gpu_cohort.Crew(0, "cpu", 1)
    cases, short = gpu_cohort.cines(quick=True)
    bench = gpu_cohort.Bench(CPU, cases, load_prior(DEFAULT), True, until, crew, short)
    try:
        assert gpu_cohort.run(bench, tmp_path) == 1  # one part fails, the others do not
    finally:
        BATCHINGS.clear()
        BATCHINGS.update(known)
    result = json.loads((tmp_path / "gpu_cohort.json").read_text())
    assert "AttributeError" in result["profile"]["error"]
    assert result["agreement"]["drawn"] > 100
    assert result["agreement"]["one by one / together"] == 0
    for way in ways:
        assert result["turns"][way]["wall"]["median"] > result["turns"][way]["encoding"]["median"] > 0
        assert result["parts of a case"][way]["encode"] > 0


TINY = (
    "image.pixels=32 image.pixel_mm=6 image.width=8 image.levels=3 image.features=4 image.hidden=8 "
    "image.latent=4 augment.coarse_pixels=16 train.steps=2 train.points=16 region.finder_steps=2"
)


@pytest.mark.slow
def test_step_rates_of_a_packed_cohort(tmp_path, monkeypatch):
    import pack
    import step_rates
    import together

    small_cohort(tmp_path / "data")
    packed = tmp_path / "cases.npz"
    assert pack.main([str(tmp_path / "data"), "-o", str(packed)]) == 0
    monkeypatch.setattr(step_rates, "RATES", {"two": "", "wrong": "image.neighbours=0"})
    monkeypatch.setattr(together, "QUICK", ("image.pixels=32", "image.pixel_mm=5", "train.points=8"))
    monkeypatch.setattr(together, "kept_out", lambda _: False)
    options = [str(packed), "-o", str(tmp_path / "out"), "--device", "cpu", "--quick"]
    assert step_rates.main(options) == 1  # of the second way only
    found = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert found["two"]["ms"] > 0
    assert found["two"]["loss"] > 0
    assert "neighbours" in found["wrong"]["error"]


@pytest.mark.slow
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
    assert capsys.readouterr().out.count("is there") == 7
    kept = train_models.rounds("cardiac-sax-80", tmp_path / "data", tmp_path / "b", [])
    assert all(str(tmp_path / "b" / "val.txt") in command for command in kept)
    assert len((tmp_path / "b" / "val.txt").read_text().split()) == 1


def test_folds_are_trained_without_their_cases(tmp_path, capsys):
    import train_folds

    write_cohort(tmp_path / "data", 5, 0, small().scanner)
    out = tmp_path / "out"
    command = [
        str(tmp_path / "data"),
        "-o",
        str(out),
        "--folds",
        "3",
        "--set",
        *TINY.split(),
        "train.minutes=0",
    ]
    assert train_folds.main(command) == 0
    assert [(out / f"fold{k}.txt").read_text().split() for k in (1, 2, 3, 4)] == [
        [f"phantom000{k}"] for k in (1, 2, 3, 4)
    ]
    # The first phantom is the model's own: no fold sees it.
    first, second = (load_prior(out / f"fold3-round{n}") for n in (1, 2))
    assert first.card["training"]["subjects"] == second.card["training"]["subjects"] == 3
    assert second.card["start"] == first.fingerprint
    assert [prior.config.train.seed for prior in (first, second)] == [3, 13]
    assert "1 validation case;" in capsys.readouterr().out
    assert train_folds.main(command) == 0
    assert capsys.readouterr().out.count("is there") == 2


@pytest.mark.slow
def test_seeds_of_three_methods(tmp_path, capsys):
    import seeds

    write_cohort(tmp_path / "data", 5, 0, replace(small().scanner, matrix=(32, 32), spacing_mm=6.0))
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
    for kind, exchange in (("field", 0), ("pair", 3)):
        first, second = (load_prior(tmp_path / "out" / f"{kind}{seed}") for seed in (3, 4))
        assert first.config.image.phase_exchange == exchange
        assert first.fingerprint != second.fingerprint
    capsys.readouterr()
    assert seeds.main(command) == 0
    assert "step 2 of 2" not in capsys.readouterr().out
    assert (tmp_path / "out" / "seeds.csv").read_text().splitlines() == rows


@pytest.mark.parametrize(
    "program", ["train_models.py", "real_data.py", "robustness.py", "certainty.py", "seeds.py"]
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


def test_settings_of_trainings_mean_something():
    import same_results
    import side_by_side
    import train_models

    for model in train_models.MODELS:
        for settings in train_models.MODELS[model][2]:
            refuse_unused(override(preset("image"), settings.split()), settings.split())
    for name, settings in side_by_side.SETTINGS.items():
        refuse_unused(override(preset(name), settings), settings)
    for name, command in same_results.COMMANDS.items():
        if command.startswith("train"):
            kind, settings = (
                ("image" if name == "image-prior" else "cpu"),
                command.split(" --set ")[1].split(),
            )
            refuse_unused(override(preset(kind), settings), settings)


def test_a_cohort_that_a_model_was_not_made_for():
    import train_models

    with pytest.raises(NisfError, match=r"a case without a number"):
        train_models.kept_out(["heart7", "heart"])
    assert train_models.kept_out(["patient005", "patient006", "x12_10"]) == ["patient005", "x12_10"]


def test_a_case_that_cannot_be_read_costs_itself(tmp_path, capsys):
    from common import cases_of

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
    np.testing.assert_array_equal(hidden.shifted_by(off, 2, np.array([-2.0, 3.0])), label)


def test_certainty_is_chosen_on_one_half_and_measured_on_the_other(tmp_path, capsys, monkeypatch):
    import certainty

    monkeypatch.setattr(certainty, "CANDIDATES", (0.0, 0.9))
    write_cohort(tmp_path / "data", 2, 0, replace(small().scanner, matrix=(64, 64), spacing_mm=5.0))
    command = [str(tmp_path / "data"), "cardiac-sax-80", "-o", str(tmp_path / "out")]
    assert certainty.main(command) == 0
    said = capsys.readouterr().out
    for way in ("nothing asked", "the prior's own", "chosen on the other half"):
        assert f"{way}: (" in said
    rows = (tmp_path / "out" / "certainty.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2 * 3 + 3 * 2 * 2
    assert all(0 <= float(row.rsplit(",", 1)[1]) <= 1 for row in rows[1:])


def test_what_a_convention_of_reading_costs(tmp_path, capsys):
    import reading

    label, reference = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    label[:2], reference[:2, :, 1:] = 1, 1
    label[2:, :, 0] = 2
    restricted = reading.as_read(label, reference, 3)
    np.testing.assert_array_equal(restricted, reference)

    write_cohort(tmp_path / "data", 1, 0, replace(small().scanner, matrix=(64, 64), spacing_mm=5.0))
    assert reading.main([str(tmp_path / "data"), "cardiac-sax-80", "-o", str(tmp_path / "out")]) == 0
    as_is, as_read = map(float, capsys.readouterr().out.splitlines()[-1].split()[1:])
    assert 0.6 < as_is <= as_read <= 1
    rows = list(csv.DictReader((tmp_path / "out" / "reading.csv").read_text().splitlines()))
    assert {(row["label"], row["phase"]) for row in rows} == {
        (name, phase)
        for name in ("LV blood pool", "LV myocardium", "RV blood pool")
        for phase in ("ED", "ES")
    }
    assert all(float(row["only_model_ml"]) >= float(row["of_it_next_ml"]) >= 0 for row in rows)


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


def test_a_refused_case_costs_itself(tmp_path, capsys, monkeypatch):
    """A ramp and a heart: the numbers are those of the heart, and the exit status tells."""
    import hidden
    import robustness
    import turned

    monkeypatch.setattr(turned, "WAYS", dict(list(turned.WAYS.items())[:2]))
    monkeypatch.setattr(robustness, "CHANGES", {"mirrored": robustness.CHANGES["mirrored"]})
    monkeypatch.setattr(robustness, "PIXELS", {})
    folder = small_cohort(tmp_path / "data") and tmp_path / "data"
    shutil.copytree(folder / "phantom0000", folder / "aaa")
    image = nibabel.load(folder / "aaa" / "sa.nii.gz")
    ramp = np.broadcast_to(np.arange(image.shape[0])[:, None, None, None], image.shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(ramp, image.affine), folder / "aaa" / "sa.nii.gz")
    for program in (hidden, robustness, turned):
        out = tmp_path / program.__name__
        assert program.main([str(folder), "cardiac-sax", "-o", str(out)]) == 1
        said = capsys.readouterr()
        assert "nothing in this image looks like" in said.err
        assert "refused, not in these numbers: aaa" in said.out
        rows = (out / f"{program.__name__}.csv").read_text().splitlines()
        assert any("phantom0000" in row for row in rows)
        with pytest.raises(NisfError, match="nothing could be measured"):
            program.main([str(folder), "cardiac-sax", "-o", str(tmp_path / "none"), "--cases", "1"])


def test_in_which_way_a_stack_is_stored(tmp_path, monkeypatch, capsys):
    import turned

    for quarters, mirror in turned.WAYS.values():
        array = np.arange(24).reshape(2, 3, 4)
        back = turned.turned_back(turned.turned(array, quarters, mirror), quarters, mirror)
        np.testing.assert_array_equal(back, array)
    assert (
        len({turned.turned(np.arange(6).reshape(2, 3), *way).tobytes() for way in turned.WAYS.values()}) == 8
    )
    monkeypatch.setattr(turned, "WAYS", dict(list(turned.WAYS.items())[::3]))
    small_cohort(tmp_path / "data")
    command = [str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out")]
    assert turned.main(command) == 0
    first = capsys.readouterr().out
    rows = (tmp_path / "out" / "turned.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    assert rows[1].startswith("phantom0000,0 degrees,1.0,1.0,1.0,")
    assert min(float(row.rsplit(",", 1)[1]) for row in rows[1:]) > 0.6
    assert turned.main(command) == 0  # goes on with what is there
    assert capsys.readouterr().out == first.split("\n", 1)[1]


def test_how_sure_the_finder_is(tmp_path):
    import found

    small_cohort(tmp_path / "data")
    assert found.main([str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out"), "--dice"]) == 0
    header, row = (tmp_path / "out" / "found.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(values["whole"]) > 0.5
    assert float(values["Dice whole"]) > 0.6
    assert {f"{side:g} x" for side in found.SIDES} < set(values)


def test_the_finder_alone_is_trained_again(tmp_path, capsys):
    import fit_finder

    small_cohort(tmp_path / "data")
    command = ["cardiac-sax", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out"), "--everyone"]
    assert fit_finder.main([*command, "--steps", "2"]) == 0
    assert "finder: step 2 of 2" in capsys.readouterr().out
    old, new = load_prior("cardiac-sax"), load_prior(tmp_path / "out" / "prior")
    assert new.fingerprint == old.fingerprint
    assert new.appendices == old.appendices
    assert new.card["finder"] == {"subjects": 1, "steps": 2, "seed": 0}
    assert new.digest != old.digest
    # Started again, it trains nothing, and writes the same.
    assert fit_finder.main([*command, "--steps", "2"]) == 0
    assert "finder: step" not in capsys.readouterr().out
    assert load_prior(tmp_path / "out" / "prior").digest == new.digest


def test_the_orienter_alone_is_trained(tmp_path, capsys):
    import fit_orienter

    small_cohort(tmp_path / "data")
    shutil.copytree(load_prior("cardiac-sax").folder, tmp_path / "prior")
    command = [str(tmp_path / "prior"), "--data", str(tmp_path / "data"), "-o", str(tmp_path / "out")]
    assert fit_orienter.main([*command, "--everyone", "--steps", "2"]) == 0
    assert "orienter: step 2 of 2" in capsys.readouterr().out
    old, new = load_prior("cardiac-sax"), load_prior(tmp_path / "prior")
    assert new.fingerprint == old.fingerprint
    assert new.digest != old.digest
    with pytest.raises(NisfError, match="files that are stored one way"):
        fit_orienter.main(["hippocampus", *command[1:]])


@pytest.mark.slow
def test_robustness(tmp_path):
    import robustness

    small_cohort(tmp_path / "data")
    assert robustness.main([str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out")]) == 0
    header, row = (tmp_path / "out" / "robustness.csv").read_text().splitlines()
    dice = dict(zip(header.split(",")[1:], map(float, row.split(",")[1:]), strict=True))
    assert list(dice)[1:] == [*robustness.CHANGES, *robustness.PIXELS]
    assert dice["as it is"] > 0.5
    for change in ("reverse order", "scaled"):
        assert abs(dice[change] - dice["as it is"]) < 0.01


@pytest.fixture
def latent_prior(tmp_path):
    """Folder of an untrained prior with a small latent field."""
    import workloads

    prior = workloads.phantom_workload(small().scanner).prior
    settings = ["field.width=8", "field.latent=8", "field.layers=2", "fit.points=32", "fit.steps=2"]
    second = ["fit.method=second-order", "fit.iterations=2", "fit.points_last=64", "fit.points_first=32"]
    config = override(prior.config, [*settings, *second])
    torch.manual_seed(0)
    statistics = {"latent_mean": torch.zeros(8), "latent_covariance": torch.eye(8)}
    replace(prior, config=config, field=LatentField(config.field), **statistics).save(tmp_path / "latent")
    return tmp_path / "latent"


def test_calibration_of_a_cohort(tmp_path, latent_prior, monkeypatch, capsys):
    import calibration
    import nisf.kinds.latent.selection as selection

    monkeypatch.setattr(selection, "STRENGTHS", (1.0,))
    monkeypatch.setattr(selection, "TEMPERATURES", (0.25, 1.0))
    monkeypatch.setattr(calibration, "SAMPLES", 2)
    small_cohort(tmp_path / "data")
    (tmp_path / "names.txt").write_text("phantom0000\n")
    command = [str(tmp_path / "data"), str(latent_prior), "-o", str(tmp_path / "out")]
    assert calibration.main([*command, "--choose", str(tmp_path / "names.txt")]) == 0
    result = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert result["cases"] == ["phantom0000"]
    assert result["temperature"] in (0.25, 1.0)
    assert sum(result["latent alone"]["count"]) > 0
    assert (tmp_path / "out" / "calibration.png").stat().st_size > 1000
    assert "second-order fit: prior strength 1" in capsys.readouterr().out
    with pytest.raises(NisfError, match="of the kind 'image'; give a prior of the kind 'latent'"):
        calibration.main([command[0], "cardiac-sax", "-o", str(tmp_path / "out")])


def test_fit_curve_of_a_cohort(tmp_path, latent_prior):
    import fit_curve

    small_cohort(tmp_path / "data")
    command = [str(tmp_path / "data"), str(latent_prior), "-o", str(tmp_path / "out")]
    settings = ["--steps", "10", "--iterations", "3", "--set", "fit.prior_strength=0.1"]
    assert fit_curve.main([*command, *settings]) == 0
    result = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [row["iterations"] for row in result["adam"]] == [0, 10]
    assert (tmp_path / "out" / "curve.png").stat().st_size > 1000


def test_alignment_of_a_cohort(tmp_path, latent_prior):
    import alignment

    small_cohort(tmp_path / "data")
    command = ["cohort", str(tmp_path / "data"), str(latent_prior), "-o", str(tmp_path / "out"), "--gains"]
    assert alignment.main(command) == 0
    (row,) = json.loads((tmp_path / "out" / "alignment.json").read_text())
    assert row["case"] == "phantom0000"
    assert row["shifts_mm"]
    assert "rms_mm" not in row
    assert (tmp_path / "out" / "phantom0000.png").is_file()


def test_phantoms_that_breathe(monkeypatch):
    import alignment

    scanner = replace(small().scanner, frames=1)
    monkeypatch.setattr(alignment, "Scanner", lambda **options: replace(scanner, **options))
    (case, shifts) = next(alignment.phantoms(1, 77))
    assert 6 <= np.abs(shifts).max() <= 8
    assert len(shifts) == case.stacks[0].grid.shape[2]


def test_scores_of_real_data(tmp_path, capsys):
    import real_data

    small_cohort(tmp_path / "data")
    assert real_data.main(["scores", str(tmp_path / "data"), "cardiac-sax", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "phantom0000: Dice 0." in said
    assert "ejection fraction, LV blood pool: mean absolute error" in said
    for name in ("cases.csv", "scores.csv", "montage.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    with pytest.raises(NisfError, match="give a prior of the kind 'latent'"):
        real_data.main(["scores", str(tmp_path), "cardiac-sax", "-o", str(tmp_path), "--training"])


def test_curve_of_a_cine(tmp_path, capsys):
    import real_data

    (folder,) = small_cohort(tmp_path / "data")
    command = ["curve", str(folder / "sa.nii.gz"), "cardiac-sax", "-o", str(tmp_path / "out")]
    labels = next(path for path in folder.glob("*.nii.gz") if path.name != "sa.nii.gz")
    assert real_data.main([*command, "--reference", str(labels), "--number", "1"]) == 0
    rows = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    assert rows[0].startswith("t,LV blood pool")
    assert len(rows) == 3
    said = capsys.readouterr().out
    frames = [line for line in said.splitlines() if line.startswith("frame ")]
    assert len(frames) == 2
    assert all(float(line.split("Dice ")[1].split(",")[0]) > 0.5 for line in frames)
    for name in ("curve.png", "montage.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000


def results(folder):
    """A folder of tiny results of every kind that is compared, and of some that are not."""
    folder.mkdir()
    label = np.zeros((4, 4, 2), dtype=np.uint8)
    label[1:3, 1:3] = 1
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "a_seg.nii.gz")
    (folder / "scores.csv").write_text("case,dice,hd95_mm\na,0.9125,nan\nb,0.5,12\n")
    write_tensors(folder / "weights.safetensors", {"w": torch.arange(4.0), "k": torch.arange(3)})
    (folder / "log.jsonl").write_text('{"step": 10, "loss": 0.25, "dice": {"blood": null}}\n')
    write_tensors(folder / "checkpoint.safetensors", {"w": torch.zeros(1)})
    (folder / "notes.txt").write_text("no result\n")
    return folder


def change_label(folder):
    image = nibabel.load(folder / "a_seg.nii.gz")
    label = np.asarray(image.dataobj).copy()
    label[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(label, image.affine), folder / "a_seg.nii.gz")


def change_text(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def change_tensor(name, value):
    def change(folder):
        tensors, _ = read_tensors(folder / "weights.safetensors")
        write_tensors(folder / "weights.safetensors", {**tensors, name: value})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_label, "a_seg.nii.gz: differs by inf"),
        (change_text("scores.csv", "0.9125", "0.9126"), "scores.csv: differs by 0.00011"),
        (change_text("scores.csv", "nan", "3.5"), "scores.csv: differs by inf"),
        (change_text("scores.csv", "a,", "c,"), "scores.csv: differs by inf"),
        (change_text("scores.csv", "b,0.5,12\n", ""), "scores.csv: has ['row 2'] more or less"),
        (change_text("log.jsonl", "0.25", "0.2501"), "log.jsonl: differs by 1e-05"),
        (change_text("log.jsonl", "null", "0.5"), "log.jsonl: differs by inf"),
        (change_tensor("w", torch.tensor([0.0, 1, 2, 3.001])), "weights.safetensors: differs by 0.000333"),
        (change_tensor("w", torch.tensor([0.0, 1, 2, torch.nan])), "weights.safetensors: differs by inf"),
        (change_tensor("k", torch.tensor([0, 1, 3])), "weights.safetensors: differs by inf"),
        (change_tensor("k", torch.arange(4)), "weights.safetensors: differs by inf"),
        (change_tensor("more", torch.zeros(1)), "weights.safetensors: has ['more'] more or less"),
        (lambda folder: (folder / "scores.csv").unlink(), "scores.csv: missing"),
        (lambda folder: (folder / "more.csv").write_text("1\n"), "more.csv: missing"),
    ],
)
def test_other_results_are_noticed(change, said, tmp_path, capsys):
    import same_results

    first, other = results(tmp_path / "first"), results(tmp_path / "other")
    change(other)
    assert same_results.main(["compare", str(first), str(other)]) == 1
    printed = capsys.readouterr().out
    assert said in printed
    assert len(printed.splitlines()) == 2


def test_the_same_results(tmp_path, capsys):
    import same_results

    first, other = results(tmp_path / "first"), tmp_path / "other"
    shutil.copytree(first, other)
    # Neither of these is a result, and rounding is none.
    write_tensors(other / "checkpoint.safetensors", {"w": torch.ones(1)})
    (other / "notes.txt").write_text("other words\n")
    change_tensor("w", torch.tensor([0.0, 1, 2, 3 + 1e-6]))(other)
    assert same_results.main(["compare", str(first), str(other)]) == 0
    assert capsys.readouterr().out.startswith("4 files, largest difference 3.1")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert same_results.main(["compare", str(empty), str(empty)]) == 1


def test_commands_are_run_by_a_checkout(tmp_path, monkeypatch, capsys):
    import same_results

    commands = {"one": "phantom {out}/cohort --subjects 1", "two": "segment {data}/acdc -o {out}"}
    monkeypatch.setattr(same_results, "COMMANDS", commands)
    ran = []

    def fake(checkout, arguments, folder):
        ran.append((checkout, arguments, folder))
        return {"wall": 1.5, "cpu": 1.0}, ""

    monkeypatch.setattr(same_results, "run_nisf", fake)
    command = ["run", str(tmp_path / "checkout"), "-o", str(tmp_path / "out")]
    assert same_results.main(command) == 0
    assert same_results.main(command) == 0
    root = (tmp_path / "out").resolve()
    assert ran == [(tmp_path / "checkout", ["phantom", f"{root}/one/cohort", "--subjects", "1"], root)]
    assert capsys.readouterr().out.splitlines()[:2] == ["one: 1.5 s", "two: left out, no --data"]


def test_side_by_side(tmp_path, capsys):
    import side_by_side

    root = str(BENCHMARKS.parent)
    path = tmp_path / "out.json"
    assert side_by_side.main([root, root, "-o", str(path), "--repeats", "1", "--", "models"]) == 0
    result = json.loads(path.read_text())
    assert result["command"] == ["models"]
    for clock in ("wall", "cpu"):
        row = result["nisf models"][clock]
        assert 0.01 < row["first"]["median"] < 60
        assert row["ratio"] == row["other"]["median"] / row["first"]["median"]
    assert "nisf models, cpu: " in capsys.readouterr().out
    with pytest.raises(NisfError, match="has no src/nisf"):
        side_by_side.main([root, str(tmp_path), "-o", str(path), "--", "models"])
    with pytest.raises(NisfError, match=r"(?s)ended with 1\n.*no-such-folder"):
        side_by_side.main([root, root, "-o", str(path), "--", "check", str(tmp_path / "no-such-folder")])


@pytest.mark.parametrize(
    "arguments", [[], ["--training", "--", "models"], ["--repeats", "0", "--", "models"]]
)
def test_side_by_side_refuses(arguments, tmp_path):
    import side_by_side

    with pytest.raises(NisfError, match=r"give either a command|a number of at least 1"):
        side_by_side.main([".", ".", "-o", str(tmp_path / "out.json"), *arguments])


def test_side_by_side_of_training_steps(tmp_path, monkeypatch):
    import side_by_side

    order = []

    def fake(checkout, arguments, _folder, threads):
        settings = dict(text.split("=") for text in arguments if "=" in text)
        steps, slower = int(settings["train.steps"]), 2 if checkout.name == "other" else 1
        order.append((checkout.name, steps))
        assert threads == 1
        assert "{out}" not in " ".join(arguments)
        return {"wall": 7.0 + 0.5 * slower * steps, "cpu": 5.0 + 0.25 * steps}, ""

    monkeypatch.setattr(side_by_side, "run_nisf", fake)
    monkeypatch.setattr(side_by_side, "write_cohort", lambda *_, **__: None)
    path = tmp_path / "out.json"
    command = [str(tmp_path / "first"), str(tmp_path / "other"), "-o", str(path), "--repeats", "2"]
    assert side_by_side.main([*command, "--training", "cpu"]) == 0
    row = json.loads(path.read_text())["a step of the preset cpu"]
    # Start-up is the same of both lengths.
    assert row["wall"]["first"]["all"] == pytest.approx([0.5, 0.5])
    assert (row["wall"]["ratio"], row["cpu"]["ratio"]) == (pytest.approx(2.0), pytest.approx(1.0))
    first, other = ([(name, steps) for steps in side_by_side.STEPS["cpu"]] for name in ("first", "other"))
    # The round that is not counted, and two that begin with another one.
    assert order == [*other, *first, *first, *other, *other, *first]


@pytest.mark.slow
def test_long_axis_planes_put_slices_in_line(tmp_path, capsys):
    import long_axis

    words = ["phantom", "cardiac-sax-80", "-o", str(tmp_path), "--cases", "1"]
    long_axis.FRAMES, frames = 1, long_axis.FRAMES
    try:
        assert long_axis.main(words) == 0
    finally:
        long_axis.FRAMES = frames
    found = json.loads((tmp_path / "long_axis.json").read_text())
    assert found["errors of the found shifts, mm"]["largest"] < 1 < found["shifts, mm"]["largest"]
    assert found["mean Dice"]["in line"] > found["mean Dice"]["stack"]
    assert "phantom0000: shifts of" in capsys.readouterr().out


@pytest.mark.slow
def test_training_with_long_axis_planes(tmp_path, monkeypatch):
    import long_axis_training as benchmark
    from nisf.kinds.load import load_prior

    for name, value in {"FRAMES": 1, "POINTS": 200, "WAYS": ("basal",)}.items():
        monkeypatch.setattr(benchmark, name, value)
    words = ["phantom", "cardiac-sax-80", "-o", str(tmp_path), "--train", "1", "--cases", "1", "--steps", "2"]
    assert benchmark.main(words) == 0
    found = json.loads((tmp_path / "long_axis_training.json").read_text())["mean Dice"]
    assert list(found) == ["as it was", "trained with the stack", "trained with planes"]
    assert all(0.2 < dice < 1 for scores in found.values() for dice in scores.values())
    assert found["as it was"] != found["trained with the stack"] != found["trained with planes"]
    # Both networks see the same slices of the stack and the same points; one of them sees planes as well.
    prior = load_prior("cardiac-sax-80")
    short, planes = benchmark.scanned(21, 0, frames=1, shift_mm=0.0)
    subject = benchmark.subject_of(short.case, planes, prior, np.random.default_rng(5), short.heart)
    more = set()
    for step in range(8):
        alone, both = (benchmark.sample_of(subject, step, prior, planes=shown) for shown in (False, True))
        more.add(len(both.maps) - len(alone.maps))
        assert (both.maps[: len(alone.maps)] == alone.maps).all()
        assert (both.points == alone.points).all()
        assert (both.label == alone.label).all()
    assert more == {0, 2}
