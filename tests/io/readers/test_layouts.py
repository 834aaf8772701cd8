import json
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import UNKNOWN
from nisf.errors import NisfError
from nisf.io.readers import check_cohort, open_cohort, read_case

from .helpers import (
    HEART,
    LV,
    MYO,
    RV,
    SHAPE,
    acdc_patient,
    counts,
    decathlon,
    heart,
    manifest,
    mnms_cohort,
    nnunet_dataset,
    only_case,
    pairs_cohort,
    picture,
    ukb_subject,
    write,
)

HIPPOCAMPUS = load_anatomy("hippocampus")


def test_acdc(tmp_path):
    acdc_patient(tmp_path)
    acdc_patient(tmp_path, "patient002", ed=4, es=11)
    cohort = open_cohort(tmp_path, HEART)
    assert (cohort.layout, [case.name for case in cohort.cases]) == ("acdc", ["patient001", "patient002"])
    assert not cohort.problems
    first, second = (read_case(case, HEART, cohort.notes) for case in cohort.cases)
    assert list(cohort.notes) == ["zooms"]
    assert "patient001_frame01" in cohort.notes["zooms"]
    assert first.phases == {"ED": 0.0, "ES": pytest.approx(11 / 30)}
    assert second.phases == {"ED": pytest.approx(3 / 30), "ES": pytest.approx(10 / 30)}
    assert first.known == {"LV blood pool", "LV myocardium", "RV blood pool"}
    assert first.attributes == {"group": "DCM", "height_cm": "184.0", "weight_kg": "95.0"}
    (stack,) = first.stacks
    assert not stack.oriented
    np.testing.assert_allclose(stack.grid.spacing, [1.5, 1.5, 8.0])
    assert stack.source == tmp_path / "patient001" / "patient001_frame01.nii.gz"
    assert len(first.slices) == 2 * SHAPE[2]
    assert counts(first, 0) == {0: 78, LV: 4, MYO: 4, RV: 4}
    assert first.slices[0].label is not None
    assert {s.label.dtype for s in first.slices if s.label is not None} == {np.dtype(np.int8)}
    rv = next(s for s in first.slices if s.frame == 0 and s.position == 1)
    assert rv.label is not None
    assert (rv.label[:4, 0] == RV).all()  # 1 in the file
    # One range for both frames: 1st and 99th percentile of everything.
    everything = np.concatenate([picture() + 1, picture() + 12])
    np.testing.assert_allclose(stack.intensity_range, [np.percentile(everything, [1, 99])])


def test_acdc_one_folder_missing_things_and_cine(tmp_path):
    folder = acdc_patient(tmp_path)
    assert only_case(folder).name == "patient001"
    (folder / "patient001_frame12_gt.nii.gz").unlink()
    cohort = open_cohort(tmp_path, HEART)
    assert "no label file patient001_frame12_gt" in cohort.problems[0].message
    case = read_case(cohort.cases[0], HEART)
    assert counts(case, 1) == {UNKNOWN: 90}
    (folder / "patient001_frame12.nii.gz").unlink()
    assert "ES is frame 12" in open_cohort(tmp_path, HEART).problems[0].message
    (folder / "patient001_frame01.nii.gz").unlink()
    write(folder / "patient001_4d.nii.gz", picture(*SHAPE, 4))
    with pytest.raises(NisfError, match="ES is given as frame 11, but it has 4 frames"):
        only_case(folder)
    write(folder / "patient001_4d.nii.gz", picture(*SHAPE, 30))
    assert only_case(folder).phases == {"ED": 0.0, "ES": pytest.approx(11 / 30)}
    (folder / "patient001_4d.nii.gz").unlink()
    acdc_patient(tmp_path, "patient002")
    problem = open_cohort(tmp_path, HEART).problems[0]
    assert (problem.case, problem.severity) == ("patient001", "error")


@pytest.mark.parametrize(
    ("layout", "cine"), [("acdc", "patient001/patient001_4d.nii.gz"), ("ukb", "1/sa.nii.gz")]
)
def test_a_cine_that_is_not_used_beside_labelled_frames_is_named(tmp_path, layout, cine):
    if layout == "acdc":
        acdc_patient(tmp_path)
    else:
        for phase in ("ED", "ES"):
            write(tmp_path / "1" / f"sa_{phase}.nii.gz", picture())
            write(tmp_path / "1" / f"seg_sa_{phase}.nii.gz", heart())
    assert "cine" not in open_cohort(tmp_path, HEART).notes
    write(tmp_path / cine, picture(*SHAPE, 30))
    cohort = open_cohort(tmp_path, HEART, labels=False)
    assert len(cohort.cases[0].stacks[0].images) == 2
    assert cohort.notes["cine"].startswith(
        f"{tmp_path / cine} (and maybe others): the whole cine is not used"
    )


