"""The scan that a subject was made from is found again, also where its frames are files of their own."""

import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.io.readers import open_cohort, read_case
from nisf.io.source import source_case
from nisf.io.subject_file import read_record, write_subject
from nisf.outputs.input_state import input_state
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


@pytest.fixture
def recorded(pair):
    """The same, with the record of what was segmented."""
    folder, case, subject = pair
    state = input_state(sorted(folder.glob("*.nii.gz")))
    return folder, case, replace(subject, summary={**subject.summary, "request": {"inputs": state}})


def test_other_content_on_the_same_grid(recorded):
    """Pixels of another person must not appear under the contours, not even at the old path."""
    folder, case, subject = recorded
    assert source_case(subject)[1] == ""
    image = toys.image_of(toys.toy_case(8))[..., 0]
    changed = folder / "patient007_frame03.nii.gz"
    shutil.copy2(changed, folder.parent / "kept.nii.gz")
    nib.save(nib.Nifti1Image(image[..., 1], toys.toy_grid().affine.matrix), changed)
    for scan in (None, folder):
        assert source_case(subject, scan) == (None, "the scan there is not the one that was segmented")
    assert source_case(replace(subject, summary={}), folder)[0] is not None  # only its grid is known
    shutil.copy(folder.parent / "kept.nii.gz", changed)  # another time, the same content
    assert same(source_case(subject)[0], case)


def test_the_scan_among_other_files_and_elsewhere(recorded, tmp_path):
    folder, case, subject = recorded
    moved = tmp_path / "moved" / "patient007"
    shutil.copytree(folder, moved)
    (moved / "patient007_frame01_gt.nii.gz").write_bytes(b"a drawing")
    shutil.rmtree(folder)
    assert source_case(subject) == (None, "the scan has moved or cannot be read")
    found, reason = source_case(subject, moved)
    assert reason == ""
    assert same(found, case)


def test_from_another_working_directory(recorded, tmp_path, monkeypatch):
    """A path as it was typed would mean another file, or none."""
    folder, case, subject = recorded
    monkeypatch.chdir(folder)
    stack = replace(subject.stacks[0], source=subject.stacks[0].source.relative_to(folder))
    write_subject(tmp_path / "a.nisf", replace(subject, stacks=(stack,)))
    monkeypatch.chdir(tmp_path)
    again = replace(subject, stacks=read_record(tmp_path / "a.nisf").stacks)
    assert os.path.isabs(again.stacks[0].source)
    assert same(source_case(again)[0], case)
    # As written before paths were absolute.
    assert source_case(replace(subject, stacks=(stack,)))[0] is None
    monkeypatch.chdir(folder)
    assert same(source_case(replace(subject, stacks=(stack,)))[0], case)


def test_frames_that_only_a_manifest_joins(recorded, tmp_path):
    """One of them alone is not another scan."""
    folder, case, subject = recorded
    names = ["patient007_frame01.nii.gz", "patient007_frame03.nii.gz"]
    for folder_name, name in zip("ab", names, strict=True):
        (tmp_path / folder_name).mkdir()
        shutil.copy(folder / name, tmp_path / folder_name / name)
    stack = replace(subject.stacks[0], source=tmp_path / "a" / names[0])
    subject = replace(subject, stacks=(stack,))
    assert source_case(subject) == (None, "the files there are only a part of the scan that was segmented")
    times = case.stacks[0].grid.times
    rows = [f"toy,{place}/{name},{time}" for place, name, time in zip("ab", names, times, strict=True)]
    (tmp_path / "manifest.csv").write_text("case,image,time\n" + "\n".join(rows))
    found, reason = source_case(subject, tmp_path / "manifest.csv")
    assert reason == ""
    assert same(found, case)
