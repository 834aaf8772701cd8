from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.errors import NisfError
from nisf.io.readers.nifti import read_volume
from nisf.io.writers import (
    FORMATS,
    check_format,
    header_not_copied,
    write_labels_json,
    write_rendering,
    write_volume,
)
from nisf.subject.rendering import Rendering

OBLIQUE = Affine(
    np.array(
        [
            [0.143, 1.002, 6.719, -236.6],
            [-0.474, 0.903, -6.665, 37.7],
            [-1.275, -0.223, 3.23, 108.9],
            [0, 0, 0, 1],
        ]
    )
)


def source(path, frames=4, affine=OBLIQUE):
    data = np.arange(5 * 6 * 3 * frames, dtype=np.int16).reshape(5, 6, 3, frames)
    image = nib.Nifti1Image(data, affine.matrix)
    image.set_qform(affine.matrix, 1)
    image.set_sform(affine.matrix, 4)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*affine.spacing, 75.0))
    image.header["descrip"] = b"from the scanner"
    nib.save(image, path)
    grid = Grid((5, 6, 3), affine).with_frames(frames)
    return Stack("sa", grid, source=path, cycle_ms=300.0)


def test_own_grid_takes_over_the_header(tmp_path):
    stack = source(tmp_path / "in.nii.gz")
    label = np.zeros((5, 6, 3, 4), dtype=np.uint8)
    label[2, 3, 1, 2] = 3
    write_volume(tmp_path / "out.nii.gz", label, stack.grid, stack=stack, own=True)
    before, after = nib.load(tmp_path / "in.nii.gz"), nib.load(tmp_path / "out.nii.gz")
    assert after.shape == before.shape
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_allclose(after.header.get_zooms(), before.header.get_zooms())
    for key in ("qform_code", "sform_code", "xyzt_units", "descrip"):
        assert after.header[key] == before.header[key]
    np.testing.assert_array_equal(np.asarray(after.dataobj), label)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("own", [True, False])
def test_every_format_holds_the_same(tmp_path, name, frames, own):
    """The same voxels, places and times: by our reader, and by SimpleITK, which speaks LPS."""
    sitk = pytest.importorskip("SimpleITK")
    # Without shear, which SimpleITK drops when it reads a NIfTI.
    axes = np.linalg.qr(OBLIQUE.axes)[0]
    stack = source(tmp_path / "in.nii.gz", frames, Affine.from_axes(axes, OBLIQUE.spacing, OBLIQUE.origin))
    grid = stack.grid if own else stack.grid.at_spacing((2.0, 1.0, 4.0))
    draw = np.random.default_rng(2)
    for data in (
        draw.integers(0, 4, (*grid.shape, frames)).astype(np.uint8),
        draw.normal(size=(*grid.shape, frames, 1)).astype(np.float32),
    ):
        path = tmp_path / f"out.{name}"
        write_volume(path, data, grid, stack=stack, own=own)
        voxels, header = read_volume(path)
        expected = data.reshape(*grid.shape, frames)
        np.testing.assert_array_equal(voxels[..., 0], expected)
        corners = np.array([[0, 0, 0], np.array(grid.shape) - 1, [1, 2, 1]], dtype=float)
        np.testing.assert_allclose(header.affine(corners), grid.affine(corners), atol=1e-3)
        assert header.oriented
        assert header.cycle_ms == (None if frames == 1 else pytest.approx(300.0, rel=1e-5))
        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image).T.reshape(expected.shape, order="F")
        np.testing.assert_array_equal(array, expected)
        for corner in corners:
            index = [int(number) for number in corner] + [0] * (image.GetDimension() - 3)
            place = np.array(image.TransformIndexToPhysicalPoint(index))[:3] * [-1, -1, 1]
            np.testing.assert_allclose(place, grid.affine(corner), atol=1e-3)
    made = {"out.hdr", "out.img"} if name == "hdr" else {f"out.{name}"}
    assert {found.name for found in tmp_path.iterdir()} == {"in.nii.gz", *made}