@pytest.mark.parametrize(
    ("text", "severity", "said"),
    [
        ("ED: x\nES: 12\n", "warning", "'ED: x' is no frame number; left out"),
        ("ED: ²\nES: 12\n", "warning", "'ED: ²'"),
        (f"NbFrame: {'9' * 5000}\nED: 1\n", "warning", "'NbFrame: 999"),
        ("NbFrame: 3\n", "error", "frame 12 of 3"),
    ],
)
def test_acdc_wrong_info(tmp_path, text, severity, said):
    folder = acdc_patient(tmp_path)
    acdc_patient(tmp_path, "patient002")
    (folder / "Info.cfg").write_text(text, encoding="utf-8")
    cohort = open_cohort(tmp_path, HEART)
    assert [p.severity for p in cohort.problems] == [severity]
    assert said in cohort.problems[0].message
    assert len(cohort.problems[0].message) < 300
    assert len(cohort.cases) == (2 if severity == "warning" else 1)


def test_ukb(tmp_path):
    ukb_subject(tmp_path)
    cohort = open_cohort(tmp_path, HEART)
    assert cohort.layout == "ukb"
    case = read_case(cohort.cases[0], HEART)
    assert [stack.name for stack in case.stacks] == ["sa", "la_4ch"]
    assert case.stacks[0].cycle_ms == pytest.approx(1000.0)
    assert counts(case, 0) == {0: 78, LV: 4, MYO: 4, RV: 4}
    assert case.phases == {"ED": 0.0, "ES": 0.5}  # the anatomy's rule: most and least LV blood pool
    assert all(s.label is None for s in case.slices if s.stack == 1)


def test_ukb_pair_and_long_axis_labels(tmp_path):
    for phase, big in (("ED", 4), ("ES", 2)):
        write(tmp_path / "1" / f"sa_{phase}.nii.gz", picture())
        write(tmp_path / "1" / f"seg_sa_{phase}.nii.gz", heart(big))
    write(tmp_path / "1" / "la_2ch.nii.gz", picture(6, 5, 1))
    write(tmp_path / "1" / "seg_la_2ch.nii.gz", heart()[:, :, 1:2])
    cohort = open_cohort(tmp_path, HEART)
    assert set(cohort.notes) == {"es_time", "la_numbers"}
    case = read_case(cohort.cases[0], HEART)
    assert case.phases == {"ED": 0.0, "ES": 0.35}
    assert counts(case, 1) == {0: 84, LV: 2, MYO: 2, RV: 2}
    # The 1 of a long-axis file is the left atrium: nothing of it may come out as a ventricle.
    assert all(piece.label is None for piece in case.slices if piece.stack == 1)

    atria = Anatomy(
        "hearts",
        (*HEART.labels, "LA"),
        (*HEART.colours, "#ffffff"),
        numbers={**HEART.numbers, "ukb la_2ch": {1: "LA", 2: "background", 3: "unknown"}},
    )
    case = only_case(tmp_path, atria)
    assert counts(case, 0, stack=1) == {UNKNOWN: 27, 4: 3}


def test_mnms(tmp_path):
    mnms_cohort(tmp_path)
    cohort = open_cohort(tmp_path, HEART)
    assert (cohort.layout, len(cohort.cases), cohort.problems) == ("mnms", 2, ())
    case = read_case(cohort.cases[0], HEART)
    assert case.phases == {"ED": 0.2, "ES": pytest.approx(0.6)}
    assert case.attributes == {"vendorname": "Siemens", "vendor": "A", "centre": "1"}
    assert counts(case, 1) == {0: 78, LV: 4, MYO: 4, RV: 4}
    assert [counts(case, t) for t in (0, 2, 4)] == [{UNKNOWN: 90}] * 3
    assert only_case(tmp_path / "B2C3D4").attributes["vendor"] == "B"


