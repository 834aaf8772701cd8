"""Slices differ more than frames do; where they do not, the axes may be exchanged."""

import nibabel
import numpy as np
import pytest

from nisf.cli import main
from nisf.data.time_axis import frames_may_be_slices, repeated_frames
from nisf.phantom import Scanner, cohort


def cine(seed, frames):
    """Intensities (x, y, z, t, 1) of a phantom."""
    scanner = Scanner(matrix=(64, 64), spacing_mm=3.5, frames=frames)
    case = next(iter(cohort(1, seed=seed, scanner=scanner))).case
    grid = case.stacks[0].grid
    image = np.zeros((*grid.shape, frames, 1), np.float32)
    for item in case.slices:
        image[:, :, item.position, item.frame] = item.image
    return image


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cine_is_told_from_one_with_time_third(seed):
    image = cine(seed, frames=12)
    assert not frames_may_be_slices(image)
    assert frames_may_be_slices(image.swapaxes(2, 3))


def test_few_frames_say_nothing():
    assert not frames_may_be_slices(cine(1, frames=2))
    assert not frames_may_be_slices(cine(1, frames=2).swapaxes(2, 3))


def test_repeated_frames_are_counted():
    image = cine(1, frames=4)
    assert repeated_frames(image) == 0
    image[:, :, :, 2] = image[:, :, :, 1]
    assert repeated_frames(image) == 1
    image[0, 0, 0, 1:3] = np.nan
    assert repeated_frames(image) == 1
    image[5, 5, -1, 2] += 1
    assert repeated_frames(image) == 0
    assert repeated_frames(np.zeros((2, 2, 3, 5, 1), np.int16)) == 4


def test_repeated_frames_are_named(tmp_path, capsys):
    image = cine(1, frames=3)[..., 0]
    image[..., 1] = image[..., 2]
    file = nibabel.Nifti1Image(image, np.diag([3.5, 3.5, 10, 1]))
    nibabel.save(file, tmp_path / "still.nii.gz")
    main(["check", str(tmp_path)])
    assert "still.nii.gz: 1 of 3 frames repeat the image of the frame before" in capsys.readouterr().out


def test_repeated_files_are_named(tmp_path, capsys):
    """The frames of an ACDC patient have a file each."""
    image = cine(1, frames=2)[..., 0]
    image[:3] = np.nan  # padding
    for patient, frames in (("patient001", (0, 0)), ("patient002", (0, 1))):
        folder = tmp_path / patient
        folder.mkdir()
        (folder / "Info.cfg").write_text("ED: 1\nES: 7\n")
        for number, frame in zip((1, 7), frames, strict=True):
            file = nibabel.Nifti1Image(image[..., frame], np.diag([3.5, 3.5, 10, 1]))
            nibabel.save(file, folder / f"{patient}_frame{number:02}.nii.gz")
    main(["check", str(tmp_path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "repeat the image" in line]
    assert len(lines) == 1
    assert "patient001: 1 of 2 frames repeat" in lines[0]


def test_check_says_so(tmp_path, capsys):
    image = cine(1, frames=12)[..., 0]
    for name, array in (("right", image), ("exchanged", image.swapaxes(2, 3))):
        file = nibabel.Nifti1Image(array, np.diag([3.5, 3.5, 10, 1]))
        file.header.set_xyzt_units("mm", "msec")
        nibabel.save(file, tmp_path / f"{name}.nii.gz")
    main(["check", str(tmp_path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "less from slice to slice" in line]
    assert len(lines) == 1
    assert "exchanged.nii.gz" in lines[0]
