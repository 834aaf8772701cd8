"""Images in other formats: the same voxels at the same places as in a NIfTI, or a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("SimpleITK")
import SimpleITK as sitk  # noqa: N813

import toys
from nisf.data.anatomy import load_anatomy
from nisf.errors import BadFileError
from nisf.io.readers import check_cohort, itk_process, open_cohort, read_case
from nisf.io.readers.itk import files_of
from nisf.io.readers.nifti import read_header, read_volume
from nisf.outputs.input_state import input_state, same_inputs

from .helpers import decathlon, nnunet_dataset, pairs_cohort

HEART = load_anatomy("cardiac-sax")
LPS = np.diag([-1.0, -1.0, 1.0])
ENDINGS = ("mha", "mhd", "nrrd", "nhdr", "hdr")


def written(
    path: Path, array: np.ndarray, turn=LPS, spacing=(1.5, 1.5, 8.0), origin=(0.0, 0.0, 0.0), packed=False
):
    """An image (x, y, z) whose axes point along ``turn`` (RAS+)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing)
    image.SetOrigin((LPS @ np.asarray(origin)).tolist())
    image.SetDirection((LPS @ turn).ravel().tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


def image(shape=(7, 6, 5), dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


@given(
    seed=st.integers(0, 2**31),
    ending=st.sampled_from(ENDINGS),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    packed=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_voxels_and_places_come_back(tmp_path, seed, ending, dtype, packed):
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    if ending == "hdr":
        turn[:, 2] *= np.sign(np.linalg.det(turn)) * draw.choice([-1, 1])
    spacing, origin = draw.uniform(0.5, 10, 3), draw.normal(size=3) * 100
    shape = tuple(int(n) for n in draw.integers(2, 7, 3))
    array = image(shape, dtype)
    path = written(
        tmp_path / f"x.{ending}", array, turn, spacing.tolist(), origin, packed and ending != "hdr"
    )
    voxels, header = read_volume(path)
    np.testing.assert_array_equal(voxels[..., 0, 0], array.astype(voxels.dtype))
    assert header.oriented
    np.testing.assert_allclose(header.affine.spacing, spacing, rtol=1e-5)
    corners = np.array([[0, 0, 0], np.array(shape) - 1])
    expected = corners * spacing @ turn.T + origin
    np.testing.assert_allclose(header.affine(corners), expected, atol=2e-3)


def test_the_same_case_as_nifti(tmp_path):
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    cases = []
    for ending in (*ENDINGS, "nii.gz"):
        folder = tmp_path / ending
        folder.mkdir()
        path = written(folder / f"a.{ending}", image(), turn, origin=(3.0, -4.0, 5.0))
        for root in (path, folder):
            cohort = open_cohort(root, HEART)
            assert [case.name for case in cohort.cases] == ["a"], ending
            cases.append(read_case(cohort.cases[0], HEART))
    for case in cases:
        stack, same = case.stacks[0], cases[-1].stacks[0]
        assert stack.arrangement == same.arrangement
        np.testing.assert_allclose(stack.grid.affine.matrix, same.grid.affine.matrix, atol=1e-4)
        for mine, theirs in zip(case.slices, cases[-1].slices, strict=True):
            np.testing.assert_array_equal(mine.image, theirs.image)


def test_manifest_and_frames(tmp_path):
    stacked = sitk.JoinSeries([sitk.GetImageFromArray(image().T + t) for t in range(3)])
    sitk.WriteImage(stacked, str(tmp_path / "cine.nrrd"))
    assert read_header(tmp_path / "cine.nrrd").oriented
    (tmp_path / "list.csv").write_text("case,image\none,cine.nrrd\n")
    case = read_case(open_cohort(tmp_path / "list.csv", HEART).cases[0], HEART)
    assert case.stacks[0].grid.times.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    path = written(tmp_path / "flat.mha", image()[:, :, :1])
    assert read_header(path).shape == (7, 6, 1, 1)


def test_headers_that_do_not_say_how_they_lie(tmp_path):
    bare = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspacings: 1 1 4\n\n"
    (tmp_path / "a.nrrd").write_bytes(bare.encode() + bytes(range(8)))
    header = read_header(tmp_path / "a.nrrd")
    assert not header.oriented
    assert header.affine.spacing.tolist() == [1, 1, 4]


def test_refused(tmp_path, monkeypatch):
    huge = "NRRD0004\ntype: short\ndimension: 3\nsizes: {} {} 100\nencoding: {}\nendian: little\n"
    huge += "spacings: 1 1 1\n\nab"
    for size, encoding, reason in (
        (1000, "raw", "truncated"),
        (1000, "gzip", "truncated"),
        (9999, "raw", "at most"),
    ):
        (tmp_path / "a.nrrd").write_text(huge.format(size, size, encoding))
        with pytest.raises(BadFileError, match=reason):
            read_header(tmp_path / "a.nrrd")
    written(tmp_path / "b.mhd", image())
    (tmp_path / "b.raw").write_bytes((tmp_path / "b.raw").read_bytes()[:-3])
    with pytest.raises(BadFileError, match="truncated"):
        read_header(tmp_path / "b.mhd")
    (tmp_path / "b.raw").unlink()
    with pytest.raises(BadFileError, match=r"its voxels, b.raw, are not beside it"):
        read_header(tmp_path / "b.mhd")
    (tmp_path / "c.mha").write_text("nothing of the kind")
    with pytest.raises(BadFileError, match="SimpleITK cannot read it"):
        read_header(tmp_path / "c.mha")
    (tmp_path / "d.hdr").write_bytes(bytes(348))
    with pytest.raises(BadFileError, match="not the header of a NIfTI pair"):
        read_header(tmp_path / "d.hdr")
    vector = sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "e.mha"))
    with pytest.raises(BadFileError, match="3 numbers"):
        read_header(tmp_path / "e.mha")
    written(tmp_path / "f.mha", image())
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(BadFileError, match=r"pip install 'nisf\[itk\]'"):
        read_header(tmp_path / "f.mha")


def rewritten(root: Path, ending: str) -> Path:
    """Every NIfTI of a folder as another format."""
    for path in sorted(root.rglob("*.nii.gz")):
        if not path.name.startswith("."):
            name = path.name.removesuffix(".nii.gz")
            sitk.WriteImage(sitk.ReadImage(str(path)), str(path.with_name(f"{name}{ending}")))
        path.unlink()
    return root


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nhdr", ".hdr"])
def test_data_sets_of_other_formats(tmp_path, ending):
    """nnU-Net v2, v1 and pairs: the same labelled cases as the NIfTI that they were made of."""
    hippocampus = load_anatomy("hippocampus")

    def cases(root: Path, anatomy) -> list:
        cohort = open_cohort(root, anatomy)
        assert not [problem for problem in cohort.problems if problem.severity == "error"]
        return [read_case(files, anatomy) for files in cohort.cases]

    for make, anatomy in ((nnunet_dataset, HEART), (decathlon, hippocampus), (pairs_cohort, hippocampus)):
        root = make(tmp_path / make.__name__)
        before = cases(root, anatomy)
        rewritten(root, ending)
        table = root / "dataset.json"
        if table.exists():  # v1 lists CASE and means CASE_0000
            data = json.loads(table.read_text().replace(".nii.gz", ending))
            for item in data.get("training", [])[:1]:
                image = root / item["image"]
                image.rename(image.with_name(f"{image.stem}_0000{ending}"))
                if (voxels := image.with_suffix(".img")).exists():
                    voxels.rename(voxels.with_name(f"{image.stem}_0000.img"))
                if ending == ".nhdr":
                    continue
            table.write_text(json.dumps({**data, "file_ending": ending}))
        if ending == ".nhdr" and make is decathlon:
            continue  # its header names the file of its voxels, which keeps its name
        after = cases(root, anatomy)
        assert [case.name for case in after] == [case.name for case in before]
        for mine, theirs in zip(after, before, strict=True):
            assert mine.known == theirs.known
            for a, b in zip(mine.slices, theirs.slices, strict=True):
                np.testing.assert_array_equal(a.image, b.image)
                np.testing.assert_array_equal(a.label, b.label)
                np.testing.assert_allclose(a.affine.matrix, b.affine.matrix, atol=1e-4)


def test_an_ending_that_nobody_reads(tmp_path):
    nnunet_dataset(tmp_path)
    table = tmp_path / "dataset.json"
    table.write_text(json.dumps({**json.loads(table.read_text()), "file_ending": ".png"}))
    with pytest.raises(BadFileError, match=r"end in '.png' \(file_ending\), but only .nii.gz, .nii, .mha"):
        open_cohort(tmp_path, HEART)


def test_labels_of_3d_slicer_in_pairs(tmp_path):
    pairs_cohort(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        name = path.name.removesuffix(".nii.gz")
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path.with_name(f"{name}.seg.nrrd")))
        path.unlink()
    cohort = open_cohort(tmp_path, load_anatomy("hippocampus"))
    assert not cohort.problems
    assert all(case.labelled for case in cohort.cases)


