"""What train, segment and evaluate say of a cohort that is not as it should be."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from nisf.cli import main
from nisf.phantom import Scanner, cohort
from toys import image_of, label_of

QUICK = ["--preset", "demo", "--set", "train.steps=2", "train.points=64", "train.subjects=2"]
QUICK += ["train.compile=false", "field.latent=8", "field.width=8", "field.layers=2"]
QUICK += ["fit.steps=2", "fit.points=64", "fit.points_last=32", "region.finder_steps=2"]
pytestmark = pytest.mark.usefixtures("light")
THICK = Scanner(matrix=(24, 24), spacing_mm=7.5, thickness_mm=16.0, frames=3)
ACDC_NUMBERS = np.array([0, 3, 2, 1], dtype=np.uint8)
"""Numbers of ACDC's files for the phantom's labels: blood pool, myocardium and blood pool of the right."""


def write_patient(root, case):
    """ED and ES of a phantom as ACDC has them: the affine says 1 mm, the zooms say the truth."""
    name, folder = case.name, root / case.name
    folder.mkdir(parents=True)
    images, labels = image_of(case)[..., 0], ACDC_NUMBERS[label_of(case)]
    for frame in (0, 1):
        for ending, data in (("", images), ("_gt", labels)):
            image = nib.Nifti1Image(data[..., frame], np.eye(4))
            image.header["pixdim"][1:4] = case.stacks[0].grid.spacing
            image.to_filename(folder / f"{name}_frame{frame + 1:02d}{ending}.nii.gz")
    (folder / "Info.cfg").write_text("ED: 1\nES: 2\nGroup: DCM\nNbFrame: 3\n")
    return folder


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Four patients that are sound."""
    root = tmp_path_factory.mktemp("acdc") / "data"
    for subject in cohort(4, seed=3, scanner=THICK):
        write_patient(root, subject.case)
    return root


@pytest.fixture(scope="module")
def prior(patients, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "prior"
    assert main(["train", str(patients), "-o", str(folder), "--validation", "every-4th", *QUICK]) == 0
    return folder


@pytest.fixture
def broken(patients, tmp_path):
    """The first is sound, the second's image is cut, the third's table is wrong, the fourth has no table."""
    root = shutil.copytree(patients, tmp_path / "data")
    _, second, third, fourth = sorted(root.iterdir())
    image = second / f"{second.name}_frame01.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    (third / "Info.cfg").write_text("ED: 1\nES: 2\nNbFrame: 1\n")
    (fourth / "Info.cfg").unlink()
    return root


def said(capsys):
    """The lines on standard error."""
    return capsys.readouterr().err.splitlines()


def is_told(lines, beginning, *parts):
    """Whether exactly one line begins so and has the parts."""
    return sum(line.startswith(beginning) and all(part in line for part in parts) for line in lines) == 1


def test_train_says_what_it_noticed_once(patients, tmp_path, capsys):
    words = ["train", str(patients), "-o", str(tmp_path / "prior"), "--validation", "every-2nd", *QUICK]
    for extra in ([], ["--resume"]):  # the second time, the cases come from the cache
        assert main([*words, *extra]) == 0
        lines = said(capsys)
        assert [line for line in lines if line.startswith(("note: ", "left out: "))] == [
            line for line in lines if "affine and voxel size disagree" in line
        ]
        assert is_told(lines, "note: ", "phantom0000_frame01.nii.gz: affine 1 x 1 x 1 mm, header 7.5 x 7.5")


def test_train_says_what_it_leaves_out(broken, tmp_path, capsys):
    words = ["train", str(broken), "-o", str(tmp_path / "prior"), "--validation", "none", *QUICK]
    assert main(words) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert "2 training cases, 0 validation cases" in printed.out
    assert is_told(lines, "left out: ", "phantom0001_frame01.nii.gz")
    assert is_told(lines, "left out: ", "phantom0002: frame 2 of 1")
    assert is_told(lines, "note: ", "phantom0003", "Info.cfg: missing")
    assert is_told(lines, "note: ", "affine and voxel size disagree")
    assert len([line for line in lines if line.startswith(("note: ", "left out: "))]) == 4


def test_train_looks_at_the_validation_cohort_too(patients, broken, tmp_path, capsys):
    words = ["train", str(patients), "-o", str(tmp_path / "prior"), "--validation", str(broken), *QUICK]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "4 training cases, 2 validation cases" in printed.out
    lines = printed.err.splitlines()
    assert is_told(lines, "left out: ", "phantom0001_frame01.nii.gz")
    for root in (patients, broken):
        assert is_told(lines, "note: affine and voxel size disagree", f"({root}")


def test_an_error_of_the_listing_alone_is_a_failure(broken, tmp_path, capsys):
    """Every case that is listed can be read, but one is not listed."""
    shutil.rmtree(broken / "phantom0001")
    words = ["train", str(broken), "-o", str(tmp_path / "prior"), "--validation", "every-2nd", *QUICK]
    assert main(words) == 1
    lines = said(capsys)
    assert [line for line in lines if line.startswith("left out: ")] == [
        line for line in lines if "phantom0002: frame 2 of 1" in line
    ]


def test_evaluate_with_a_prior_says_it_all(broken, prior, capsys):
    assert main(["evaluate", str(broken), "--prior", str(prior), "--steps", "2"]) == 1
    lines = said(capsys)
    assert is_told(lines, "phantom0002: ", "frame 2 of 1")
    assert is_told(lines, "", "phantom0003", "Info.cfg: missing")
    assert is_told(lines, "note: affine and voxel size disagree")
    assert lines[-1] == "2 cases could not be scored: phantom0001, phantom0002"


def test_segment_says_why_a_case_is_left_out(broken, prior, tmp_path, capsys):
    words = ["segment", str(broken), "--prior", str(prior), "-o", str(tmp_path / "out"), "--steps", "2"]
    assert main(words) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert is_told(lines, "left out: ", "phantom0002: frame 2 of 1")
    assert is_told(lines, "[2/3] phantom0001: failed: ", "phantom0001_frame01.nii.gz")
    assert is_told(lines, "note: affine and voxel size disagree")
    assert lines[-1] == "failed: phantom0001, phantom0002"
    assert "2 of 3 cases written" in printed.out
