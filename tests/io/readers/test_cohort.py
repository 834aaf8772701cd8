import sys

import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.case import UNKNOWN
from nisf.errors import NisfError
from nisf.io.readers import open_cohort, read_case, read_image
from nisf.io.readers.labels import hide_undrawn

from .helpers import AFFINE, SHAPE, acdc_patient, heart, manifest, pairs_cohort, picture, write

HEART = load_anatomy("cardiac-sax")


def test_one_image(tmp_path):
    path = write(tmp_path / "scan.v2.nii.gz", picture(*SHAPE, 4))
    case = read_image(path, HEART)
    assert (case.name, case.known, case.phases) == ("scan.v2", frozenset(), {})
    assert all(s.label is None for s in case.slices)
    assert case.stacks[0].source == path
    cohort = open_cohort(path, HEART)
    assert (cohort.layout, cohort.labels, cohort.cases[0].name) == ("file", HEART.labels, "scan.v2")


def test_relative_paths(tmp_path, monkeypatch):
    folder = acdc_patient(tmp_path)
    monkeypatch.chdir(folder)
    assert open_cohort(".", HEART).cases[0].name == "patient001"
    assert open_cohort("..", HEART).cases[0].name == "patient001"


def test_wrong_paths(tmp_path):
    with pytest.raises(NisfError, match="no such file or folder"):
        open_cohort(tmp_path / "none", HEART)
    with pytest.raises(NisfError, match="an empty folder"):
        open_cohort(tmp_path, HEART)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NisfError, match=r"no known layout .*acdc, nnunet"):
        open_cohort(tmp_path, HEART)
    with pytest.raises(NisfError, match="no such layout"):
        open_cohort(tmp_path, HEART, layout="minc")
    for layout in ("acdc", "ukb", "mnms", "pairs"):
        with pytest.raises(NisfError, match=f"no case of the layout {layout}"):
            open_cohort(tmp_path, HEART, layout=layout)
    for layout in ("manifest", "nnunet"):
        with pytest.raises(NisfError):
            open_cohort(tmp_path, HEART, layout=layout)
    with pytest.raises(NisfError, match=r"notes\.txt: not a \.nii"):
        open_cohort(tmp_path / "notes.txt", HEART)
    with pytest.raises(NisfError, match="columns case and image"):
        open_cohort(write_text(tmp_path / "a.csv", "a,b\n"), HEART)
    with pytest.raises(NisfError, match="the layout acdc is a folder"):
        open_cohort(tmp_path / "a.csv", HEART, layout="acdc")


def write_text(path, text):
    path.write_text(text)
    return path


def test_names_are_unique(tmp_path):
    pairs_cohort(tmp_path)
    write(tmp_path / "images" / "a.nii", picture())
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["a", "b"]
    assert "the case name a is already used for" in cohort.problems[0].message


def test_label_numbers_shapes_and_affines(tmp_path):
    folder = acdc_patient(tmp_path)
    label = folder / "patient001_frame12_gt.nii.gz"
    (files,) = open_cohort(tmp_path, HEART).cases
    for number in (7, -2, 100_000):
        odd = heart().astype(np.int32)
        odd[0, 0, 0] = number
        write(label, odd, np.eye(4), zooms=(1.5, 1.5, 8.0))
        with pytest.raises(
            NisfError, match=rf"frame12_gt.*unexpected label values \[{number}\].*3 LV blood pool"
        ):
            read_case(files, HEART)
    write(label, heart()[:, :, :2])
    with pytest.raises(NisfError, match=r"frame12_gt.*\(6, 5, 2, 1\).*\(6, 5, 3, 1\)"):
        read_case(files, HEART)
    moved = AFFINE.copy()
    moved[0, 3] = 5
    write(label, heart(), moved)
    notes: dict[str, str] = {}
    case = read_case(files, HEART, notes)
    assert set(notes) == {"zooms", "label_affine"}
    np.testing.assert_allclose(case.stacks[0].grid.spacing, [1.5, 1.5, 8.0])
    write(folder / "patient001_frame12.nii.gz", picture(6, 5, 4))
    with pytest.raises(NisfError, match=r"frame12\.nii\.gz: its shape is \(6, 5, 4, 1\)"):
        read_case(files, HEART)
    write(folder / "patient001_frame12.nii.gz", picture(*SHAPE, 2))
    write(folder / "patient001_frame01.nii.gz", picture(*SHAPE, 2))
    with pytest.raises(NisfError, match="2 frames in a file"):
        read_case(files, HEART)


def test_a_single_slice_of_unknown_thickness_is_noted(tmp_path):
    for thickness, said in ((1.0, True), (8.0, False)):
        path = write(tmp_path / f"{thickness:g}.nii", picture(6, 5, 1), np.diag([1.5, 1.5, thickness, 1.0]))
        cohort = open_cohort(path, HEART)
        read_case(cohort.cases[0], HEART, cohort.notes)
        assert ("thickness" in cohort.notes) == said


def test_times_for_another_number_of_frames(tmp_path):
    write(tmp_path / "a.nii", picture(*SHAPE, 3))
    (files,) = open_cohort(manifest(tmp_path, "case,image,time\none,a.nii,0.5\n"), HEART).cases
    with pytest.raises(NisfError, match="3 frames, but 1 times"):
        read_case(files, HEART)


def test_stacks_need_the_same_channels(tmp_path):
    write(tmp_path / "a.nii", picture())
    (files,) = open_cohort(manifest(tmp_path, "case,image,stack\n1,a.nii,x\n1,a.nii,y\n"), HEART).cases
    two = files.stacks[1].__class__("y", ((tmp_path / "a.nii",) * 2,), (None,))
    broken = files.__class__("one", "manifest", (files.stacks[0], two))
    with pytest.raises(NisfError, match=r"one: its stacks have \[1, 2\] channels"):
        read_case(broken, HEART)


def test_hide_undrawn():
    label = np.zeros((2, 2, 1, 3), np.int8)
    assert hide_undrawn(label.copy(), 4, background_known=True) is None
    label[0, 0, 0, 0], label[0, 1, 0, 0], label[0, 0, 0, 1] = 1, 2, 1
    hidden = hide_undrawn(label, 4, background_known=True)
    assert hidden is not None
    assert hidden[..., 0].ravel().tolist() == [1, 2, 0, 0]
    assert hidden[..., 1].ravel().tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert (hidden[..., 2] == UNKNOWN).all()


def test_readers_do_not_load_torch():
    import subprocess

    code = "import sys, nisf.io.readers, nisf.io.readers.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shown(tmp_path):
    acdc_patient(tmp_path / "data", "patient001")
    acdc_patient(tmp_path / "data", "patient002", ed=50)
    cohort = open_cohort(tmp_path / "data", HEART)
    assert repr(cohort) == "Cohort('data', acdc, 1 case, 1 problem, 0 notes)"
    (files,) = cohort.cases
    assert repr(files) == "CaseFiles('patient001', acdc, 1 stack, 4 files, labelled)"
    assert repr(files.without_labels()) == "CaseFiles('patient001', acdc, 1 stack, 2 files)"
