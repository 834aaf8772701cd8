"""However a scan is stored, the answer in the world is the same, and lies on the file's own grid."""

import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.data.arrangement import Arrangement, arrangements
from nisf.data.geometry import Affine
from nisf.data.stacking import arrangement_of, slice_axis
from nisf.io.readers import read_image
from nisf.io.readers.header import read_header
from nisf.segmentation import segment, write_segmentation

EVERY = list(arrangements())
TURNED = replace(toys.ANATOMY, turn=True)
ONE_WAY = replace(toys.ANATOMY, orientation="RAS", reorder=False)


def scan(seed=99, shape=(24, 24, 6)):
    """A toy scan, oblique in the scanner: array (x, y, z, t) and affine."""
    case = toys.toy_case(seed, toys.toy_grid(shape, axes=toys.rotation(7), centre=(12, -30, 45)))
    return toys.image_of(case)[..., 0].astype(np.float32), case.stacks[0].grid.affine.matrix


def stored(path, array, matrix, arrangement=None, *, units="mm", edit=None):
    """A file of the scan, its array axes in another order and some reversed."""
    arrangement = arrangement or Arrangement()
    affine = arrangement.of_affine(Affine(matrix), array.shape[:3]).matrix
    image = nib.Nifti1Image(np.ascontiguousarray(arrangement.apply(array)), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(units, "msec")
    if edit is not None:
        edit(image.header)
    nib.save(image, path)
    return path


def world_labels(folder, name):
    """Rounded world position of each labelled voxel of a segmentation to its label."""
    image = nib.load(folder / f"{name}_seg.nii.gz")
    label = np.asarray(image.dataobj)
    voxel = np.argwhere(label[..., 0] > 0)
    world = np.round(nib.affines.apply_affine(image.affine, voxel), 2)
    return {tuple(p): int(label[(*v, 0)]) for p, v in zip(world, voxel, strict=True)}


@pytest.fixture(scope="module")
def prior(toy_image_prior):
    return replace(toy_image_prior, anatomy=TURNED)


@pytest.fixture(scope="module")
def expected(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    write_segmentation(segment(stored(folder / "scan.nii.gz", *scan()), prior), folder)
    return world_labels(folder, "scan")


@pytest.mark.parametrize("arrangement", EVERY[::3])
def test_same_answer_in_the_world(prior, expected, tmp_path, arrangement):
    path = stored(tmp_path / "scan.nii.gz", *scan(), arrangement)
    write_segmentation(segment(path, prior), tmp_path)
    assert len(expected) > 300
    assert world_labels(tmp_path, "scan") == expected
    ours, theirs = nib.load(tmp_path / "scan_seg.nii.gz"), nib.load(path)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)


@pytest.mark.parametrize("arrangement", EVERY)
def test_one_arrangement_for_all(tmp_path, arrangement):
    array, matrix = scan(shape=(10, 12, 4))
    plain = read_image(stored(tmp_path / "a.nii", array, matrix), TURNED)
    other = read_image(stored(tmp_path / "b.nii", array, matrix, arrangement), TURNED)
    np.testing.assert_array_equal(toys.image_of(other), toys.image_of(plain))
    np.testing.assert_allclose(
        other.stacks[0].grid.affine.matrix, plain.stacks[0].grid.affine.matrix, atol=1e-3
    )


@pytest.mark.parametrize("codes", ["LAS", "LPS", "PIR", "PSR", "ASL"])
def test_one_way_is_one_way_in_the_world(tmp_path, codes):
    """Isotropic images of an anatomy that is always shown one way: brought there by their affine."""
    array = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)
    image = nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0]))
    image.set_sform(image.affine, 1)
    nib.save(image, tmp_path / "a.nii")
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
    )
    nib.save(turned, tmp_path / "b.nii")
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "b.nii").affine)) == codes
    plain, other = (read_image(tmp_path / name, ONE_WAY) for name in ("a.nii", "b.nii"))
    np.testing.assert_array_equal(toys.image_of(other), toys.image_of(plain))
    np.testing.assert_array_equal(toys.image_of(plain)[..., 0, 0], array)


def test_without_orientation_one_way_is_as_stored_and_told(tmp_path):
    array = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)
    image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.set_sform(image.affine, 0)
    image.set_qform(image.affine, 0)
    nib.save(image, tmp_path / "a.nii")
    notes = {}
    case = read_image(tmp_path / "a.nii", ONE_WAY, notes)
    np.testing.assert_array_equal(toys.image_of(case)[..., 0, 0], array)
    assert "taken to be stored like the training images (RAS)" in notes["as_stored"]


