"""What `check`, `segment` and `evaluate` make of what people give them: paths, patterns, names, old files."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from nisf.cli import main
from nisf.io.readers.nifti import read_volume
from nisf.kinds.load import read_subject
from nisf.phantom import Scanner, write_cohort

pytestmark = pytest.mark.usefixtures("light")
QUICK = ["--preset", "demo", "--set", "train.steps=2", "train.points=64", "train.subjects=2"]
QUICK += ["train.compile=false", "field.latent=8", "field.width=8", "field.layers=2"]
QUICK += ["fit.steps=2", "fit.points=64", "fit.points_last=32", "region.finder_steps=2"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs") / "cohort"
    write_cohort(
        folder, 4, seed=3, scanner=Scanner(matrix=(24, 24), spacing_mm=7.5, thickness_mm=16.0, frames=3)
    )
    return folder


@pytest.fixture(scope="module")
def prior(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "prior"
    assert main(["train", str(cohort), "-o", str(folder), "--validation", "every-4th", *QUICK]) == 0
    return folder


@pytest.fixture
def scans(cohort, tmp_path):
    """A flat folder of scans, one with a bracket in its name, and labels of one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for n, name in enumerate(("a.nii.gz", "b_0000.nii.gz", "c[1].nii.gz")):
        shutil.copy(cohort / f"phantom000{n}" / "sa.nii.gz", folder / name)
    shutil.copy(cohort / "phantom0000" / "seg_sa.nii.gz", folder / "a_seg.nii.gz")
    return folder


@pytest.fixture
def segment(prior, tmp_path):
    """Run `segment` into one folder; its exit status."""

    def run(*words):
        ask = ["--prior", prior, "-o", tmp_path / "out", "--steps", "2"]
        return main(["segment", *map(str, words), *map(str, ask)])

    return run


def written(folder):
    return sorted(path.name.removesuffix(".nisf") for path in folder.glob("*.nisf"))


def test_a_flat_folder(scans, segment, tmp_path, capsys):
    assert segment(scans) == 0
    printed = capsys.readouterr()
    assert written(tmp_path / "out") == ["a", "b", "c[1]"]
    assert "3 of 3 cases written" in printed.out
    assert "skipped, because they are not named like images or cases: a_seg.nii.gz" in printed.err
    image, seg = nib.load(scans / "a.nii.gz"), nib.load(tmp_path / "out" / "a_seg.nii.gz")
    assert seg.shape == image.shape
    np.testing.assert_array_equal(seg.affine, image.affine)
    assert main(["check", str(scans)]) == 0
    assert "3 cases, layout flat: 0 errors" in capsys.readouterr().out


def test_several_paths_and_patterns(scans, cohort, segment, tmp_path, capsys):
    # A literal path with brackets; a pattern; a folder; and one file twice.
    words = [scans / "c[1].nii.gz", scans / "[ab].nii.gz", cohort / "phantom0003", scans / "a.nii.gz"]
    assert main(["check", *map(str, words)]) == 0
    assert "3 cases, layout several: 0 errors" in capsys.readouterr().out
    assert segment(*words) == 0
    assert written(tmp_path / "out") == ["a", "c[1]", "phantom0003"]


def test_one_of_several_that_is_not_there_costs_itself(scans, segment, tmp_path, capsys):
    assert segment(scans / "a.nii.gz", tmp_path / "none.nii.gz") == 1
    assert written(tmp_path / "out") == ["a"]
    assert "none.nii.gz: no such file or folder" in capsys.readouterr().err
    assert segment(tmp_path / "none.nii.gz", tmp_path / "nothing") == 2
    assert segment(tmp_path / "n*.nii.gz") == 2
    assert "no match as a pattern" in capsys.readouterr().err
    assert main(["check", str(scans / "a.nii.gz"), str(tmp_path / "none")]) == 1
    assert segment() == 2


