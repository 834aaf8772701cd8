"""BIDS derivatives: names, the files of the data set, the same voxels at the same places."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.geometry import Affine, Grid
from nisf.errors import BadFileError
from nisf.io.bids import BidsFiles, entities, file_name, plain
from nisf.outputs import recorded
from nisf.subject.rendering import Rendering

HEART = load_anatomy("cardiac-sax")


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("patient001", "sub-patient001_desc-nisf_dseg"),
        ("a b_7é", "sub-ab7e_desc-nisf_dseg"),
        ("sub-01_ses-2_run-3_acq-sax_bold", "sub-01_ses-2_acq-sax_run-3_desc-nisf_dseg"),
        ("sub-01_desc-other_label-x_cine", "sub-01_desc-nisf_dseg"),
    ],
)
def test_names(case, name):
    assert file_name(entities(case), "dseg") == name


def test_a_name_without_letters_gets_a_hash():
    assert plain("心") != plain("肺")
    assert plain("心").isalnum()


def rendering(frames=2, probability=False, seed=0):
    shape = (6, 5, 4)
    label = np.random.default_rng(seed).integers(0, 4, (*shape, frames)).astype(np.uint8)
    matrix = np.array([[0, -1.5, 0, 4], [1.5, 0, 0, -7], [0, 0, 8, 30], [0, 0, 0, 1.0]])
    grid = Grid(shape, Affine(matrix), np.arange(frames) / frames)
    chances = np.eye(4, dtype=np.float32)[label] if probability else None
    return Rendering(grid, np.zeros((*shape, frames, 1), np.float32), label, chances)


@pytest.fixture
def subject(toy_fitted):
    return replace(toy_fitted, name="sub-01_ses-2_cine", prior=replace(toy_fitted.prior, anatomy=HEART))


def test_the_data_set(tmp_path, subject):
    made = rendering(probability=True)
    files = BidsFiles().write(tmp_path, subject, made)
    place = tmp_path / "bids" / "sub-01" / "ses-2" / "anat"
    assert {path.parent for path in files} == {place}
    # Another grid than the input's is told by the entity res.
    image = nib.load(place / "sub-01_ses-2_res-nisf_desc-nisf_dseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), made.label)
    np.testing.assert_allclose(image.affine, made.grid.affine.matrix, atol=1e-5)
    chance = nib.load(place / "sub-01_ses-2_res-nisf_label-LVbloodpool_desc-nisf_probseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(chance.dataobj) > 0.5, made.label == 1)
    sidecar = json.loads((place / "sub-01_ses-2_res-nisf_desc-nisf_dseg.json").read_text())
    assert sidecar["Resolution"] == "1.5 x 1.5 x 8 mm"
    root = tmp_path / "bids"
    assert json.loads((root / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    table = [line.split("\t") for line in (root / "desc-nisf_dseg.tsv").read_text().splitlines()]
    assert table[0][:2] == ["index", "name"]
    assert [(int(row[0]), row[1], row[3]) for row in table[1:]] == list(
        zip(range(4), HEART.labels, HEART.colours, strict=True)
    )


def test_two_cases_that_bids_calls_the_same(tmp_path, subject):
    for name in ("a_1", "a1"):
        case = replace(subject, name=name)
        with recorded(tmp_path, name, BidsFiles.part):
            if name == "a_1":
                BidsFiles().write(tmp_path, case, rendering())
            else:
                with pytest.raises(BadFileError, match="not written by nisf for this output"):
                    BidsFiles().write(tmp_path, case, rendering(seed=1))