def test_the_slice_axis():
    assert slice_axis((20, 20, 6), Affine.scaling((1.4, 1.4, 8))) == 2
    assert slice_axis((6, 20, 20), Affine.scaling((8, 1.4, 1.4))) == 0
    assert slice_axis((20, 1, 30), Affine.scaling((1.4, 1.4, 1.4))) == 1
    assert slice_axis((20, 20, 1), Affine.scaling((1.0, 1.5, 1.0))) == 2  # of unknown thickness
    assert slice_axis((20, 20, 20), Affine.scaling((1.0, 1.0, 1.1))) is None
    isotropic = arrangement_of((9, 8, 7), Affine.scaling((1, 1, 1)), TURNED, oriented=False)
    assert isotropic.changes_nothing
    as_stored = arrangement_of((6, 20, 20), Affine.scaling((8, 1, 1)), toys.ANATOMY, oriented=True)
    assert as_stored.changes_nothing


def zero_sform(header):
    header["sform_code"] = 1
    for row in "xyz":
        header[f"srow_{row}"] = 0


def qfac_zero(header):
    header["pixdim"][0] = 0


def negative_sizes(header):
    header["pixdim"][1:4] *= -1


AWKWARD = {
    "zero sform": zero_sform,
    "qfac 0": qfac_zero,
    "negative sizes": negative_sizes,
    "sizes that nobody set": lambda header: header["pixdim"].__setitem__(slice(1, 4), 1.0),
    "scl_inter NaN": lambda header: header.__setitem__("scl_inter", np.nan),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_headers_that_other_readers_read(prior, expected, tmp_path, name):
    """Written raw, since nibabel would not; our output is on the same grid."""
    path = stored(tmp_path / "scan.nii", *scan())
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]))
    array = header.structarr.copy()
    AWKWARD[name](array)
    raw[:348] = array.tobytes()
    path.write_bytes(raw)
    write_segmentation(segment(path, prior), tmp_path)
    assert world_labels(tmp_path, "scan") == expected


@pytest.mark.parametrize(("units", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_units_of_length(prior, expected, tmp_path, units, factor):
    array, matrix = scan()
    scaled = matrix.copy()
    scaled[:3] *= factor
    path = stored(tmp_path / "scan.nii.gz", array, scaled, units=units)
    subject = segment(path, prior)
    np.testing.assert_allclose(sorted(subject.stacks[0].grid.spacing), [4, 4, 10], rtol=1e-4)
    write_segmentation(subject, tmp_path)
    found = {tuple(np.round(np.array(p) / factor, 0)): k for p, k in world_labels_raw(tmp_path, factor)}
    # Affines are stored in single precision: a voxel on a border may tip over.
    clean = {tuple(np.round(np.array(p), 0)): k for p, k in expected.items()}
    assert len(set(found.items()) ^ set(clean.items())) < 0.03 * len(clean)


def world_labels_raw(folder, factor):
    image = nib.load(folder / "scan_seg.nii.gz")
    label = np.asarray(image.dataobj)
    voxel = np.argwhere(label[..., 0] > 0)
    world = nib.affines.apply_affine(image.affine, voxel)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, 2]) / factor, 10, rtol=1e-4)
    return [(tuple(p), int(label[(*v, 0)])) for p, v in zip(world, voxel, strict=True)]


def test_names_that_lie_about_compression(prior, expected, tmp_path):
    raw = stored(tmp_path / "a.nii", *scan()).read_bytes()
    for name, content in (("scan.nii.gz", raw), ("scan.nii", gzip.compress(raw))):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        write_segmentation(segment(folder / name, prior), folder)
        assert world_labels(folder, "scan") == expected


def test_axes_of_length_one_at_the_end(tmp_path):
    array, matrix = scan()
    nib.save(nib.Nifti1Image(array[..., :1, None, None], matrix), tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").shape == (24, 24, 6, 1)


def test_a_source_that_changed_is_not_believed(prior, tmp_path):
    """Header and affine are those that were read, not those of what lies there now."""
    path = stored(tmp_path / "scan.nii.gz", *scan())
    subject = segment(path, prior)
    array, matrix = scan()
    moved = matrix.copy()
    moved[:3, 3] += 500
    stored(path, array, moved)
    write_segmentation(subject, tmp_path / "out")
    np.testing.assert_allclose(nib.load(tmp_path / "out" / "scan_seg.nii.gz").affine, matrix, atol=1e-3)