def test_two_inputs_of_one_name(cohort, segment, tmp_path, capsys):
    first, second = (cohort / f"phantom000{n}" / "sa.nii.gz" for n in (0, 1))
    assert segment(first, second) == 2
    assert f"{first} and {second}: both are the case sa" in capsys.readouterr().err
    assert segment(first) == 0
    before = (tmp_path / "out" / "sa.nisf").read_bytes()
    assert segment(second) == 1
    error = capsys.readouterr().err
    assert "out/sa: was made from another input of the name sa, and would be replaced" in error
    assert "--overwrite" in error
    assert (tmp_path / "out" / "sa.nisf").read_bytes() == before
    assert segment(second, "--overwrite") == 0
    assert (tmp_path / "out" / "sa.nisf").read_bytes() != before


def test_every_input_file_counts(cohort, segment, prior, tmp_path, capsys):
    """A pair of files: the second one is touched, moved, and replaced by another."""
    folder = tmp_path / "data" / "subject"
    folder.mkdir(parents=True)
    cine = nib.load(cohort / "phantom0000" / "sa.nii.gz")
    frames = np.asarray(cine.dataobj)
    for end, frame in (("ED", 0), ("ES", 1)):
        nib.save(nib.Nifti1Image(frames[..., frame], cine.affine), folder / f"sa_{end}.nii")
    assert segment(folder) == 0
    inputs = read_subject(tmp_path / "out" / "subject.nisf", prior).summary["request"]["inputs"]
    assert [entry["size"] for entry in inputs] == [
        (folder / file).stat().st_size for file in ("sa_ED.nii", "sa_ES.nii")
    ]
    assert str(folder) not in json.dumps(inputs)
    assert len(inputs[1]["sha256"]) == 64

    def done():
        capsys.readouterr()
        assert segment(folder) == 0
        return "done already" in capsys.readouterr().out

    assert done()
    os.utime(folder / "sa_ES.nii", (1, 1))
    assert done(), "touched"
    shutil.copy(folder / "sa_ED.nii", folder / "seg_sa_ED.nii")
    assert done(), "labels are not looked at"
    moved = shutil.move(folder, tmp_path / "subject")
    assert segment(moved) == 0
    assert "done already" in capsys.readouterr().out
    shutil.move(moved, folder)
    nib.save(nib.Nifti1Image(frames[..., 2], cine.affine), folder / "sa_ES.nii")
    assert not done(), "replaced by one of the same size"
    assert done()


def test_what_a_manifest_says_of_a_case_is_compared_too(cohort, segment, tmp_path, capsys):
    table = tmp_path / "manifest.csv"
    scan = cohort / "phantom0000" / "sa.nii.gz"

    def done(phases, height):
        table.write_text(f"case,image,phase,height_cm,weight_kg\none,{scan},{phases},{height},80\n")
        capsys.readouterr()
        assert segment(table) == 0
        with (tmp_path / "out" / "measures.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert float(row["lv_edv_index_ml_per_m2"]) == pytest.approx(
            float(row["lv_edv_ml"]) / np.sqrt(height * 80 / 3600), rel=1e-3
        )
        return "done already" in capsys.readouterr().out

    assert not done("ED:0;ES:1", 180)
    assert done("ED:0;ES:1", 180)
    assert not done("ED:0;ES:2", 180)
    assert not done("ED:0;ES:2", 160)
    # Earlier versions recorded nothing of it.
    record = tmp_path / "out" / "one.run.json"
    data = json.loads(record.read_text())
    for part in data["parts"].values():
        part["made"]["options"].pop("tables", None)
    record.write_text(json.dumps(data))
    assert done("ED:0;ES:2", 160)


@pytest.mark.parametrize("form", ["nrrd", "mha", "hdr"])
def test_formats(cohort, segment, tmp_path, capsys, form):
    """The same answers in another format; they are done already, scored, and asked again in any."""
    if form == "mha":
        pytest.importorskip("SimpleITK")
    folder, out = cohort / "phantom0000", tmp_path / "out"
    names = ("seg", "image", "probability-lv-blood-pool")
    assert segment(folder / "sa.nii.gz", "--probabilities") == 0
    before = {name: read_volume(out / f"sa_{name}.nii.gz") for name in names}
    assert segment(folder / "sa.nii.gz", "--probabilities", "--format", form) == 0
    assert "done already" not in capsys.readouterr().out
    assert not (out / "sa_seg.nii.gz").exists()  # of the result before, which the new one replaces
    for name in names:
        same, header = before[name]
        found, other = read_volume(out / f"sa_{name}.{form}")
        np.testing.assert_array_equal(found, same)
        np.testing.assert_allclose(other.affine.matrix, header.affine.matrix, atol=1e-4)
        assert other.cycle_ms == pytest.approx(header.cycle_ms, rel=1e-5)
    assert segment(folder / "sa.nii.gz", "--probabilities", "--format", form) == 0
    assert "done already" in capsys.readouterr().out
    for ending in (form, "nii.gz"):
        assert main(["render", str(out / "sa.nisf"), "-o", str(tmp_path / f"again.{ending}")]) == 0
    found, _ = read_volume(tmp_path / f"again_seg.{form}")
    np.testing.assert_array_equal(found, before["seg"][0])


