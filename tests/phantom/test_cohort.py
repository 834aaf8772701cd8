import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nisf.data.anatomy import load_anatomy
from nisf.io.readers import open_cohort, read_case
from nisf.phantom import Scanner, cohort, ejection_fraction, random_heart, volumes_ml, write_cohort
from nisf.phantom.cohort import GROUPS, volume

SMALL = Scanner(spacing_mm=6.0, matrix=(32, 28), thickness_mm=15.0, gap_mm=0.0, frames=2)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000), group=st.sampled_from([None, *GROUPS]))
def test_hearts_are_plausible(seed, group):
    heart = random_heart(np.random.default_rng(seed), group)
    rest = volumes_ml(heart, 0.0)
    assert 69 < rest["LV blood pool"] < 261
    assert 0.2 <= heart.ejection_fraction <= 0.75
    assert 6 <= heart.wall_mm <= 15
    assert 60 < rest["LV myocardium"] < 320
    assert 55 < rest["RV blood pool"] < 260
    assert 0.15 < ejection_fraction(heart, "RV blood pool") < 0.75
    assert 70 < heart.length_mm < 125


def test_a_cohort_does_not_depend_on_its_size():
    two, one = list(cohort(2, 5, SMALL)), list(cohort(1, 5, SMALL))
    np.testing.assert_array_equal(volume(two[0])[0], volume(one[0])[0])
    assert two[0].heart == one[0].heart
    assert two[0].heart != two[1].heart
    assert len({scan.case.name for scan in two}) == 2
    assert next(iter(cohort(1, 6, SMALL))).heart != one[0].heart


def test_written_folders_are_those_of_uk_biobank(tmp_path):
    written = write_cohort(tmp_path, 2, 5, SMALL)
    assert sorted(tmp_path.iterdir()) == written
    for folder, scan in zip(written, cohort(2, 5, SMALL), strict=True):
        grid = scan.case.stacks[0].grid
        image, segmentation = nib.load(folder / "sa.nii.gz"), nib.load(folder / "seg_sa.nii.gz")
        assert image.header.get_xyzt_units() == ("mm", "msec")
        assert image.header.get_data_dtype() == np.int16
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        assert image.shape == segmentation.shape == (*grid.shape, 2)
        np.testing.assert_allclose(image.header.get_zooms()[:3], [6, 6, 15], rtol=1e-6)
        assert image.header.get_zooms()[3] == pytest.approx(scan.case.stacks[0].cycle_ms / 2)
        for affine in (image.get_sform(), image.get_qform(), segmentation.affine):
            np.testing.assert_allclose(affine, grid.affine.matrix, atol=1e-3)
        np.testing.assert_array_equal(np.asarray(image.dataobj), volume(scan)[0])
        np.testing.assert_array_equal(np.asarray(segmentation.dataobj), volume(scan)[1])
        truth = json.loads((folder / "truth.json").read_text())
        assert truth["volumes_ml"]["ED"] == volumes_ml(scan.heart, 0.0)
        assert truth["ejection_fraction"]["LV blood pool"] == pytest.approx(scan.heart.ejection_fraction)
        np.testing.assert_allclose(truth["shifts_mm"], scan.shifts_mm)


def test_long_axis_cines_are_written_too(tmp_path):
    (folder,) = write_cohort(tmp_path, 1, 5, SMALL, views=("2ch", "4ch"))
    anatomy = load_anatomy("cardiac-sax")
    case = read_case(open_cohort(tmp_path, anatomy).cases[0], anatomy)
    assert [stack.name for stack in case.stacks] == ["sa", "la_2ch", "la_4ch"]
    normals = [stack.grid.affine.axes[:, 2] for stack in case.stacks]
    assert max(abs(normals[0] @ normal) for normal in normals[1:]) < 0.2
    assert [len(stack.grid.times) for stack in case.stacks] == [2, 2, 2]
    assert not (folder / "seg_la_4ch.nii.gz").exists()


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="athlete"):
        random_heart(np.random.default_rng(0), "athlete")