def test_a_header_that_cannot_be_copied_is_not_passed_over(tmp_path):
    stack = source(tmp_path / "in.nii.gz")
    assert header_not_copied(stack, "nii.gz") == ""
    source(tmp_path / "in.nii.gz", affine=Affine(np.diag([2.0, 2.0, 8.0, 1.0])))
    said = header_not_copied(stack, "nii.gz")
    assert said.startswith(f"{tmp_path / 'in.nii.gz'}: is not the scan that was segmented, so its header")
    (tmp_path / "in.nii.gz").unlink()
    assert "is not there" in header_not_copied(stack, "hdr")
    # There is none to copy.
    assert header_not_copied(stack, "nrrd") == ""
    assert header_not_copied(replace(stack, source=tmp_path / "in.nrrd"), "nii.gz") == ""
    assert header_not_copied(replace(stack, source=None), "nii.gz") == ""


def test_header_of_a_nifti_2(tmp_path, caplog):
    """nibabel finds nothing to complain about in the header that is taken over."""
    stack = source(tmp_path / "in.nii.gz")
    image = nib.load(tmp_path / "in.nii.gz")
    nib.save(nib.Nifti2Image(np.asarray(image.dataobj), image.affine), tmp_path / "in.nii.gz")
    write_volume(tmp_path / "out.nii.gz", np.zeros((5, 6, 3, 4), np.uint8), stack.grid, stack=stack, own=True)
    after = nib.load(tmp_path / "out.nii.gz")
    assert isinstance(after, nib.Nifti1Image)
    np.testing.assert_allclose(after.affine, OBLIQUE.matrix, atol=1e-4)
    assert not caplog.records


def test_nrrd_says_its_space(tmp_path):
    grid = Grid((5, 6, 3), OBLIQUE).with_frames(4)
    write_volume(tmp_path / "a.nrrd", np.zeros((5, 6, 3, 4), np.uint8), grid)
    header = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "space: left-posterior-superior-time\n" in header
    assert 'space units: "mm" "mm" "mm" "ms"' in header


def test_another_grid_says_where_it_is(tmp_path):
    stack = source(tmp_path / "in.nii.gz")
    grid = stack.grid.at_spacing((2.0, 1.0, 4.0)).with_frames(10)
    data = np.zeros((*grid.shape, 10), dtype=np.float32)
    write_volume(tmp_path / "fine.nii.gz", data, grid, stack=stack)
    image = nib.load(tmp_path / "fine.nii.gz")
    np.testing.assert_allclose(image.affine, grid.affine.matrix, atol=1e-4)
    np.testing.assert_allclose(image.header.get_zooms(), (2, 1, 4, 30), rtol=1e-5)  # 300 ms over 10 frames
    assert image.header.get_xyzt_units() == ("mm", "msec")


@pytest.mark.parametrize(
    ("times", "step"),
    [([0.3, 0.35, 0.4], 15.0), ([0.5, 0.75], 75.0), ([0.0, 0.1, 0.6], 1.0), ([0.4, 0.1], 1.0)],
)
def test_frames_of_a_part_of_the_cycle_are_as_far_apart_as_they_are(tmp_path, times, step):
    stack = source(tmp_path / "in.nii.gz")
    grid = stack.grid.at_times(times)
    data = np.zeros((*grid.shape, len(times)), dtype=np.uint8)
    write_volume(tmp_path / "part.nii.gz", data, grid, stack=stack)
    assert nib.load(tmp_path / "part.nii.gz").header.get_zooms()[3] == pytest.approx(step)


