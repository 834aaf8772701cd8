"""Parallel slices become one stack: a file a slice in any order, files that interleave, gaps, refusals."""

import csv

import nibabel as nib
import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.case import UNKNOWN
from nisf.data.stacking import even_places
from nisf.errors import BadFileError
from nisf.io.readers import open_cohort, read_case

HEART = load_anatomy("cardiac-sax")
SHAPE, FRAMES = (14, 12, 6), 3
STEP = 8.0


def affine(step=STEP):
    """Tilted, so that no direction is an axis of the world."""
    from scipy.spatial.transform import Rotation

    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag(
        [1.5, 1.5, step]
    )
    out[:3, 3] = [10.0, -20.0, 30.0]
    return out


def arrays():
    rng = np.random.default_rng(0)
    image = rng.integers(10, 900, (*SHAPE, FRAMES)).astype(np.int16)
    label = np.zeros((*SHAPE, FRAMES), dtype=np.uint8)
    label[4:8, 4:8, 1:5] = 1
    label[5:7, 5:7, 1:5] = 2
    label[8:10, 4:8, 1:5] = 3
    return image, label


def save(path, array, matrix, *, oriented=True):
    image = nib.Nifti1Image(array, matrix)
    if not oriented:
        image.set_sform(matrix, 0)
        image.set_qform(matrix, 0)
    nib.save(image, path)
    return path.name


def place(z, step=STEP):
    matrix = affine(step)
    matrix[:3, 3] = (affine(step) @ [0, 0, z, 1])[:3]
    return matrix


def manifest(folder, rows):
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("case", "image", "label", "stack", "phase"), *rows])
    (folder / "labels.json").write_text('{"1": "LV myocardium", "2": "LV blood pool", "3": "RV blood pool"}')
    return folder / "manifest.csv"


def one_a_slice(folder, order, **wishes):
    image, label = arrays()
    folder.mkdir()
    rows = []
    for z in order:
        one = save(folder / f"i{z}.nii.gz", image[:, :, z : z + 1], place(z), **wishes)
        drawn = save(folder / f"l{z}.nii.gz", label[:, :, z : z + 1], place(z), **wishes)
        rows.append(("one", one, drawn, f"slice{z}", "ED:1" if z == 2 else ""))
    return read(manifest(folder, rows))


