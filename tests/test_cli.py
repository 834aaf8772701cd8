"""The command as a user types it: whole runs on small phantoms, and every way to get it wrong."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nisf.cli import main
from nisf.config.presets import PRESETS
from nisf.kinds.load import read_subject
from nisf.phantom import Scanner, write_cohort

pytestmark = pytest.mark.usefixtures("light")
SMALL = Scanner(matrix=(36, 36), spacing_mm=5.0, thickness_mm=12.0, gap_mm=2.0, frames=3)
QUICK = ["--set", "train.steps=30", "train.points=256", "train.subjects=2", "train.compile=false"]
QUICK += [
    "field.latent=16",
    "field.width=16",
    "field.layers=2",
    "fit.steps=15",
    "fit.points=256",
    "fit.points_last=128",
]
QUICK += ["region.finder_steps=5"]


WATCHED = () if find_spec("tensorboard") is None else ("--tensorboard",)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "cohort"
    write_cohort(folder, 6, seed=3, scanner=SMALL)
    return folder


@pytest.fixture(scope="module")
def prior(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "prior"
    assert main(["train", str(cohort), "-o", str(folder), "--preset", "demo", *WATCHED, *QUICK]) == 0
    return folder


def fails(capsys, *words, status=2):
    """Run a command that must fail; its one sentence."""
    assert main([str(word) for word in words]) == status
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_help_is_fast_and_light():
    code = (
        "import sys, nisf.cli; print(sorted({'torch', 'numpy', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    code = "import sys, nisf; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_train_writes_everything(prior):
    names = {path.name for path in prior.iterdir()}
    assert {
        "prior.json",
        "weights.safetensors",
        "log.jsonl",
        "checkpoint.safetensors",
    } <= names
    card = json.loads((prior / "prior.json").read_text())["card"]
    assert card["training"]["subjects"] == 5
    assert card["validation"]["best_steps"] >= 1
    assert not WATCHED or list((prior / "tensorboard").iterdir())


def test_segment_a_file_overlays_on_its_input(cohort, prior, tmp_path, capsys):
    source = cohort / "phantom0004" / "sa.nii.gz"
    words = ["segment", str(source), "--prior", str(prior), "-o", str(tmp_path), "--probabilities"]
    assert main(words) == 0
    image, seg = nib.load(source), nib.load(tmp_path / "sa_seg.nii.gz")
    assert seg.shape == image.shape
    np.testing.assert_array_equal(seg.affine, image.affine)
    assert json.loads((tmp_path / "labels.json").read_text())["1"] == "LV blood pool"
    probabilities = [
        nib.load(tmp_path / f"sa_probability-{name}.nii.gz").get_fdata()
        for name in ("background", "lv-blood-pool", "lv-myocardium", "rv-blood-pool")
    ]
    np.testing.assert_allclose(np.sum(probabilities, axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.argmax(probabilities, axis=0), np.asarray(seg.dataobj))
    capsys.readouterr()
    stamp = (tmp_path / "sa_seg.nii.gz").stat().st_mtime_ns
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "sa: done already" in said
    assert f"0 of 1 case written to {tmp_path} (1 done already) in " in said
    assert (tmp_path / "sa_seg.nii.gz").stat().st_mtime_ns == stamp
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "sa_seg.nii.gz").stat().st_mtime_ns > stamp


def test_islands_are_removed_from_what_is_asked_later_too(cohort, prior, tmp_path):
    source = str(cohort / "phantom0004" / "sa.nii.gz")
    words = ["segment", source, "--prior", str(prior), "-o", str(tmp_path), "--islands", "remove"]
    assert main(words) == 0
    seg = np.asarray(nib.load(tmp_path / "sa_seg.nii.gz").dataobj)
    for frame in np.moveaxis(seg, 3, 0):
        for k in (1, 2, 3):
            assert ndimage.label(frame == k, structure=np.ones((3, 3, 3)))[1] <= 1
    subject = read_subject(tmp_path / "sa.nisf", prior)
    assert subject.islands == "remove"
    shown = subject.stacks[0].arrangement.undo(subject.render().label)
    np.testing.assert_array_equal(shown, seg)


def test_segment_at_another_spacing_and_render_agree(cohort, prior, tmp_path):
    source = cohort / "phantom0004" / "sa.nii.gz"
    words = ["--spacing", "3,3,5", "--frames", "2"]
    assert main(["segment", str(source), "--prior", str(prior), "-o", str(tmp_path / "a"), *words]) == 0
    subject = str(tmp_path / "a" / "sa.nisf")
    assert main(["render", subject, "-o", str(tmp_path / "b.nii.gz"), *words]) == 0
    one, two = nib.load(tmp_path / "a" / "sa_seg.nii.gz"), nib.load(tmp_path / "b_seg.nii.gz")
    assert one.shape[3] == 2
    np.testing.assert_allclose(one.header.get_zooms()[:3], (3, 3, 5), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    assert (
        main(["render", subject, "-o", str(tmp_path / "plane.png"), "--plane", "1,0.5,0", "--spacing", "4"])
        == 0
    )
    assert (tmp_path / "plane.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "points.csv").write_text("x,y,z\n0,0,0\n900,0,0\n")
    assert (
        main(
            ["render", subject, "-o", str(tmp_path / "answers.csv"), "--points", str(tmp_path / "points.csv")]
        )
        == 0
    )
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert lines[0].startswith("x,y,z,t,intensity,label,p_background")
    assert ",background,1.0000" in lines[2]  # far outside the region


def test_a_broken_case_costs_only_itself(cohort, prior, tmp_path, capsys):
    data = tmp_path / "data"
    for name in ("phantom0000", "phantom0001", "phantom0002"):
        (data / name).mkdir(parents=True)
        for file in ("sa.nii.gz", "seg_sa.nii.gz"):
            (data / name / file).write_bytes((cohort / name / file).read_bytes())
    whole = (data / "phantom0001" / "sa.nii.gz").read_bytes()
    (data / "phantom0001" / "sa.nii.gz").write_bytes(whole[: len(whole) // 2])
    error = fails(capsys, "segment", data, "--prior", prior, "-o", tmp_path / "out", status=1)
    assert "phantom0001" in error
    assert error.splitlines()[-1] == "failed: phantom0001"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"phantom0000_seg.nii.gz", "phantom0002.nisf"} <= names
    assert not [name for name in names if "phantom0001" in name or "writing" in name]
    assert main(["check", str(data)]) == 1
    assert "phantom0001" in capsys.readouterr().out
    assert (
        main(["evaluate", str(data), "--predictions", str(tmp_path / "out"), "-o", str(tmp_path / "s.csv")])
        == 1
    )
    printed = capsys.readouterr()
    assert "LV blood pool" in printed.out
    assert "phantom0001" in printed.err
    assert (tmp_path / "s.csv").read_text().count("phantom0000") > 3


def test_hidden_slices_are_scored(cohort, prior, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("phantom0005\n")
    words = ["evaluate", str(cohort), "--prior", str(prior), "--only", str(tmp_path / "names.txt")]
    assert main([*words, "--hide", "every-2nd-slice", "-o", str(tmp_path / "s.csv")]) == 0
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 3  # three structures in three frames
    assert all(row.startswith("phantom0005") for row in rows[1:])
    assert "RV blood pool" in capsys.readouterr().out


WRONG = {
    "not a nifti": ("a.nii.gz", lambda path: path.write_bytes(b"hello, this is text"), "a.nii.gz"),
    "empty image": ("a.nii.gz", lambda path: save(path, np.zeros((8, 8, 3))), "constant|empty"),
    "nan voxels": ("a.nii.gz", lambda path: save(path, holes()), "144 of 192 voxels are NaN or infinite"),
    "5D": ("a.nii.gz", lambda path: save(path, np.ones((4, 4, 2, 2, 2))), "5"),
    "no file": ("nothing.nii.gz", lambda _: None, "no such file"),
    "other ending": ("a.png", lambda path: path.write_text("x"), "nii"),
    "empty cohort": ("folder", lambda path: path.mkdir(), "empty"),
}


def save(path, data):
    nib.save(nib.Nifti1Image(data.astype(np.float32), np.diag([2.0, 2, 8, 1])), path)


def holes():
    data = np.random.default_rng(0).random((8, 8, 3))
    data[:6] = np.nan
    return data


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input(kind, prior, tmp_path, capsys):
    import re

    name, make, pattern = WRONG[kind]
    make(tmp_path / name)
    assert main(["segment", str(tmp_path / name), "--prior", str(prior), "-o", str(tmp_path / "out")]) in (
        1,
        2,
    )
    error = capsys.readouterr().err
    assert re.search(pattern, error), error
    assert "Traceback" not in error


def test_headers_that_lie(prior, tmp_path, capsys):
    for field, value, pattern in (("pixdim", np.nan, "voxel size"), ("pixdim", 0.0, "voxel size")):
        path = tmp_path / "a.nii"
        image = nib.Nifti1Image(np.random.default_rng(0).random((6, 6, 3)).astype(np.float32), np.eye(4))
        nib.save(image, path)
        raw = bytearray(path.read_bytes())
        raw[80:84] = np.float32(value).tobytes()  # pixdim[1]
        path.write_bytes(raw)
        assert main(["segment", str(path), "--prior", str(prior), "-o", str(tmp_path / "out")]) == 1
        import re

        assert re.search(pattern, capsys.readouterr().err), field


def test_wrong_priors(cohort, prior, tmp_path, capsys):
    import shutil

    scan, out = cohort / "phantom0000" / "sa.nii.gz", tmp_path / "out"
    assert "no such folder" in fails(capsys, "segment", scan, "--prior", tmp_path / "none", "-o", out)
    copy = tmp_path / "copy"
    shutil.copytree(prior, copy)
    (copy / "weights.safetensors").unlink()
    assert "missing" in fails(capsys, "segment", scan, "--prior", copy, "-o", out)
    data = json.loads((prior / "prior.json").read_text())
    (copy / "prior.json").write_text(json.dumps({**data, "format": 99}))
    assert "format 99" in fails(capsys, "segment", scan, "--prior", copy, "-o", out)
    (copy / "prior.json").unlink()
    assert "prior.json" in fails(capsys, "segment", scan, "--prior", copy, "-o", out)


def test_wrong_options(cohort, prior, tmp_path, capsys):
    scan = cohort / "phantom0000" / "sa.nii.gz"
    segment = ["segment", scan, "--prior", prior, "-o", tmp_path / "out"]
    assert "--spacing 1,2" in fails(capsys, *segment, "--spacing", "1,2")
    assert "--spacing 1,0,2" in fails(capsys, *segment, "--spacing", "1,0,2")
    assert "--frames 0" in fails(capsys, *segment, "--frames", "0")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fails(
        capsys, "segment", scan, "--prior", prior, "-o", tmp_path / "file" / "x"
    )
    train = ["train", cohort, "-o", tmp_path / "p"]
    assert "no such preset" in fails(capsys, *train, "--preset", "huge")
    assert "train has no setting stepz" in fails(capsys, *train, "--set", "train.stepz=3")
    assert "not a number" in fails(capsys, *train, "--set", "train.steps=many")
    assert "gabor" in fails(capsys, *train, "--set", "field.activation=tanh")
    assert "--validation" in fails(capsys, *train, "--validation", "some")
    assert "no such anatomy" in fails(capsys, *train, "--anatomy", "liver")
    assert "leave --preset and --anatomy out" in fails(capsys, *train, "--start", prior, "--preset", "cpu")
    assert "leave --preset and --anatomy out" in fails(capsys, *train, "--start", prior, "--anatomy", "x")
    assert "no such folder" in fails(capsys, *train, "--start", tmp_path / "none")
    assert "a network of other sizes" in fails(capsys, *train, "--start", prior, "--set", "field.width=9")
    assert "already contains a run" in fails(capsys, "train", cohort, "-o", prior, "--preset", "demo", *QUICK)
    assert "either" in fails(capsys, "evaluate", cohort)
    assert "every-2nd-slice" in fails(capsys, "evaluate", cohort, "--prior", prior, "--hide", "sideways")
    subject = tmp_path / "x.nisf"
    subject.write_bytes(b"garbage")
    assert "x.nisf" in fails(capsys, "render", subject, "-o", tmp_path / "a.nii.gz")
    assert "name the output" in fails(capsys, "render", subject, "-o", tmp_path / "a.txt")


def test_an_option_given_twice_is_not_half_forgotten(cohort, tmp_path, capsys):
    train = ["train", cohort, "-o", tmp_path / "p"]
    assert "--set: given twice" in fails(capsys, *train, "--set", "train.steps=1", "--set", "train.seed=1")
    assert "--set: given twice" in fails(capsys, *train, "-s", "train.steps=1", "--set=train.seed=1")
    assert "--output: given twice" in fails(capsys, *train, "--output", tmp_path / "q")
    assert "--predictions: given twice" in fails(capsys, "evaluate", cohort, "-p", "a", "--predictions", "b")
    assert not (tmp_path / "p").exists()


def test_truncated_gzip(cohort, prior, tmp_path, capsys):
    whole = (cohort / "phantom0000" / "sa.nii.gz").read_bytes()
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(whole[:-100])
    with pytest.raises(EOFError):
        gzip.decompress(path.read_bytes())
    error = fails(capsys, "segment", path, "--prior", prior, "-o", tmp_path / "out", status=1)
    assert "cut.nii.gz" in error


def test_phantom_and_version(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "p"), "--subjects", "1"]) == 0
    assert (tmp_path / "p" / "phantom0000" / "truth.json").is_file()
    assert main(["--version"]) == 0
    assert re.search(r"^nisf 0\.1\.0( \(\w{7,}(-dirty)?\))?$", capsys.readouterr().out, re.MULTILINE)
    assert "--subjects 0" in fails(capsys, "phantom", tmp_path / "p", "--subjects", "0")


def test_demo_runs_small(tmp_path, monkeypatch):
    from nisf import demo
    from nisf.demo import run_demo

    hearts, scanner = demo.cohort, Scanner(matrix=(48, 48), spacing_mm=4.2, frames=4)
    monkeypatch.setattr(demo, "cohort", lambda count, seed, **_: hearts(count, seed=seed, scanner=scanner))
    monkeypatch.setattr("nisf.demo.CURVE_TIMES", 4)
    monkeypatch.setattr("nisf.demo.VOLUME_SPACING", (6.0, 6.0, 6.0))
    preset = PRESETS["demo"]
    quick = replace(
        preset,
        field=replace(preset.field, width=16, latent=16, layers=2),
        train=replace(preset.train, steps=20, subjects=2, points=256),
        fit=replace(preset.fit, steps=10, points=256),
        region=replace(preset.region, finder_steps=5),
    )
    outcome = run_demo(tmp_path, config=quick, subjects=3, say=lambda _: None)
    assert {s.label for s in outcome.hidden} == {"LV blood pool", "LV myocardium", "RV blood pool"}
    assert len(outcome.curve["LV blood pool"]) == 4
    assert 20 < outcome.ejection[1] < 76
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "demo.png",
        "unseen.nii.gz",
        "unseen_seg.nii.gz",
        "unseen_image.nii.gz",
        "unseen.nisf",
        "prior",
    } <= names


def test_second_order_and_its_posterior(cohort, prior, tmp_path, capsys):
    source = cohort / "phantom0004" / "sa.nii.gz"
    words = ["segment", str(source), "--prior", str(prior), "-o", str(tmp_path), "--steps", "3"]
    assert main([*words, "--method", "second-order", "--shifts", "--gains", "--pose"]) == 0
    assert "not converged: give more --steps" in capsys.readouterr().out
    subject = str(tmp_path / "sa.nisf")
    ask = ["render", subject, "-o", str(tmp_path / "b.nii.gz"), "--probabilities", "--samples", "3"]
    assert main([*ask, "--std"]) == 0
    stds = [nib.load(tmp_path / f"b_std-{name}.nii.gz") for name in ("background", "lv-blood-pool")]
    assert stds[0].shape == nib.load(source).shape
    assert all(0 < std.get_fdata().max() < 0.51 for std in stds)
    # On the input's own grid, render answers as segment did: with the shifts.
    (tmp_path / "points.csv").write_text("x,y,z\n0,0,0\n5,5,5\n")
    answers = ["--points", str(tmp_path / "points.csv"), "--samples", "3", "--std"]
    assert main(["render", subject, "-o", str(tmp_path / "a.csv"), *answers]) == 0
    assert "p_rv-blood-pool,std_background" in (tmp_path / "a.csv").read_text()
    assert main(["render", subject, "-o", str(tmp_path / "c.nii.gz")]) == 0
    one, two = (np.asarray(nib.load(tmp_path / name).dataobj) for name in ("sa_seg.nii.gz", "c_seg.nii.gz"))
    np.testing.assert_array_equal(one, two)
    assert "--samples 1" in fails(capsys, *ask[:-1], "1")
    adam = [*words, "--method", "adam", "--overwrite", "--shifts"]
    assert "only the second-order method fits" in fails(capsys, *adam, status=1)


def test_tensorboard_of_either_kind_of_validation(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from nisf.cli.train import _events

    with _events(tmp_path, True) as events:
        events({"step": 10, "loss": 0.5})
        dice = {"a": [0.1, 0.7, 0.3], "b": {"given": 0.9, "hidden": 0.8}}
        events({"step": 10, "validation": {"dice": dice}})
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = ["training/loss", "validation/a", "validation/b/given", "validation/b/hidden"]
    assert sorted(read.Tags()["scalars"]) == tags
    values = [read.Scalars(tag)[0].value for tag in tags]
    np.testing.assert_allclose(values, [0.5, 0.7, 0.9, 0.8])