def test_unscaled_affine_of_the_input_is_kept_on_its_own_grid(tmp_path):
    # As in ACDC: the affine says 1 mm, the zooms 1.5 mm. Viewers show both files alike, right or wrong.
    image = nib.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.diag([-1.0, -1, 1, 1]))
    image.header.set_zooms((1.5, 1.5, 10))
    image.to_filename(tmp_path / "acdc.nii.gz")
    stored = nib.load(tmp_path / "acdc.nii.gz")
    grid = Grid((4, 4, 2), Affine(np.diag([-1.5, -1.5, 10, 1])))
    stack = Stack("sa", grid, oriented=False, source=tmp_path / "acdc.nii.gz")
    write_volume(tmp_path / "seg.nii.gz", np.ones((4, 4, 2, 1), np.uint8), grid, stack=stack, own=True)
    written = nib.load(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(written.affine, stored.affine)
    np.testing.assert_allclose(written.header.get_zooms(), stored.header.get_zooms())
    assert written.shape == (4, 4, 2)


def test_rendering_and_labels(tmp_path):
    grid = Grid((3, 4, 2), OBLIQUE)
    rendering = Rendering(
        grid,
        np.ones((3, 4, 2, 1, 1), np.float32),
        np.ones((3, 4, 2, 1), np.uint8),
        np.full((3, 4, 2, 1, 2), 0.5, np.float32),
    )
    files = write_rendering(tmp_path, "a", rendering, ("background", "LV blood pool"))
    names = {file.name for file in files}
    assert names == {
        "a_seg.nii.gz",
        "a_image.nii.gz",
        "a_probability-background.nii.gz",
        "a_probability-lv-blood-pool.nii.gz",
    }
    assert {path.name for path in tmp_path.iterdir()} == names


def test_labels_json(tmp_path):
    path = tmp_path / "labels.json"
    assert write_labels_json(tmp_path, ("background", "LV blood pool")) == []
    assert '"1": "LV blood pool"' in path.read_text()
    path.write_text('{"1": "LV blood pool"}')  # says the same
    assert write_labels_json(tmp_path, ("background", "LV blood pool")) == []
    assert path.read_text() == '{"1": "LV blood pool"}'
    with pytest.raises(NisfError, match="lists other labels"):
        write_labels_json(tmp_path, ("background", "spleen"))
    assert write_labels_json(tmp_path, ("background", "spleen"), overwrite=True) == ["labels.json"]


def test_wrong_names(tmp_path):
    grid = Grid((1, 1, 1), OBLIQUE)
    with pytest.raises(NisfError, match=r"name the file \.nii\.gz, \.nii"):
        write_volume(tmp_path / "a.vtk", np.zeros((1, 1, 1, 1), np.uint8), grid)
    with pytest.raises(NisfError, match=r"2 channels (need|can only be written as) NIfTI"):
        write_volume(tmp_path / "a.nrrd", np.zeros((1, 1, 1, 1, 2), np.uint8), grid)
    with pytest.raises(NisfError, match="2 channels"):
        check_format("mha", 2)
    with pytest.raises(NisfError, match="not an image format"):
        check_format("vtk")
    (tmp_path / "file").write_text("")
    with pytest.raises(NisfError, match="cannot be written"):
        write_volume(tmp_path / "file" / "a.nii.gz", np.zeros((1, 1, 1, 1), np.uint8), grid)


@pytest.mark.parametrize("name", ["nii.gz", "nii", "hdr"])
def test_frames_are_written_as_nibabel_writes_them(tmp_path, name):
    """Byte for byte: header, order of the voxels, gzip."""
    stack = source(tmp_path / "in.nii.gz")
    data = np.random.default_rng(0).normal(size=(5, 6, 3, 4)).astype(np.float32)
    write_volume(tmp_path / f"ours.{name}", data, stack.grid, stack=stack, own=True)
    written = nib.load(tmp_path / f"ours.{name}")
    kind = nib.Nifti1Pair if name == "hdr" else nib.Nifti1Image
    nib.save(kind(data, written.affine, written.header), tmp_path / f"theirs.{name}")
    for ending in (name, "img") if name == "hdr" else (name,):
        ours, theirs = ((tmp_path / f"{who}.{ending}").read_bytes() for who in ("ours", "theirs"))
        assert ours == theirs