@pytest.mark.parametrize("checked", [False, True])
def test_segments_of_3d_slicer_mean_what_their_names_say(tmp_path, checked):
    """Numbers follow the order in which segments were made: the posterior part is 1 here, and 2 by layout."""
    hippocampus = load_anatomy("hippocampus")
    pairs_cohort(tmp_path)
    (tmp_path / "labels" / "b.nii.gz").unlink()
    path = tmp_path / "labels" / "a.nii.gz"
    image = sitk.ReadImage(str(path))
    path.unlink()
    path = tmp_path / "labels" / "a.seg.nrrd"
    for names, numbers, said in (
        (("Posterior", "ANTERIOR"), {1: 2, 2: 1}, ""),
        (("Segment_1", "Ségment_2"), {1: 1, 2: 2}, "its segments are named Segment_1, Ségment_2"),
    ):
        for segment, name in enumerate(names):
            image.SetMetaData(f"Segment{segment}_Name", name)
            image.SetMetaData(f"Segment{segment}_LabelValue", str(segment + 1))
        sitk.WriteImage(image, str(path))
        if checked:
            report = check_cohort(tmp_path, hippocampus, full=True)
            assert any(said in problem.message for problem in report.cases[0].problems if said) == bool(said)
            assert not report.errors
            continue
        notes = {}
        case = read_case(open_cohort(tmp_path, hippocampus).cases[0], hippocampus, notes)
        label = toys.label_of(case)
        file = case.stacks[0].arrangement.undo(label)[..., 0]
        stored = sitk.GetArrayFromImage(image).T
        assert all((file[stored == number] == index).all() for number, index in numbers.items())
        assert notes.get("segment_names", "").find(said) >= 0


