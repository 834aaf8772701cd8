"""The scan that a subject was made from is found again, also where its frames are files of their own."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.io.readers import open_cohort, read_case
from nisf.io.source import source_case
from nisf.prior.fit import fit

INFO = "ED: 1\nES: 3\nGroup: NOR\nHeight: 170.0\nNbFrame: 5\nWeight: 70.0\n"


@pytest.fixture
def pair(tmp_path, toy_image_prior):
    """The folder of a patient with two frames, and the subject that was made from it."""
    folder = tmp_path / "patients" / "patient007"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(INFO)
    image = toys.image_of(toys.toy_case(7))[..., 0]
    for number, frame in ((1, 0), (3, 1)):
        stored = nib.Nifti1Image(image[..., frame], toys.toy_grid().affine.matrix)
        nib.save(stored, folder / f"patient007_frame{number:02d}.nii.gz")
    anatomy = toy_image_prior.anatomy
    case = read_case(open_cohort(folder, anatomy, labels=False).cases[0], anatomy)
    return folder, case, fit(case, toy_image_prior, find="whole")


def same(found, case):
    return all(np.array_equal(a.image, b.image) for a, b in zip(found.slices, case.slices, strict=True))


def test_frames_in_files_of_their_own(pair):
    folder, case, subject = pair
    assert len(case.stacks[0].grid.times) == 2
    assert case.stacks[0].source.name == "patient007_frame01.nii.gz"
    for scan in (None, folder, folder.parent):
        found, words = source_case(subject, scan)
        assert words == ""
        assert same(found, case)


def test_other_scans_and_none(pair, tmp_path):
    folder, _, subject = pair
    other = folder.parent / "patient008"
    other.mkdir()
    (other / "Info.cfg").write_text(INFO)
    image = toys.image_of(toys.toy_case(8))[:, :, :5, 0, 0]
    for number in (1, 3):
        nib.save(nib.Nifti1Image(image, np.eye(4)), other / f"patient008_frame{number:02d}.nii.gz")
    (folder / "patient007_frame01.nii.gz").unlink()
    for scan, words in ((None, "has moved"), (tmp_path / "none", "has moved"), (other, "not the one")):
        found, said = source_case(subject, scan)
        assert found is None
        assert words in said


def test_the_same_voxels_at_other_times(pair):
    _, _, subject = pair
    stack = subject.stacks[0]
    grid = replace(stack.grid, times=stack.grid.times + 0.01)
    found, said = source_case(replace(subject, stacks=(replace(stack, grid=grid), *subject.stacks[1:])))
    assert found is None
    assert "not the one" in said or "has moved" in said
