"""Files of a stack must agree in voxel size and directions; another position is only noted."""

import numpy as np
import pytest

from nisf.errors import BadFileError
from nisf.io.readers import open_cohort, read_case

from .helpers import AFFINE, HEART, acdc_patient, heart, manifest, only_case, picture, ukb_subject, write


def two_phases(root, affine, shape=None, first=AFFINE):
    """A stack of an ED and an ES file; the affine is that of ES."""
    write(root / "ed.nii.gz", picture(*(shape or ())), first)
    write(root / "es.nii.gz", picture(*(shape or ())), affine)
    return manifest(root, "case,image,phase\np,ed.nii.gz,ED\np,es.nii.gz,ES\n")


@pytest.mark.parametrize(
    ("spacing", "said"), [((1.5, 1.5, 5), "1.5 x 1.5 x 5 mm"), ((1.6, 1.6, 8), "1.6 x 1.6 x 8 mm")]
)
def test_frames_of_another_voxel_size(tmp_path, spacing, said):
    path = two_phases(tmp_path, np.diag([*spacing, 1.0]))
    with pytest.raises(BadFileError, match=rf"es.nii.gz: its voxels are {said}, those of ed.nii.gz 1.5 x 1"):
        only_case(path)


def test_a_single_slice_of_another_thickness(tmp_path):
    """Its corners are where they should be."""
    path = two_phases(tmp_path, np.diag([1.5, 1.5, 5.0, 1.0]), shape=(6, 5, 1))
    with pytest.raises(BadFileError, match=r"its voxels are 1.5 x 1.5 x 5 mm"):
        only_case(path)


@pytest.mark.parametrize("layout", ["acdc", "ukb"])
def test_in_the_layouts_with_a_file_per_phase(tmp_path, layout):
    if layout == "acdc":
        folder = acdc_patient(tmp_path)
        write(folder / "patient001_frame12.nii.gz", picture(), np.eye(4), zooms=(1.5, 1.5, 5.0))
    else:
        folder = ukb_subject(tmp_path)
        for name in ("sa.nii.gz", "seg_sa.nii.gz", "la_4ch.nii.gz"):
            (folder / name).unlink()
        write(folder / "sa_ED.nii.gz", picture())
        write(folder / "sa_ES.nii.gz", picture(), np.diag([1.5, 1.5, 5.0, 1.0]))
    with pytest.raises(BadFileError, match=r"its voxels are 1.5 x 1.5 x 5 mm"):
        only_case(tmp_path, layout=layout)


def test_rounding_and_a_shift_are_no_other_voxels(tmp_path):
    moved = np.diag([1.505, 1.5, 8.05, 1.0])
    moved[:3, 3] = 40, -10, 5
    path = two_phases(tmp_path, moved)
    cohort = open_cohort(path, HEART)
    case = read_case(cohort.cases[0], HEART, cohort.notes)
    assert case.stacks[0].grid.spacing == pytest.approx([1.5, 1.5, 8])
    assert "is at another position than ed.nii.gz" in cohort.notes["frames_apart"]


def test_frames_whose_axes_point_elsewhere(tmp_path):
    turned = AFFINE.copy()
    turned[:3, :3] = np.diag([-1.0, 1.0, 1.0]) @ turned[:3, :3]
    turned[:3, 3] = 70, 0, 0  # mirrored and moved, so that no exchange of axes explains it
    with pytest.raises(BadFileError, match=r"es.nii.gz: its axes point in other directions than those of ed"):
        only_case(two_phases(tmp_path, turned))


def test_labels_of_another_voxel_size(tmp_path):
    folder = acdc_patient(tmp_path)
    label = folder / "patient001_frame12_gt.nii.gz"
    write(label, heart(), np.eye(4))  # 1 mm is what programs write that do not know the size
    assert only_case(tmp_path).stacks[0].grid.spacing == pytest.approx([1.5, 1.5, 8])
    write(label, heart(), np.diag([1.5, 1.5, 5.0, 1.0]))
    with pytest.raises(BadFileError, match=r"frame12_gt.nii.gz: its voxels are 1.5 x 1.5 x 5 mm, those of"):
        only_case(tmp_path)