@pytest.mark.parametrize(("ending", "voxels"), [("mhd", "raw"), ("nhdr", "raw"), ("hdr", "img")])
def test_the_file_of_the_voxels_counts(tmp_path, ending, voxels):
    path = written(tmp_path / f"a.{ending}", image())
    data = tmp_path / f"a.{voxels}"
    state = input_state(files_of(path))
    assert [entry["size"] for entry in state] == [path.stat().st_size, data.stat().st_size]
    assert same_inputs(state, files_of(path))
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    os.utime(data, (1, 1))
    assert not same_inputs(state, files_of(path))
    data.unlink()
    assert not same_inputs(state, files_of(path))


def test_the_note_is_worded_by_format(tmp_path):
    bare = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspacings: 1 1 4\n\n"
    (tmp_path / "a.nrrd").write_bytes(bare.encode() + bytes(range(8)))
    text = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementSpacing = 1 1 4\nElementType = MET_UCHAR\n"
    (tmp_path / "b.mha").write_bytes(f"{text}ElementDataFile = LOCAL\n".encode() + bytes(range(8)))
    for name, said in (("a.nrrd", "it names no space"), ("b.mha", "it has no TransformMatrix")):
        notes: dict[str, str] = {}
        read_case(open_cohort(tmp_path / name, HEART).cases[0], HEART, notes)
        assert notes["no_form"].endswith(f"({tmp_path / name}, and maybe others): {said}")


def test_time_between_frames(tmp_path):
    """By the unit of a NRRD; else as in a NIfTI without one: 1 says nothing, small numbers are seconds."""
    stacked = sitk.JoinSeries([sitk.GetImageFromArray(image().T + t) for t in range(4)])
    for step, ending, cycle in ((75.0, "mha", 300.0), (0.075, "nrrd", 300.0), (1.0, "mha", None)):
        stacked.SetSpacing((1.5, 1.5, 8.0, step))
        sitk.WriteImage(stacked, str(tmp_path / f"a.{ending}"))
        assert read_header(tmp_path / f"a.{ending}").cycle_ms == (cycle and pytest.approx(cycle))
    header, voxels = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    header = header.replace(b"space dimension: 4", b"space: LPST") + b'\nspace units: "mm" "mm" "mm" "s"\n\n'
    (tmp_path / "b.nrrd").write_bytes(header + voxels)
    assert read_header(tmp_path / "b.nrrd").cycle_ms == pytest.approx(300.0)


@pytest.mark.parametrize("asked", [read_header, read_volume])
def test_a_crash_costs_the_file_alone(tmp_path, asked):
    """The process is gone when the answer is due; the next file gets another one."""
    path = written(tmp_path / "a.mha", image())
    pipe = subprocess.PIPE
    answers = "" if asked is read_header else "print('{half', end='', flush=True); "
    dies = subprocess.Popen([sys.executable, "-c", f"{answers}input()"], stdin=pipe, stdout=pipe)
    read_header(path)
    itk_process._end()
    itk_process._running = os.getpid(), dies
    with pytest.raises(BadFileError, match="crashed or hung on this file"):
        asked(path)
    np.testing.assert_array_equal(read_volume(path)[0][..., 0, 0], image())


def test_a_file_that_is_read_for_ever_ends(tmp_path, monkeypatch):
    path = written(tmp_path / "a.mha", image())
    monkeypatch.setattr(itk_process, "SECONDS", 0.0)
    itk_process._end()
    pipe = subprocess.PIPE
    hangs = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=pipe, stdout=pipe)
    itk_process._running = os.getpid(), hangs
    with pytest.raises(BadFileError, match="crashed or hung on this file"):
        read_header(path)
    monkeypatch.undo()
    assert read_header(path).shape == (7, 6, 5, 1)


def test_voxels_that_are_cut_off_on_the_way(tmp_path):
    path = written(tmp_path / "a.mha", image())
    header = read_header(path)
    itk_process._end()
    says = "import json; print(json.dumps({'dtype': 'int16', 'nbytes': 420})); print('too few')"
    pipe = subprocess.PIPE
    dies = subprocess.Popen([sys.executable, "-c", f"input(); {says}"], stdin=pipe, stdout=pipe)
    itk_process._running = os.getpid(), dies
    with pytest.raises(BadFileError, match="crashed or hung on this file"):
        itk_process.itk_voxels(path, header.shape, header.dtype)