def test_scores_of_another_format(cohort, segment, tmp_path, capsys):
    assert segment(cohort / "phantom0000", "--format", "nrrd") == 0
    scores = []
    for ending in ("nrrd", "nii.gz"):
        capsys.readouterr()
        command = ["evaluate", str(cohort), "-p", str(tmp_path / "out"), "-o", str(tmp_path / "s.csv")]
        (tmp_path / "only.txt").write_text("phantom0000")
        assert main([*command, "--only", str(tmp_path / "only.txt")]) == 0
        scores.append((tmp_path / "s.csv").read_text())
        if ending == "nrrd":
            assert segment(cohort / "phantom0000", "--overwrite") == 0
            assert not (tmp_path / "out" / "phantom0000_seg.nrrd").exists()
    assert scores[0] == scores[1]


def test_a_mistyped_phase_is_told_before_the_fit(cohort, segment, capsys, monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("fitted")

    monkeypatch.setattr("nisf.segmentation.segment_case", never)
    for wish in ("Ed", "ED,9", "3"):
        assert segment(cohort / "phantom0000" / "sa.nii.gz", "--seg-nrrd", wish) == 1
        error = capsys.readouterr().err
        assert (
            f"sa: no phase '{wish.split(',')[-1]}' among its 3 frames; give auto, all, or ED, ES, 0 to 2"
            in error
        )
        assert "--seg-nrrd" in error


def test_warnings_are_shown(cohort, segment, tmp_path, capsys):
    """What is wrong with a folder is said; that there are no labels is not, since none are read."""
    folder = tmp_path / "patient001"
    folder.mkdir()
    cine = nib.load(cohort / "phantom0000" / "sa.nii.gz")
    for frame in (1, 3):
        image = nib.Nifti1Image(np.asarray(cine.dataobj)[..., frame // 2], cine.affine)
        nib.save(image, folder / f"patient001_frame0{frame}.nii.gz")
    (folder / "Info.cfg").write_text("ED: 1\nES: third\n")
    assert segment(folder) == 0
    error = capsys.readouterr().err
    assert "'ES: third' is no frame number; left out" in error
    assert "no label file" not in error
    assert main(["check", str(folder)]) == 0
    assert "no label file" in capsys.readouterr().out


def test_other_times_of_the_same_files_count(cohort, segment, tmp_path, capsys):
    shutil.copy(cohort / "phantom0000" / "sa.nii.gz", tmp_path / "a.nii.gz")
    table = tmp_path / "m.csv"
    for times, done in (("0,0.3,0.6", False), ("0,0.3,0.6", True), ("0,0.3,0.7", False)):
        frames = nib.load(tmp_path / "a.nii.gz")
        rows = ["case,image,time"]
        for n, time in enumerate(times.split(",")):
            path = tmp_path / f"a{n}.nii"
            if not path.exists():
                nib.save(nib.Nifti1Image(np.asarray(frames.dataobj)[..., n], frames.affine), path)
            rows.append(f"one,{path.name},{time}")
        table.write_text("\n".join(rows))
        assert segment(table) == 0
        assert ("done already" in capsys.readouterr().out) == done


def test_another_list_of_labels_stays(scans, segment, tmp_path, capsys):
    path = tmp_path / "out" / "labels.json"
    path.parent.mkdir()
    for text in ('{"0": "background", "1": "spleen"}', "[]", "no"):
        path.write_text(text)
        assert segment(scans / "a.nii.gz") == 2
        said = capsys.readouterr().err
        assert "labels.json: " in said
        assert "choose another output folder, or overwrite it (--overwrite)" in said
        assert path.read_text() == text
    path.write_text('{"1": "LV blood pool", "2": "LV myocardium", "3": "RV blood pool"}')
    assert segment(scans / "a.nii.gz") == 0
    path.write_text('{"1": "spleen"}')
    assert segment(scans / "a.nii.gz", "--overwrite") == 0
    assert json.loads(path.read_text())["1"] == "LV blood pool"


def test_label_names_of_a_data_set_do_not_matter(cohort, segment, tmp_path):
    data = tmp_path / "data"
    (data / "imagesTr").mkdir(parents=True)
    (data / "labelsTr").mkdir()
    shutil.copy(cohort / "phantom0000" / "sa.nii.gz", data / "imagesTr" / "x_0000.nii.gz")
    (data / "labelsTr" / "x.nii.gz").symlink_to("nowhere")
    table = {"background": 0, "whole": [1, 2], "aorta": 1}
    (data / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": table}))
    assert segment(data) == 0
    assert written(tmp_path / "out") == ["x"]
    assert main(["check", str(data)]) == 1


def test_links_without_a_target_fail(cohort, segment, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    link = data / "phantom0002" / "sa.nii.gz"
    link.unlink()
    link.symlink_to("../../.git/annex/objects/x")
    (data / "other").mkdir()
    assert segment(data) == 1
    printed = capsys.readouterr()
    assert f"{link}: a link with a missing target" in printed.err
    assert "images or cases: other\n" in printed.err
    assert printed.err.splitlines()[-1] == "failed: phantom0002"
    assert written(tmp_path / "out") == ["phantom0000", "phantom0001", "phantom0003"]
    assert main(["check", str(data)]) == 1
    assert main(["evaluate", str(data), "-p", str(tmp_path / "out")]) == 1
    assert f"{link}: a link" in capsys.readouterr().err


def test_a_terminal_that_knows_ascii_alone(cohort, prior, tmp_path, monkeypatch):
    """As with PYTHONIOENCODING=ascii, under which Python escapes what stderr cannot show."""
    data, out = tmp_path / "dätä", tmp_path / "äus"
    shutil.copytree(cohort / "phantom0000", data / "Jürgen – 日本")
    shutil.copytree(cohort / "phantom0001", data / os.fsdecode(b"odd\xff"))  # no text in any encoding
    several = [
        ["check", data],
        ["segment", data, "--prior", prior, "-o", out, "--steps", "2"],
        ["evaluate", data, "-p", out],
        ["evaluate", data, "-p", data],
    ]
    printed, told = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, "ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(told, "ascii", errors="backslashreplace"))
    assert [main([*map(str, words)]) for words in several] == [0, 0, 0, 2]
    sys.stdout.flush()
    sys.stderr.flush()
    assert b"mean" in printed.getvalue()
    assert rb"d\xe4t\xe4" in told.getvalue()


@pytest.mark.parametrize("verb", ["check", "models", "--version"])
def test_a_reader_that_has_gone(cohort, verb):
    """As after ``| head -1``: nobody is told anything."""
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "nisf", verb, *([str(cohort)] if verb == "check" else [])]
    ended = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_no_output_at_all(cohort):
    """As with ``>&-``."""
    words = f"exec {sys.executable} -m nisf check '{cohort}' >&- 2>&-"
    assert subprocess.run(["sh", "-c", words], check=False).returncode == 0


def test_any_exception_costs_its_case_only(cohort, segment, monkeypatch, capsys):
    from nisf.engines import work

    right = work.segment_case

    def fails_once(case, *args, **kwargs):
        if case.name == "phantom0000":
            raise ZeroDivisionError("nobody has met this")
        return right(case, *args, **kwargs)

    monkeypatch.setattr(work, "segment_case", fails_once)
    assert segment(cohort) == 1
    told = capsys.readouterr()
    assert "phantom0000: failed: ZeroDivisionError: nobody has met this" in told.err
    assert "phantom0001: segmented" in told.out
