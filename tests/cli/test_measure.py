"""``nisf measure``, what ``nisf segment`` adds for it, and ``nisf evaluate --measures``."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.cli.measure import Measure
from nisf.kinds.load import load_prior
from nisf.measures.case import MeasureOptions
from nisf.measures.folder import Tables
from nisf.segmentation import Request, segment_case, write_segmentation
from nisf.segmentation.measures import MeasureFiles

pytestmark = pytest.mark.usefixtures("light")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def out(toy_image_prior, tmp_path_factory):
    """Two toy cases, segmented and measured."""
    folder = tmp_path_factory.mktemp("measure") / "out"
    prior = load_prior(toy_image_prior.folder)
    with Tables(folder) as tables:
        for seed in (50, 51):
            case = replace(toys.toy_case(seed), attributes={"height_cm": "180", "weight_kg": "80"})
            write_segmentation(segment_case(case, prior), folder, writers=[MeasureFiles()])
            tables.note()
    return folder


@pytest.fixture
def toy_file(tmp_path):
    """A toy case as a NIfTI file."""
    case = toys.toy_case(52)
    path = tmp_path / "toy52.nii.gz"
    nib.save(nib.Nifti1Image(toys.image_of(case)[..., 0], case.stacks[0].grid.affine.matrix), path)
    return path


def test_segmentation_writes_measures(out):
    rows = read(out / "measures.csv")
    assert [row["case"] for row in rows] == ["toy50", "toy51"]
    assert float(rows[0]["blood_ml"]) > 5
    assert float(rows[0]["blood_ml"]) == pytest.approx(float(rows[0]["blood_slices_ml"]), rel=0.1)
    assert (out / "toy50.measures.json").is_file()
    assert {row["structure"] for row in read(out / "curves.csv")} == {"blood", "muscle"}


def test_measures_do_not_depend_on_the_grid_that_is_written(out, toy_image_prior, tmp_path):
    prior = load_prior(toy_image_prior.folder)
    request = Request(spacing=(6.0, 6.0, 8.0), frames=3)
    with Tables(tmp_path) as tables:
        case = replace(toys.toy_case(50), attributes={"height_cm": "180", "weight_kg": "80"})
        subject = segment_case(case, prior, request)
        write_segmentation(subject, tmp_path, request, writers=[MeasureFiles()])
        tables.note()
    name = "toy50.measures.json"
    first, second = (json.loads((folder / name).read_text()) for folder in (out, tmp_path))
    assert first["curve"] == second["curve"]


def test_measuring_again_gives_the_same(out, capsys):
    before = (out / "measures.csv").read_text()
    assert main(["measure", str(out)]) == 0
    assert (out / "measures.csv").read_text() == before
    assert "2 of 2 cases measured" in capsys.readouterr().out


def test_what_the_user_gave_is_kept(toy_image_prior, toy_file, tmp_path, capsys):
    out = tmp_path / "out"
    segment = ["segment", str(toy_file), "-o", str(out), "--prior", str(toy_image_prior.folder)]
    assert main(segment) == 0
    (plain,) = read(out / "measures.csv")
    assert main(["measure", str(out), "--bsa", "1.5"]) == 0

    def kept():
        entries = json.loads((out / "toy52.measures.json").read_text())
        return entries["body_m2"]

    assert kept() == 1.5
    before = (out / "toy52.measures.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(segment) == 0
    printed = capsys.readouterr()
    assert "done already" in printed.out + printed.err
    assert (out / "toy52.measures.json").stat().st_mtime_ns == before
    assert main(["measure", str(out)]) == 0
    assert "measured, with a body surface area of 1.5 m2 as given before" in capsys.readouterr().out
    assert kept() == 1.5
    strokes = tmp_path / "none.json"
    strokes.write_text('{"nisf_strokes": 1, "strokes": []}')
    assert main(["correct", str(out / "toy52.nisf"), str(strokes)]) == 0
    assert kept() == 1.5
    assert main(["measure", str(out), "--bsa", "2"]) == 0
    assert "as given before" not in capsys.readouterr().out
    assert kept() == 2
    assert main(["measure", str(out), "--forget"]) == 0
    assert kept() is None
    (again,) = read(out / "measures.csv")
    assert again == plain
    assert main(["measure", str(out), "--bsa", "2"]) == 0
    assert main([*segment, "--overwrite"]) == 0
    assert kept() is None


def test_new_settings_replace_those_of_the_same_kind():
    before = MeasureOptions({"ED": 3, "ES": 9}, 1.9)
    command = Measure(Path("out"), es=8)
    assert command.settings(before, None) == (
        MeasureOptions({"ED": 3, "ES": 8}, 1.9),
        "ED in frame 3 and a body surface area of 1.9 m2",
    )
    assert command.settings(before, 2.0) == (MeasureOptions({"ED": 3, "ES": 8}, 2.0), "ED in frame 3")
    assert Measure(Path("out"), forget=True).settings(before, None) == (MeasureOptions(), "")


def test_measures_do_not_follow_an_edited_file_and_say_so(out, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    path = copy / "toy51_seg.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(0 * np.asarray(image.dataobj), image.affine, image.header), path)
    assert main(["measure", str(copy)]) == 0
    assert "toy51_seg.nii.gz: changed after nisf wrote it" in capsys.readouterr().err
    first, second = read(copy / "measures.csv")
    assert "toy51.nisf" in second["notes"]
    assert "nisf" not in first["notes"]
    assert float(second["blood_ml"]) > 5


def test_one_case_that_cannot_be_read_costs_itself(out, tmp_path, capsys):
    for path in out.glob("*.nisf"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "toy49.nisf").write_bytes(b"nothing")
    assert main(["measure", str(tmp_path)]) == 1
    assert "toy49: failed" in capsys.readouterr().err
    assert len(read(tmp_path / "measures.csv")) == 2


def test_measures_that_cannot_be_read_cost_their_row(out, toy_image_prior, toy_file, tmp_path, capsys):
    folder = tmp_path / "out"
    shutil.copytree(out, folder)
    for name in ("toy60", "toy61"):
        (folder / f"{name}.measures.json").write_text("{")
    says = ["left out of the tables: ", "toy60.measures.json", "toy61.measures.json"]
    assert main(["measure", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "2 of 2 cases measured" in printed.out
    assert all(text in printed.err for text in says)
    command = ["segment", str(toy_file), "-o", str(folder), "--prior", str(toy_image_prior.folder)]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "1 of 1 case written" in printed.out
    assert all(text in printed.err for text in says)
    assert len(read(folder / "measures.csv")) == 3


def test_bodies_of_nobody_are_named(out, tmp_path, capsys):
    folder, table, only = tmp_path / "out", tmp_path / "bodies.csv", tmp_path / "only.txt"
    shutil.copytree(out, folder)
    table.write_text("case,bsa_m2\ntoy50,1.9\ntoy51,1.8\ntoy5l,1.8\n")
    only.write_text("toy50\n")
    assert main(["measure", str(folder), "--body", str(table), "--only", str(only)]) == 0
    assert f"note: {table}: toy5l is not a case in {folder}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bsa", "1.9"], "--bsa: is for one person"),
        (["--height", "180"], "--height: is for one person"),
        (["--body", "none.csv"], "cannot be read"),
        (["--body", "none.csv", "--bsa", "1.8"], "--bsa: is for one person"),
        (["--only", "none.txt"], "cannot be read"),
    ],
)
def test_options_that_mean_nothing(out, words, says, capsys):
    assert main(["measure", str(out), *words]) == 2
    assert says in capsys.readouterr().err


def test_a_phase_that_the_anatomy_does_not_have(out, capsys):
    assert main(["measure", str(out), "--ed", "0"]) == 1
    assert "no phase ED" in capsys.readouterr().err


def test_no_file_to_measure(tmp_path, capsys):
    assert main(["measure", str(tmp_path)]) == 2
    assert "no .nisf file" in capsys.readouterr().err
    (tmp_path / "case.nisf").touch()
    for path, why in (("case.nisf", "not a folder"), ("nothing", "no such file or folder")):
        assert main(["measure", str(tmp_path / path)]) == 2
        assert f"{tmp_path / path}: {why}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--measures"], "needs --predictions"),
        (["-p", "x", "--plots", "a.png"], "--plots needs --measures"),
        (
            ["-p", "x", "--measures", "--steps", "3"],
            "leave --hide, --steps, --threads, --device, --prior out",
        ),
        (["-p", "x", "--measures", "--plots", "a.doc"], "name it .png"),
    ],
)
def test_evaluate_measures_says_what_it_needs(tmp_path, words, says, capsys):
    words = [str(tmp_path) if word == "x" else word for word in words]
    assert main(["evaluate", str(tmp_path), *words]) == 2
    assert says in capsys.readouterr().err


def test_tables_of_the_user_stay(out, tmp_path, capsys):
    for path in out.glob("toy50*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = tmp_path / "measures.csv"
    table.write_text("mine")
    before = (tmp_path / "toy50.measures.json").stat().st_mtime_ns
    assert main(["measure", str(tmp_path)]) == 2
    assert "measures.csv: was not written by nisf" in capsys.readouterr().err
    assert table.read_text() == "mine"
    # Refused before anything was measured.
    assert (tmp_path / "toy50.measures.json").stat().st_mtime_ns == before
    assert main(["measure", str(tmp_path), "--overwrite"]) == 0
    assert [row["case"] for row in read(table)] == ["toy50"]


@pytest.mark.parametrize("option", ["-o", "--plots"])
def test_evaluate_measures_replaces_no_file_that_nisf_did_not_write(tmp_path, option, capsys):
    mine = tmp_path / "mine.png"
    mine.write_text("precious")
    assert main(["evaluate", str(tmp_path), "-p", str(tmp_path), "--measures", option, str(mine)]) == 2
    assert "mine.png: was not written by nisf" in capsys.readouterr().err
    assert mine.read_text() == "precious"
