import json
import subprocess
import sys
import time

import numpy as np
import pytest

from nisf.cli.check import Check
from nisf.data.anatomy import load_anatomy
from nisf.io.readers import check_cohort

from .helpers import AFFINE, SHAPE, acdc_patient, heart, picture, real_data, write

HEART = load_anatomy("cardiac-sax")
SIZE = (1.5, 1.5, 8.0)
MOVED = AFFINE + np.array([0, 0, 0, 40.0]) * [[1], [1], [1], [0]]
THIN = np.diag([1.5, 1.5, 5.0, 1.0])


def test_clean_cohort(tmp_path):
    for name in ("patient001", "patient002"):
        acdc_patient(tmp_path, name)
    report = check_cohort(tmp_path, HEART, full=True)
    assert (report.layout, report.errors, report.warnings, len(report.notes)) == ("acdc", 0, 0, 1)
    first = report.cases[0]
    assert (first.stacks[0].shape, first.stacks[0].frames) == (SHAPE, 2)
    assert first.stacks[0].spacing == pytest.approx(SIZE)
    assert first.labels == list(HEART.labels[1:])
    assert first.volumes_ml["LV blood pool"] == pytest.approx([4 * 0.018, 2 * 0.018])
    assert json.loads(json.dumps(report.to_dict()))["cases"][1]["name"] == "patient002"


def not_a_number(image, _):
    data = picture(dtype=np.float32)
    data[0, 0, 0] = np.nan
    write(image, data, np.eye(4), zooms=SIZE)


def strange_number(_, label):
    write(label, heart(classes=(1, 2, 9)), np.eye(4), zooms=SIZE)


@pytest.mark.parametrize(
    ("harm", "severity", "said"),
    [
        (lambda _, label: label.unlink(), "warning", "no label file"),
        (not_a_number, "warning", "1.11 % of the pixels are padding or not a number"),
        (lambda image, _: write(image, np.ones(SHAPE, np.int16)), "error", "every slice is blank"),
        (strange_number, "error", "unexpected label values [9]"),
        (lambda _, label: write(label, heart()[:5], np.eye(4), zooms=SIZE), "error", "its shape is"),
        (lambda _, label: write(label, heart(), np.eye(4)), "warning", "its affine is not that"),
        (lambda image, _: write(image, picture(), MOVED), "warning", "its affine is not that"),
        (
            lambda _, label: write(label, heart(), AFFINE * 1.1),
            "error",
            "its voxels are 1.65 x 1.65 x 8.8",
        ),
        (lambda image, _: write(image, picture(), THIN), "error", "its voxels are 1.5 x 1.5 x 5 mm"),
        (lambda image, _: image.write_bytes(image.read_bytes()[:-30]), "error", "truncated"),
        (lambda _, label: label.write_bytes(label.read_bytes()[:-30]), "error", "truncated"),
        (lambda _, label: write(label, heart() * 0, np.eye(4), zooms=SIZE), "warning", "not annotated"),
    ],
)
def test_each_problem_is_found_in_its_case(tmp_path, harm, severity, said):
    folder = acdc_patient(tmp_path)
    acdc_patient(tmp_path, "patient002")
    harm(folder / "patient001_frame12.nii.gz", folder / "patient001_frame12_gt.nii.gz")
    report = check_cohort(tmp_path, HEART)
    found = [p for p in report.all_problems() if said in p.message]
    assert [(p.case, p.severity) for p in found] == [("patient001", severity)]
    assert not report.cases[1].problems


def test_volumes_have_the_size_of_the_image(tmp_path):
    folder = acdc_patient(tmp_path)
    for frame, big in (("01", 4), ("12", 2)):
        write(folder / f"patient001_frame{frame}_gt.nii.gz", heart(big), np.eye(4))  # 1 mm: not set
    found = check_cohort(tmp_path, HEART, full=True).cases[0]
    assert found.volumes_ml["LV blood pool"] == pytest.approx([4 * 0.018, 2 * 0.018])


def test_class_that_nobody_drew(tmp_path):
    folder = acdc_patient(tmp_path)
    for frame in ("01", "12"):
        write(folder / f"patient001_frame{frame}_gt.nii.gz", heart(classes=(1, 2)), np.eye(4), zooms=SIZE)
    report = check_cohort(tmp_path, HEART)
    assert [p.message for p in report.all_problems()] == [
        "patient001: no voxel of LV blood pool in its label files"
    ]


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_cohort(tmp_path, what):
    report = check_cohort(tmp_path if what == "empty" else tmp_path / "none", HEART)
    assert (report.layout, report.errors, report.cases) == (None, 1, [])


def test_command(tmp_path, capsys):
    folder = acdc_patient(tmp_path)
    assert Check((tmp_path,)).run() == 0
    shown = capsys.readouterr().out
    assert "patient001" in shown
    assert "1 case, layout acdc: 0 errors, 0 warnings" in shown
    write(folder / "patient001_frame12.nii.gz", np.ones(SHAPE, np.int16))
    assert Check((tmp_path,)).run() == 1
    assert "error" in capsys.readouterr().out
    assert Check((tmp_path,), json=True).run() == 1
    assert json.loads(capsys.readouterr().out)["errors"] == 1


def test_command_is_light_to_import():
    code = (
        "import sys, nisf.cli.check; "
        "sys.exit(bool({'numpy', 'torch', 'nibabel', 'rich.table'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_acdc_takes_seconds(tmp_path):
    # All 100 patients take 4 s on two idle cores; every fourth is enough to see it grow.
    for folder in sorted(real_data("acdc").glob("patient*"))[::4]:
        (tmp_path / folder.name).symlink_to(folder)
    start = time.process_time()  # of all threads, however busy the machine is
    report = check_cohort(tmp_path, HEART)
    assert time.process_time() - start < 15
    assert (report.errors, report.warnings, len(report.cases), len(report.notes)) == (0, 0, 25, 1)