def test_mnms_phases_at_frames_without_labels(tmp_path):
    """As where the table counts from 1."""
    mnms_cohort(tmp_path)
    said = "ED is given as frame 2, but only the frames 1, 3 (from 0) have labels"
    for table, right in (("A0S9V9,1,3\nB2C3D4,1,3\n", True), ("A0S9V9,2,4\nB2C3D4,1,3\n", False)):
        next(tmp_path.glob("*.csv")).write_text(f"External code,ED,ES\n{table}")
        cohort = open_cohort(tmp_path, HEART)
        read_case(cohort.cases[0], HEART, cohort.notes)
        assert ("undrawn_phase" not in cohort.notes) == right
        assert (said in cohort.notes.get("undrawn_phase", "")) != right
        problems = check_cohort(tmp_path, HEART).all_problems()
        assert [problem.case for problem in problems if said in problem.message] == ["A0S9V9"] * (not right)


def test_mnms_wrong_frame_and_empty_label(tmp_path):
    mnms_cohort(tmp_path)
    next(tmp_path.glob("*.csv")).write_text("External code,ED,ES\nA0S9V9,1,30\nB2C3D4,1,3\n")
    with pytest.raises(NisfError, match="ES is given as frame 30, but it has 5 frames"):
        only_case(tmp_path)
    write(tmp_path / "B2C3D4" / "B2C3D4_sa_gt.nii.gz", np.zeros((*SHAPE, 5), np.uint8))
    case = only_case(tmp_path / "B2C3D4")
    assert all(s.label is None for s in case.slices)


def test_mnms2(tmp_path):
    for view, shape in (("SA", SHAPE), ("LA", (6, 5, 1))):
        for phase in ("ED", "ES"):
            write(tmp_path / "001" / f"001_{view}_{phase}.nii.gz", picture(*shape))
            label = heart()[:, :, -shape[2] - 1 : -1] if view == "LA" else heart()
            write(tmp_path / "001" / f"001_{view}_{phase}_gt.nii.gz", label)
    (tmp_path / "dataset_information.csv").write_text("SUBJECT_CODE,DISEASE,VENDOR\n1,NOR,GE\n")
    case = only_case(tmp_path)
    assert [stack.name for stack in case.stacks] == ["sa", "la_4ch"]
    assert case.attributes == {"disease": "NOR", "vendor": "GE"}
    assert case.phases == {"ED": 0.0, "ES": 0.35}


def test_nnunet(tmp_path):
    nnunet_dataset(tmp_path)
    cohort = open_cohort(tmp_path, HEART)
    assert (cohort.layout, [case.name for case in cohort.cases]) == ("nnunet", ["heart_001", "heart_002"])
    case = read_case(cohort.cases[0], HEART)
    assert case.channels == 2
    assert case.stacks[0].intensity_range.shape == (2, 2)
    assert np.array_equal(case.slices[0].image[..., 1], case.slices[0].image[..., 0] + 1)
    # The table of dataset.json, whatever the case of its names: 1 is the RV here.
    label = case.stacks[0].arrangement.undo(toys.label_of(case))
    assert label[0, :3, 1, 0].tolist() == [RV, MYO, LV]


def test_nnunet_missing_channel_ignored_label_and_strange_name(tmp_path):
    nnunet_dataset(tmp_path)
    (tmp_path / "imagesTr" / "heart_001_0001.nii.gz").unlink()
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["heart_002"]
    assert "heart_001_0001.nii.gz: no such file" in cohort.problems[0].message
    path = tmp_path / "dataset.json"
    data = json.loads(path.read_text())
    data["labels"] = {"background": 0, "RV blood pool": 1, "LV myocardium": 2, "ignore": 3}
    path.write_text(json.dumps(data))
    case = only_case(tmp_path)
    assert case.known == {"RV blood pool", "LV myocardium"}
    data["labels"] = {"background": 0, "LV": 1}
    path.write_text(json.dumps(data))
    with pytest.raises(NisfError, match="the label 'LV' is not one of cardiac-sax's"):
        open_cohort(tmp_path, HEART)
    for text in (
        "nonsense",
        "[]",
        '{"labels": {"a": [1, 2]}}',
        '{"labels": {"LV blood pool": 1, "RV blood pool": 1}}',
        '{"labels": {"1": "LV blood pool", "1": "RV blood pool"}}',
    ):
        path.write_text(text)
        with pytest.raises(NisfError, match=r"dataset\.json"):
            open_cohort(tmp_path, HEART)


def test_nnunet_channels_that_are_not_named_and_test_images(tmp_path):
    nnunet_dataset(tmp_path)
    write(tmp_path / "imagesTr" / "heart_002_0002.nii.gz", picture())
    write(tmp_path / "imagesTs" / "heart_003_0000.nii.gz", picture())
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["heart_001"]
    said = "heart_002_0002.nii.gz: a further channel of heart_002, but dataset.json names 2 channels"
    assert said in cohort.problems[0].message
    assert "imagesTs: test images are not among the cases" in cohort.notes["tests"]


