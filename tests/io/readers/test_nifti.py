import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nisf.data.anatomy import load_anatomy
from nisf.errors import NisfError
from nisf.io.readers.nifti import read_header, read_numbers, read_volume
from nisf.io.readers.reading import note_geometry

from .helpers import AFFINE, SHAPE, patch, picture, real_data, write


def refused(path: Path, *words: str) -> None:
    """The message is one sentence with the file and the words."""
    with pytest.raises(NisfError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_reads_what_was_written(tmp_path, suffix, shape, dtype):
    data = picture(*shape, dtype=dtype)
    image, header = read_volume(write(tmp_path / f"a{suffix}", data))
    assert header.shape == (*shape, 1, 1)[:4]
    assert image.shape == (*header.shape, 1)
    assert np.array_equal(image.reshape(shape), data)
    assert image.dtype == (np.float32 if dtype == np.float64 else dtype)
    assert image.flags.writeable
    assert header.oriented
    np.testing.assert_allclose(header.grid.affine.matrix, AFFINE)
    np.testing.assert_allclose(header.grid.times, np.arange(header.shape[3]) / header.shape[3])


def test_big_endian_nifti2_and_scaling(tmp_path):
    image = nib.Nifti1Image(picture(), AFFINE)
    image.header.set_slope_inter(0.5, -10)
    image.to_filename(tmp_path / "scaled.nii.gz")
    expected = nib.load(tmp_path / "scaled.nii.gz").get_fdata()
    np.testing.assert_allclose(read_volume(tmp_path / "scaled.nii.gz")[0][..., 0, 0], expected)

    big = nib.Nifti1Image(picture(), AFFINE, nib.Nifti1Header(endianness=">"))
    big.to_filename(tmp_path / "big.nii")
    assert np.array_equal(read_volume(tmp_path / "big.nii")[0][..., 0, 0], picture())

    nib.Nifti2Image(picture(), AFFINE).to_filename(tmp_path / "two.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "two.nii.gz")[0][..., 0, 0], picture())


def test_gzip_in_several_members_and_plain_file_with_gz_name(tmp_path):
    raw = write(tmp_path / "a.nii", picture()).read_bytes()
    cuts = [raw[:100], raw[100:360], raw[360:]]
    (tmp_path / "members.nii.gz").write_bytes(b"".join(map(gzip.compress, cuts)) + b"\0" * 20)
    (tmp_path / "plain.nii.gz").write_bytes(raw)
    for name in ("members.nii.gz", "plain.nii.gz"):
        assert np.array_equal(read_volume(tmp_path / name)[0][..., 0, 0], picture())


@given(
    turn=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    flip=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    zooms=st.tuples(*[st.floats(0.1, 20)] * 3),
    factor=st.tuples(*[st.sampled_from([1.0, 1.005, 0.5, 1.3])] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
@settings(max_examples=60)
def test_affine_rule(tmp_path_factory, turn, flip, zooms, factor, origin):
    """Directions and origin are always the file's; lengths are the zooms where they differ by over 1 %."""
    axes = Rotation.from_euler("xyz", turn).as_matrix() * flip
    matrix = np.eye(4)
    matrix[:3, :3] = axes * zooms * factor
    matrix[:3, 3] = origin
    path = tmp_path_factory.mktemp("affine") / "a.nii"
    header = read_header(write(path, picture(), matrix, zooms=zooms, codes=(1, 0)))
    wrong = any(f not in (1.0, 1.005) for f in factor)
    expected = axes * zooms if wrong else matrix[:3, :3]
    np.testing.assert_allclose(header.affine.matrix[:3, :3], expected, atol=1e-4)
    np.testing.assert_allclose(header.affine.origin, origin, atol=1e-3)
    assert header.resized == wrong
    assert header.oriented == (not wrong)


def test_qform_is_used_where_there_is_no_sform(tmp_path):
    axes = Rotation.from_euler("xyz", [0.3, -0.2, 1.0]).as_matrix() * [1, 1, -1]
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [1.5, 1.5, 8]
    header = read_header(write(tmp_path / "a.nii", picture(), matrix, codes=(0, 1)))
    np.testing.assert_allclose(header.affine.matrix, matrix, atol=1e-5)
    assert header.oriented
    assert not read_header(write(tmp_path / "b.nii", picture(), matrix, codes=(0, 0))).oriented


@pytest.mark.parametrize(
    ("step", "unit", "frame_ms"),
    [
        (0.03, "sec", 30.0),
        (30.0, "msec", 30.0),
        (30000.0, "usec", 30.0),
        (30.0, "unknown", 30.0),
        (0.03, "unknown", 30.0),
        (0.0, "unknown", None),
        (1.0, "unknown", None),
        (1.0, "sec", None),  # as ITK writes it
        (1.0, "msec", None),
        (0.0, "msec", None),
        (np.nan, "sec", None),
        (-3.0, "sec", None),
        (3.0, "hz", None),
    ],
)
def test_frame_time(tmp_path, step, unit, frame_ms):
    path = patch(write(tmp_path / "a.nii", picture(*SHAPE, 20), unit=unit), "pixdim", step, 4)
    header = read_header(path)
    assert header.frame_ms == (None if frame_ms is None else pytest.approx(frame_ms))
    assert header.cycle_ms == (None if frame_ms is None else pytest.approx(20 * frame_ms))


@pytest.mark.parametrize(("step", "unit", "cycle"), [(40.0, "sec", "800 s"), (3.3, "msec", "0.066 s")])
def test_impossible_cycle_is_unknown_and_noted(tmp_path, step, unit, cycle):
    path = patch(write(tmp_path / "a.nii", picture(*SHAPE, 20), unit=unit), "pixdim", step, 4)
    header = read_header(path)
    assert header.cycle_ms is None
    notes: dict[str, str] = {}
    note_geometry(header, notes, load_anatomy("cardiac-sax"))
    assert f"a cycle of {cycle}" in notes["cycle"]
    assert "unknown" in notes["cycle"]


@pytest.mark.parametrize(
    ("shape", "size_mm", "noted"),
    [
        ((48, 40, 8), (1, 1, 1), True),
        ((48, 40, 9), (1, 1, 1), False),  # may be a block of cubic voxels
        ((48, 40, 8), (1, 1, 1.01), False),
        ((8, 48, 40), (1, 1, 1), True),
    ],
)
def test_default_voxel_size_of_a_flat_stack_is_noted(tmp_path, shape, size_mm, noted):
    header = read_header(write(tmp_path / "a.nii", picture(*shape), np.diag([*size_mm, 1.0])))
    notes: dict[str, str] = {}
    note_geometry(header, notes, load_anatomy("cardiac-sax"))
    assert ("sizeless" in notes) == noted
    if noted:
        assert f"{' x '.join(map(str, shape))} voxels of exactly 1 x 1 x 1 mm" in notes["sizeless"]


def test_default_size_in_the_header_gives_way_to_the_affine_without_the_note(tmp_path):
    path = write(tmp_path / "a.nii", picture(48, 40, 8), np.diag([1.5, 1.5, 8.0, 1.0]))
    for axis in (1, 2, 3):
        patch(path, "pixdim", 1.0, axis)
    header = read_header(path)
    np.testing.assert_allclose(header.zooms, [1.5, 1.5, 8.0])
    assert not header.sizeless


def test_static_image_has_no_cycle(tmp_path):
    assert read_header(write(tmp_path / "a.nii", picture(), unit="sec", step=0.05)).cycle_ms is None


def test_flat_image_without_thickness(tmp_path):
    path = write(tmp_path / "a.nii", picture(6, 5))
    patch(path, "pixdim", 0, 3)
    for row in "xyz":
        patch(path, f"srow_{row}", 0, 2)
    np.testing.assert_allclose(read_header(path).grid.spacing, [1.5, 1.5, 1.0])


def test_wrong_files(tmp_path):
    refused(tmp_path / "none.nii.gz", "no such file", "check the path")
    (tmp_path / "a.png").write_bytes(b"")
    refused(tmp_path / "a.png", "not a .nii or .nii.gz", "convert")
    (tmp_path / "dir.nii").mkdir()
    refused(tmp_path / "dir.nii", "folder")
    for content in (b"", b"hello", b"x" * 1000, gzip.compress(b"y" * 1000)):
        (tmp_path / "text.nii.gz").write_bytes(content)
        refused(tmp_path / "text.nii.gz", "not a single-file NIfTI" if len(content) > 5 else "348 bytes")
    pair = write(tmp_path / "pair.nii", picture())
    refused(patch(pair, "magic", b"ni1"), "not a single-file NIfTI")


def test_truncated_and_corrupt(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.nii.gz", rng.integers(0, 30000, (20, 20, 9)).astype(np.int16))
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 200):
        path.write_bytes(whole[:size])
        refused(path, "truncated", "7552 bytes", "again")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(flipped)
    refused(path, "gzip", "again")
    path.write_bytes(whole[:-8] + b"\0" * 8)
    refused(path, "corrupt gzip", "incorrect data check")
    path.write_bytes(whole[:5])
    refused(path, "truncated", "348 bytes are needed")
    bare = write(tmp_path / "a.nii", picture())
    bare.write_bytes(bare.read_bytes()[:-1])
    refused(bare, "truncated", "532 bytes", "531")


def test_hostile_sizes_are_refused_before_anything_is_allocated(tmp_path):
    path = write(tmp_path / "a.nii", picture())
    patch(path, "dim", [3, 32767, 32767, 32767, 1, 1, 1, 1])
    refused(path, "35181150961663 voxels", "32767 x 32767 x 32767")
    patch(path, "dim", [3, 2000, 1000, 1000, 1, 1, 1, 1])  # fewer than 2^31, but not in this file
    refused(path, "truncated", "4000000352 bytes")
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    refused(packed, "truncated", "4000000352 bytes")
    patch(path, "dim", [3, 6, -5, 3, 1, 1, 1, 1])
    refused(path, "[6, -5, 3]")
    patch(path, "dim", [3, 6, 5, 3, 1, 1, 1, 1])
    for offset in (np.nan, -5.0, 1e30, 3.0):
        refused(patch(path, "vox_offset", offset), "the voxels at byte")


@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=12), st.booleans())
@settings(max_examples=150)
def test_any_broken_header_is_read_or_refused_with_a_sentence(tmp_path_factory, changes, packed):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.nii", picture(*SHAPE, 2))
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[place] = byte
    path = path.with_suffix(".nii.gz") if packed else path
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    try:
        _, header = read_volume(path)
    except NisfError:
        return  # anything else, a warning too, fails the test
    assert np.isfinite(header.grid.points()).all()


@pytest.mark.parametrize("shape", [(4, 4, 3, 1, 2), (4, 4, 3, 2, 2), (4,)])
def test_dimensions(tmp_path, shape):
    path = write(tmp_path / "a.nii", picture(*shape))
    refused(path, f"{len(shape)} dimensions ({' x '.join(map(str, shape))})", "only 2D, 3D and 4D")


@pytest.mark.parametrize("size", [0.0, np.nan, np.inf])
def test_spacing(tmp_path, size):
    path = patch(write(tmp_path / "a.nii", picture()), "pixdim", size, 2)
    refused(path, f"1.5 x {size:g} x 8 mm", "pixdim")


def test_affines_that_are_none(tmp_path):
    path = write(tmp_path / "a.nii", picture())
    refused(patch(path, "srow_y", [1.5, 0, 0, 0]), "singular", "sform")
    refused(patch(path, "srow_y", [0, np.nan, 0, 0]), "not finite")
    refused(patch(path, "srow_y", [0, 0, 0, 0]), "singular")
    patch(path, "sform_code", 0)
    refused(patch(path, "quatern_b", 3.0), "qform")
    with pytest.raises(NisfError):
        read_volume(patch(path, "quatern_b", np.nan))


def test_values(tmp_path):
    data = picture(dtype=np.float32)
    data[0, 0, :2], data[1, 1, 1] = np.nan, np.inf
    image, _ = read_volume(write(tmp_path / "nan.nii.gz", data))
    assert np.count_nonzero(~np.isfinite(image)) == 3
    data[:4] = np.nan
    refused(write(tmp_path / "nan.nii.gz", data), "of 90 voxels are NaN or infinite")
    refused(write(tmp_path / "complex.nii", picture(dtype=np.complex64)), "complex", "convert")
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(write(tmp_path / "rgb.nii", colour), "RGB", "convert")
    refused(patch(write(tmp_path / "type.nii", picture()), "datatype", 77), "data type 77")
    huge = write(tmp_path / "huge.nii", np.linspace(0, 1e300, 90).reshape(SHAPE))
    refused(huge, "89 of 90 voxels")


def test_label_values(tmp_path):
    data = np.zeros(SHAPE, np.float64)
    data[0, 0, 0] = 2
    numbers, _ = read_numbers(write(tmp_path / "a.nii", data))
    assert numbers.dtype.kind == "i"
    assert numbers.max() == 2
    for value in (0.5, np.nan, np.inf, 1e30):
        data[1, 1, 1] = value
        with pytest.raises(NisfError, match="1 label voxels are not whole numbers"):
            read_numbers(write(tmp_path / "a.nii", data))


def test_acdc_takes_the_zooms():
    header = read_header(real_data("acdc") / "patient001" / "patient001_frame01.nii.gz")
    np.testing.assert_allclose(header.grid.spacing, [1.5625, 1.5625, 10.0])
    np.testing.assert_allclose(header.file_spacing, 1.0)
    assert not header.oriented


def test_sunnybrook_keeps_its_affine():
    path = real_data("sunnybrook") / "SC-HF-I-1_sa.nii.gz"
    header = read_header(path)
    np.testing.assert_allclose(header.affine.matrix, nib.load(path).affine, atol=1e-4)
    assert header.oriented
    assert header.cycle_ms == pytest.approx(800.0)