def read(path):
    cohort = open_cohort(path, HEART)
    return read_case(cohort.cases[0], HEART, cohort.notes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    image, label = arrays()
    names = save(folder / "i.nii.gz", image, affine()), save(folder / "l.nii.gz", label, affine())
    return read(manifest(folder, [("one", *names, "", "ED:1")]))


def assert_same(case, other):
    (ours,), (theirs,) = case.stacks, other.stacks
    assert ours.grid.shape == theirs.grid.shape
    np.testing.assert_allclose(ours.grid.affine.matrix, theirs.grid.affine.matrix, atol=1e-4)
    np.testing.assert_allclose(ours.grid.times, theirs.grid.times)
    np.testing.assert_array_equal(ours.intensity_range, theirs.intensity_range)
    assert case.phases == other.phases
    by_place = {(piece.position, piece.frame): piece for piece in case.slices}
    assert len(by_place) == len(other.slices)
    for piece in other.slices:
        found = by_place[piece.position, piece.frame]
        np.testing.assert_array_equal(found.image, piece.image)
        np.testing.assert_array_equal(found.label, piece.label)


@pytest.mark.parametrize("order", [range(6), [5, 2, 0, 3, 1, 4], [3, 4, 5, 0, 1, 2]])
def test_a_file_a_slice_is_the_whole_file(whole, tmp_path, order):
    assert_same(one_a_slice(tmp_path / "slices", order), whole)


def test_two_files_that_interleave(whole, tmp_path):
    image, label = arrays()
    rows = []
    for start in (1, 0):
        matrix = place(start)
        matrix[:3, 2] *= 2
        one = save(tmp_path / f"i{start}.nii.gz", image[:, :, start::2], matrix)
        drawn = save(tmp_path / f"l{start}.nii.gz", label[:, :, start::2], matrix)
        rows.append(("one", one, drawn, f"part{start}", "ED:1"))
    assert_same(read(manifest(tmp_path, rows)), whole)


def test_a_gap_and_a_blank_slice_are_not_measured(whole, tmp_path):
    image, _ = arrays()
    image[:, :, 4] = 0
    rows = [
        ("one", save(tmp_path / f"i{z}.nii.gz", image[:, :, z : z + 1], place(z)), "", f"s{z}", "")
        for z in (0, 1, 3, 4, 5)
    ]
    case = read(manifest(tmp_path, rows))
    (stack,), (other,) = case.stacks, whole.stacks
    np.testing.assert_allclose(stack.grid.affine.matrix, other.grid.affine.matrix, atol=1e-4)
    seen = {stack.arrangement.undo(np.arange(6)[None, None])[0, 0, piece.position] for piece in case.slices}
    assert seen == {0, 1, 3, 5}


def test_slices_of_which_some_are_not_labelled(tmp_path):
    image, label = arrays()
    rows = []
    for z in range(6):
        one = save(tmp_path / f"i{z}.nii.gz", image[:, :, z : z + 1], place(z))
        drawn = save(tmp_path / f"l{z}.nii.gz", label[:, :, z : z + 1], place(z)) if z != 3 else ""
        rows.append(("one", one, drawn, f"s{z}", ""))
    case = read(manifest(tmp_path, rows))
    assert {len(np.unique(piece.label)) for piece in case.slices} == {1, 4}
    unknown = {piece.position for piece in case.slices if (piece.label == UNKNOWN).all()}
    # A slice whose file shows nothing is background, as in one file for all; one without a file is unknown.
    assert len(unknown) == 1


def test_slices_without_a_place_are_refused(tmp_path):
    with pytest.raises(BadFileError, match="gives no position in the patient"):
        one_a_slice(tmp_path / "slices", range(6), oriented=False)


def test_slices_that_are_no_even_stack_are_refused(tmp_path):
    image, _ = arrays()
    rows = [
        ("one", save(tmp_path / f"i{i}.nii.gz", image[:, :, i : i + 1], place(z)), "", f"s{i}", "")
        for i, z in enumerate((0, 1, 2.4, 3.1))
    ]
    with pytest.raises(BadFileError, match="no even stack"):
        read(manifest(tmp_path, rows))


def test_stacks_at_the_same_place_are_said_to_be_one_contrast(tmp_path):
    image, _ = arrays()
    for name in ("t1", "t2"):
        save(tmp_path / f"{name}.nii", image if name == "t1" else 1000 - image, affine())
    manifest(tmp_path, [("a", f"{name}.nii", "", name, "") for name in ("t1", "t2")])
    notes = {}
    case = read_case(open_cohort(tmp_path, HEART).cases[0], HEART, notes)
    assert [stack.name for stack in case.stacks] == ["t1", "t2"]
    assert "the stacks t1 and t2 show slices at the same place and time" in notes["same_place"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_planes_that_cross_stay_apart_and_most_slices_come_first(tmp_path, order):
    image, _ = arrays()
    turned = affine()[:, [0, 2, 1, 3]] @ np.diag([1, 1.5 / STEP, STEP / 1.5, 1])
    rows = [
        ("one", save(tmp_path / "sa.nii.gz", image, affine()), "", "sa", ""),
        ("one", save(tmp_path / "la.nii.gz", image[:, :, :1], turned), "", "la", ""),
    ]
    table = manifest(tmp_path, [rows[k] for k in order])
    assert [stack.name for stack in read(table).stacks] == ["sa", "la"]


def test_even_places():
    assert even_places(np.array([0.0, 8.0, 16.1, 32.0])) == [0, 1, 2, 4]
    assert even_places(np.array([0.0, 8.0, 20.0])) is None
    assert even_places(np.array([0.0, 1.0, 90.0])) is None