def test_nnunet_numbers_of_an_anatomy_must_not_contradict_the_table(tmp_path):
    nnunet_dataset(tmp_path)
    right = {1: "RV blood pool", 2: "LV myocardium", 3: "LV blood pool"}
    assert len(open_cohort(tmp_path, replace(HEART, numbers={"nnunet": right})).cases) == 2
    wrong = {1: "LV blood pool", 2: "LV myocardium", 3: "RV blood pool"}
    anatomy = replace(HEART, numbers={"nnunet": wrong})
    with pytest.raises(
        NisfError, match=r"label 1 is RV blood pool, but LV blood pool in cardiac-sax's numbers"
    ):
        open_cohort(tmp_path, anatomy)
    path = tmp_path / "dataset.json"
    data = json.loads(path.read_text())
    data["labels"] = {"background": 0, "heart": [1, 2, 3], "lumen": 3}
    path.write_text(json.dumps(data))
    case = read_case(open_cohort(tmp_path, anatomy).cases[0], anatomy)
    assert toys.label_of(case).max() == 3


def test_decathlon(tmp_path):
    decathlon(tmp_path)
    cohort = open_cohort(tmp_path, HIPPOCAMPUS)
    assert [case.name for case in cohort.cases] == ["hippocampus_001"]
    case = read_case(cohort.cases[0], HIPPOCAMPUS)
    assert counts(case, 0) == {0: 84, 1: 3, 2: 3}
    assert case.phases == {}


def test_pairs(tmp_path):
    pairs_cohort(tmp_path)
    (tmp_path / "labels" / "b.nii.gz").rename(tmp_path / "labels" / "c.nii.gz")
    cohort = open_cohort(tmp_path, HIPPOCAMPUS)
    assert cohort.layout == "pairs"
    assert [(p.case, p.severity) for p in cohort.problems] == [("b", "warning"), ("c", "warning")]
    case = read_case(cohort.cases[0], HIPPOCAMPUS)
    assert counts(case, 0) == {0: 84, 1: 3, 2: 3}
    plain = Anatomy("plain", ("background", "label 1", "label 2"), ("#000000",) * 3)
    assert only_case(tmp_path, plain).known == {"label 1", "label 2"}


def test_pairs_with_two_label_files_of_a_case(tmp_path):
    pairs_cohort(tmp_path)
    write(tmp_path / "labels" / "a.nii", heart(classes=(2, 1)))
    cohort = open_cohort(tmp_path, HIPPOCAMPUS)
    assert [case.name for case in cohort.cases] == ["b"]
    assert "a second label file of a" in cohort.problems[0].message
    assert len(open_cohort(tmp_path, HIPPOCAMPUS, labels=False).cases) == 2


def test_manifest_of_single_frames(tmp_path):
    for name, big in (("late", 2), ("early", 4)):
        write(tmp_path / "x" / f"{name}.nii", picture())
        write(tmp_path / "y" / f"{name}.nii", heart(big))
    path = manifest(
        tmp_path,
        "case, image, label, time, phase, weight_kg, height_cm\n"
        "one, x/late.nii, y/late.nii, 0.4, ES, 80, 180\n"
        "one, x/early.nii, y/early.nii, 0.1, ED, ,\n",
        {"1": "RV blood pool", "2": "LV myocardium", "3": "LV blood pool"},
    )
    case = only_case(path)
    assert case.phases == {"ED": 0.1, "ES": 0.4}
    assert case.attributes == {"height_cm": "180", "weight_kg": "80"}
    assert case.stacks[0].grid.times.tolist() == [0.1, 0.4]
    assert counts(case, 0)[LV] == 4


