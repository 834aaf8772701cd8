"""What people's folders hold besides: links without a target, other people's conventions, locked folders."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.errors import BadFileError
from nisf.io.readers import CaseReader, check_cohort, only_named, open_cohort, read_case
from nisf.io.readers.listing import each_folder_once, existing, whole_number

from .helpers import (
    HEART,
    SHAPE,
    acdc_patient,
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


def lose(path):
    """The file becomes a link with a missing target, as git-annex leaves it."""
    path.unlink()
    path.symlink_to("../.git/annex/objects/aa/bb/SHA256E-s1--c")
    return path


def two_acdc(root):
    acdc_patient(root)
    folder = acdc_patient(root, "patient002")
    return folder / "patient002_frame12.nii.gz", folder / "patient002_frame12_gt.nii.gz", "patient002"


def two_ukb(root):
    ukb_subject(root)
    folder = ukb_subject(root, "1000002")
    return folder / "sa.nii.gz", folder / "seg_sa.nii.gz", "1000002"


def two_mnms(root):
    folder = mnms_cohort(root) / "B2C3D4"
    return folder / "B2C3D4_sa.nii.gz", folder / "B2C3D4_sa_gt.nii.gz", "B2C3D4"


def two_nnunet(root):
    nnunet_dataset(root)
    return root / "imagesTr" / "heart_002_0001.nii.gz", root / "labelsTr" / "heart_002.nii.gz", "heart_002"


def two_pairs(root):
    pairs_cohort(root)
    return root / "images" / "b.nii.gz", root / "labels" / "b.nii.gz", "b"


def two_rows(root):
    pairs_cohort(root)
    rows = "case,image,label\n" + "".join(f"{n},images/{n}.nii.gz,labels/{n}.nii.gz\n" for n in "ab")
    (root / "manifest.csv").write_text(rows)
    (root / "labels.json").write_text(json.dumps({"1": "LV blood pool", "2": "LV myocardium"}))
    return root / "images" / "b.nii.gz", root / "labels" / "b.nii.gz", "b"


def two_flat(root):
    write(root / "a.nii.gz", picture())
    return write(root / "b.nii.gz", picture()), None, "b"


PAIRS = load_anatomy("hippocampus")
LAYOUTS = {
    "acdc": two_acdc,
    "ukb": two_ukb,
    "mnms": two_mnms,
    "nnunet": two_nnunet,
    "pairs": two_pairs,
    "manifest": two_rows,
    "flat": two_flat,
}


@pytest.mark.parametrize("what", ["image", "label"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_link_without_a_target_is_named(tmp_path, layout, what):
    image, label, name = LAYOUTS[layout](tmp_path)
    if what == "label" and label is None:
        return
    link = lose(image if what == "image" else label)
    anatomy = PAIRS if layout == "pairs" else HEART
    cohort = open_cohort(tmp_path, anatomy)
    assert (cohort.layout, len(cohort.cases)) == (layout, 2)
    said = f"{link}: a link with a missing target"
    report = check_cohort(tmp_path, anatomy)
    assert [p.case for p in report.all_problems() if said in p.message and p.severity == "error"] == [name]
    reader = CaseReader(cohort, anatomy)
    sound = [case for _, case in reader if not isinstance(case, str)]
    assert [case.name for case in sound] != [name]
    assert len(sound) == 1
    assert said in reader.failed[name]
    # Who reads no labels misses none.
    images = CaseReader(cohort, anatomy, labels=False)
    assert sum(not isinstance(case, str) for _, case in images) == (1 if what == "image" else 2)


def test_a_whole_folder_that_is_such_a_link(tmp_path):
    acdc_patient(tmp_path)
    (tmp_path / "patient002").symlink_to("nowhere")
    (tmp_path / "README.md").symlink_to("nowhere")  # no case by its name
    cohort = open_cohort(tmp_path, HEART)
    assert [(p.case, p.severity) for p in cohort.problems] == [("patient002", "error")]
    with pytest.raises(BadFileError, match="patient002: a link with a missing target"):
        open_cohort(tmp_path / "patient002", HEART)


@pytest.mark.parametrize("layout", ["acdc", "ukb", "mnms", "flat"])
def test_what_is_skipped_is_in_a_note(tmp_path, layout):
    LAYOUTS[layout](tmp_path)
    for n in range(7):
        (tmp_path / f"other{n}").mkdir()
    (tmp_path / ".git").mkdir()
    cohort = open_cohort(tmp_path, HEART)
    assert len(cohort.cases) == 2
    assert cohort.notes["skipped"].endswith("other0, other1, other2, other3, other4 and 2 more")
    assert cohort.problems == ()


@pytest.mark.parametrize("layout", ["acdc", "ukb", "mnms"])
def test_a_locked_folder_costs_its_case(tmp_path, layout, monkeypatch):
    image, _, name = LAYOUTS[layout](tmp_path)
    locked = image.parent

    def refuse(method):
        def refused(path, *rest, **named):
            if path == locked or path.parent == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return method(path, *rest, **named)

        return refused

    is_dir = Path.is_dir
    for method in ("iterdir", "is_file", "exists"):  # we may be root, whom no permission stops
        monkeypatch.setattr(Path, method, refuse(getattr(Path, method)))
    monkeypatch.setattr(Path, "is_dir", is_dir)
    cohort = open_cohort(tmp_path, HEART)
    assert (cohort.layout, len(cohort.cases)) == (layout, 1)
    (problem,) = cohort.problems
    assert (problem.case, problem.severity) == (name, "error")
    assert problem.message == f"{locked}: cannot be listed (Permission denied); check its permissions"


def test_a_bracket_in_a_folder_is_no_pattern(tmp_path):
    acdc_patient(tmp_path / "study [1]", "patient[1]")
    assert only_case(tmp_path / "study [1]").phases["ED"] == 0.0


def test_flat(tmp_path):
    for name in ("b.nii", "a_0000.nii.gz", "scan_2019.nii.gz", "x[1].nii.gz"):
        write(tmp_path / name, picture())
    for name in ("a_seg.nii.gz", "a_GT.nii", "c-label.nii.gz", "seg_b.nii.gz", "b_image.nii.gz"):
        write(tmp_path / name, heart())
    write(tmp_path / "b_la_probability-lv-blood-pool.nii.gz", heart())
    write(tmp_path / "z_image.nii.gz", picture())  # nobody's output
    (tmp_path / "b.nisf").write_bytes(b"")
    (tmp_path / "._b.nii").write_bytes(b"finder")
    (tmp_path / "notes.txt").write_text("x")
    cohort = open_cohort(tmp_path, HEART)
    assert cohort.layout == "flat"
    assert [case.name for case in cohort.cases] == ["a", "b", "scan_2019", "x[1]", "z_image"]
    assert list(cohort.notes) == ["skipped"]
    assert "a_GT.nii, a_seg.nii.gz, b_image.nii.gz" in cohort.notes["skipped"]
    assert cohort.problems == ()
    case = read_case(cohort.cases[1], HEART)
    arranged = case.stacks[0].arrangement.apply(picture())
    np.testing.assert_array_equal(case.slices[1].image[..., 0], arranged[:, :, 1])


def test_an_archive_beside_images_is_noted(tmp_path):
    write(tmp_path / "a.nii.gz", picture())
    (tmp_path / "b_dicom.ZIP").touch()
    (tmp_path / "readme.txt").touch()
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["a"]
    assert cohort.notes["skipped"].endswith("images or cases: b_dicom.ZIP")


def test_flat_channels(tmp_path):
    for name in ("a", "b"):
        for n in (1, 0):
            write(tmp_path / f"{name}_{n:04d}.nii.gz", picture() + n)
    for n in range(1, 7):
        write(tmp_path / f"patient_{n:04d}.nii.gz", picture())
    cohort = open_cohort(tmp_path, HEART)
    names = ["a", "b", *(f"patient_{n:04d}" for n in range(1, 7))]
    assert [case.name for case in cohort.cases] == names
    case = read_case(cohort.cases[0], HEART)
    assert case.channels == 2
    arranged = case.stacks[0].arrangement.apply(picture())
    np.testing.assert_array_equal(case.slices[0].image[..., 1], arranged[:, :, 0] + 1)
    assert "a_0000.nii.gz, a_0001.nii.gz" in cohort.notes["channels"]


def test_flat_is_not_only_labels_and_names_are_unique(tmp_path):
    write(tmp_path / "a_seg.nii.gz", heart())
    with pytest.raises(BadFileError, match="no known layout"):
        open_cohort(tmp_path, HEART)
    write(tmp_path / "a.nii", picture())
    write(tmp_path / "a_0000.nii.gz", picture())
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["a"]
    assert re.search(r"a(_0000)?\.nii.* is already used for .*a(_0000)?\.nii", cohort.problems[0].message)


def nnunet_v1(root, channels=1):
    """The listed names lack the channel."""
    nnunet_dataset(root, channels)
    pairs = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("heart_001", "heart_002")
    ]
    table = {"0": "background", "1": "RV blood pool", "2": "LV myocardium", "3": "LV blood pool"}
    modality = {str(n): "MRI" for n in range(channels)}
    text = json.dumps({"modality": modality, "labels": table, "training": pairs})
    (root / "dataset.json").write_text(text, encoding="utf-8-sig")
    return root


@pytest.mark.parametrize("channels", [1, 2])
def test_nnunet_v1(tmp_path, channels):
    cohort = open_cohort(nnunet_v1(tmp_path, channels), HEART)
    assert [case.name for case in cohort.cases] == ["heart_001", "heart_002"]
    assert cohort.problems == ()
    case = read_case(cohort.cases[0], HEART)
    assert case.channels == channels
    assert case.labelled()


def test_nnunet_v1_with_a_channel_missing(tmp_path):
    (nnunet_v1(tmp_path, 2) / "imagesTr" / "heart_001_0001.nii.gz").unlink()
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["heart_002"]
    assert "heart_001_0001.nii.gz: no such file" in cohort.problems[0].message


def test_nnunet_v1_with_a_channel_that_is_not_named(tmp_path):
    write(nnunet_v1(tmp_path) / "imagesTr" / "heart_001_0001.nii.gz", picture())
    cohort = open_cohort(tmp_path, HEART)
    assert [case.name for case in cohort.cases] == ["heart_002"]
    assert "heart_001_0001.nii.gz: a further channel" in cohort.problems[0].message


@pytest.mark.parametrize("table", [{"background": 0, "spleen": 1}, {"background": 0, "heart": [1, 2, 3]}])
def test_label_names_do_not_matter_to_who_reads_none(tmp_path, table):
    nnunet_dataset(tmp_path, 1)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"channel_names": {"0": "MRI"}, "labels": table}))
    with pytest.raises(BadFileError, match=r"spleen|regions"):
        open_cohort(tmp_path, HEART)
    cohort = open_cohort(tmp_path, HEART, labels=False)
    cases = [case for _, case in CaseReader(cohort, HEART, labels=False)]
    assert [case.name for case in cases if not isinstance(case, str)] == ["heart_001", "heart_002"]


def test_labels_of_a_manifest_do_not_matter_either(tmp_path):
    write(tmp_path / "a.nii", picture())
    write(tmp_path / "b.nii", picture())
    rows = "case,image,label,known\none,a.nii,a.nii,aorta\ntwo,a.nii,b.nii,\n"
    path = manifest(tmp_path, rows)
    with pytest.raises(BadFileError, match="its label numbers are not defined"):
        open_cohort(path, HEART)
    assert len(open_cohort(path, HEART, labels=False).cases) == 2
    (tmp_path / "labels.json").write_text(json.dumps({"1": "LV blood pool"}))
    cohort = open_cohort(path, HEART)
    assert [case.name for case in cohort.cases] == ["two"]
    assert [p.case for p in cohort.problems] == ["one"]
    assert len(open_cohort(path, HEART, labels=False).cases) == 2


def test_nnunet_files_of_another_kind_are_named(tmp_path):
    nnunet_dataset(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0}, "file_ending": ".png"}))
    with pytest.raises(
        BadFileError, match=r"dataset\.json: its files end in '\.png' \(file_ending\), but only"
    ):
        open_cohort(tmp_path, HEART)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_manifests_as_spreadsheets_save_them(tmp_path, separator, encoding):
    write(tmp_path / "a.nii", picture(*SHAPE, 4))
    rows = [["Case", "image", "phase", "note"], ["Müller", "a.nii", '"ED:1;ES:3"', '"a, b"']]
    text = "\r\n".join(separator.join(row) for row in rows)
    path = tmp_path / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    for root in (path, tmp_path):
        case = only_case(root)
        assert (case.name, case.phases) == ("Müller", {"ED": 0.25, "ES": 0.75})


def test_a_byte_order_mark_in_a_list_of_names(tmp_path):
    cases = open_cohort(pairs_cohort(tmp_path), PAIRS).cases
    (tmp_path / "names.txt").write_text("b\r\n", encoding="utf-8-sig")
    assert [case.name for case in only_named(cases, tmp_path / "names.txt")] == ["b"]


@pytest.mark.parametrize("text", ["", "²", "٣", "-1", "1.0", " 1", "1_0", "9" * 5000])
def test_what_is_no_whole_number(text):
    assert whole_number(text) is None


def test_whole_numbers():
    assert [whole_number(text) for text in ("0", "012", "999999999")] == [0, 12, 999_999_999]


@pytest.mark.parametrize("frame", ["²", "9" * 5000])
def test_odd_digits_in_tables(tmp_path, frame):
    mnms_cohort(tmp_path / "mnms")
    table = next((tmp_path / "mnms").glob("*.csv"))
    table.write_text(f"External code,ED,ES\nA0S9V9,{frame},3\n", encoding="utf-8")
    assert only_case(tmp_path / "mnms").phases == {"ES": pytest.approx(0.6)}
    write(tmp_path / "a.nii", picture(*SHAPE, 4))
    path = tmp_path / "m.csv"
    path.write_text(f"case,image,phase\none,a.nii,ED:{frame}\n", encoding="utf-8")
    with pytest.raises(BadFileError, match="write ED for the phase of a row"):
        open_cohort(path, HEART)


def test_a_folder_is_listed_once_while_a_cohort_is_opened(tmp_path, monkeypatch):
    (tmp_path / "sa.nii").touch()
    assert existing(tmp_path, "la") is None
    with each_folder_once():
        assert existing(tmp_path, "sa") == tmp_path / "sa.nii"
        monkeypatch.setattr("os.listdir", None)
        assert existing(tmp_path, "la") is None
        (tmp_path / "la.nii.gz").touch()
        assert existing(tmp_path, "la") is None  # it was not there when the folder was listed
    assert existing(tmp_path, "la") == tmp_path / "la.nii.gz"


def test_a_folder_that_is_not_there_has_no_file(tmp_path):
    with each_folder_once():
        assert existing(tmp_path / "none", "sa") is None