def test_manifest_known_hides_the_background(tmp_path):
    write(tmp_path / "a.nii", picture(*SHAPE, 3))
    label = np.zeros((*SHAPE, 3), np.uint8)
    label[..., 0], label[..., 1] = heart(4, (1, 2)), heart(2, (1,))
    write(tmp_path / "a_gt.nii", label)
    table = {"1": "LV blood pool", "2": "LV myocardium", "3": "RV blood pool"}
    rows = "case,image,label,known\none,a.nii,a_gt.nii,LV blood pool; lv myocardium\n"
    case = only_case(manifest(tmp_path, rows, table))
    assert case.known == {"LV blood pool", "LV myocardium"}
    assert counts(case, 0) == {UNKNOWN: 82, LV: 4, MYO: 4}
    assert counts(case, 1) == {UNKNOWN: 88, LV: 2}
    assert counts(case, 2) == {UNKNOWN: 90}
    assert case.phases == {"ED": 0.0, "ES": pytest.approx(1 / 3)}
    # Everything known: only where a class of the other frames is missing, the background is unknown.
    case = only_case(manifest(tmp_path, "case,image,label,phase\none,a.nii,a_gt.nii,first:1\n", table))
    assert counts(case, 0)[0] == 82
    assert counts(case, 1) == {UNKNOWN: 88, LV: 2}
    assert case.phases == {"first": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("case,picture\na,b\n", "columns case and image"),
        ("case,image\n\n,a.nii\n", "line 3 has no case or no image"),
        ("case,image\none,none.nii\n", r"none.nii: no such file"),
        ("case,image,time\none,a.nii,1.2\n", r"fractions of the cycle are in \[0, 1\)"),
        ("case,image,time\none,a.nii,soon\n", "give each row a number"),
        ("case,image\none,a.nii\none,a.nii\n", "a row twice"),
        ("case,image,known\none,a.nii,aorta\n", "'aorta' is not one of"),
        ("case,image,label\none,a.nii,a.nii\n", "labels.json"),
        ("case,image,phase\none,a.nii,ED:x\n", "phase 'ED:x'"),
        ("case,image,phase\none,a.nii,ED:0;ed:1\n", "has the phase ED twice"),
        ("case,image,image\none,a.nii,b.nii\n", "has two columns 'image'"),
        ("case,image\none,a.nii,5\n", "line 2 has more cells than there are columns"),
        ("case,image\n../up,a.nii\n", "cannot name a case"),
        ("case,image\n", "no case of the layout manifest"),
    ],
)
def test_wrong_manifests(tmp_path, rows, said):
    write(tmp_path / "a.nii", picture())
    with pytest.raises(NisfError, match=said):
        open_cohort(manifest(tmp_path, rows), HEART)


def test_phases_and_columns_of_a_manifest_that_are_not_used_are_named(tmp_path):
    write(tmp_path / "a.nii", picture(*SHAPE, 4))
    rows = "case,image,phase,lable,Age\none,a.nii,ed:1;es:3,a_gt.nii,70\ntwo,a.nii,diastole:1,,\n"
    cohort = open_cohort(manifest(tmp_path, rows), HEART)
    assert read_case(cohort.cases[0], HEART).phases == {"ED": 0.25, "ES": 0.75}
    assert "columns that are not used: lable, age" in cohort.notes["columns"]
    assert [problem.case for problem in cohort.problems if "phase 'diastole'" in problem.message] == ["two"]


@pytest.mark.parametrize("timed", [False, True])
def test_frames_of_a_manifest_without_times_are_mentioned(tmp_path, timed):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.nii", picture())
    times = ("0", "0.35") if timed else ("", "")
    rows = "case,image,time,phase\n" + f"one,a.nii,{times[0]},ED\none,b.nii,{times[1]},ES\n"
    cohort = open_cohort(manifest(tmp_path, rows), HEART)
    assert ("times are given for the 2 frames of one" in cohort.notes.get("times", "")) != timed
    assert read_case(cohort.cases[0], HEART).phases == {"ED": 0.0, "ES": 0.35 if timed else 0.5}


def test_a_label_file_in_two_rows_of_a_manifest(tmp_path):
    for name in ("a", "b", "c", "d"):
        write(tmp_path / f"{name}.nii", picture())
    write(tmp_path / "gt.nii", heart())
    table = {"1": "RV blood pool", "2": "LV myocardium", "3": "LV blood pool"}
    rows = "case,image,label\none,a.nii,gt.nii\none,b.nii,gt.nii\ntwo,c.nii,gt.nii\nthree,d.nii,gt.nii\n"
    cohort = open_cohort(manifest(tmp_path, rows, table), HEART)
    assert [case.name for case in cohort.cases] == ["two", "three"]
    said = {problem.case: problem for problem in cohort.problems}
    assert "one has the label file gt.nii in two rows" in said["one"].message
    assert said["three"].severity == "warning"
    assert "gt.nii is the label file of two and of three" in said["three"].message


def test_wrong_labels_json(tmp_path):
    write(tmp_path / "a.nii", picture())
    path = manifest(tmp_path, "case,image\none,a.nii\n", {"one": "LV blood pool"})
    with pytest.raises(NisfError, match=r"labels\.json"):
        open_cohort(path, HEART)
