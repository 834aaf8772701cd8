"""Images in other formats: the same voxels at the same places as in a NIfTI, or a sentence."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("SimpleITK")
import SimpleITK as sitk  # noqa: N813

from nisf.data.anatomy import load_anatomy
from nisf.errors import BadFileError
from nisf.io.readers import open_cohort, read_case
from nisf.io.readers.nifti import read_header, read_volume

HEART = load_anatomy("cardiac-sax")
LPS = np.diag([-1.0, -1.0, 1.0])
ENDINGS = ("mha", "mhd", "nrrd", "nhdr", "hdr")


def written(
    path: Path, array: np.ndarray, turn=LPS, spacing=(1.5, 1.5, 8.0), origin=(0.0, 0.0, 0.0), packed=False
):
    """An image (x, y, z) whose axes point along ``turn`` (RAS+)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing)
    image.SetOrigin((LPS @ np.asarray(origin)).tolist())
    image.SetDirection((LPS @ turn).ravel().tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


def image(shape=(7, 6, 5), dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


@given(
    seed=st.integers(0, 2**31),
    ending=st.sampled_from(ENDINGS),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    packed=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_voxels_and_places_come_back(tmp_path, seed, ending, dtype, packed):
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    if ending == "hdr":
        turn[:, 2] *= np.sign(np.linalg.det(turn)) * draw.choice([-1, 1])
    spacing, origin = draw.uniform(0.5, 10, 3), draw.normal(size=3) * 100
    shape = tuple(int(n) for n in draw.integers(2, 7, 3))
    array = image(shape, dtype)
    path = written(
        tmp_path / f"x.{ending}", array, turn, spacing.tolist(), origin, packed and ending != "hdr"
    )
    voxels, header = read_volume(path)
    np.testing.assert_array_equal(voxels[..., 0, 0], array.astype(voxels.dtype))
    assert header.oriented
    np.testing.assert_allclose(header.affine.spacing, spacing, rtol=1e-5)
    corners = np.array([[0, 0, 0], np.array(shape) - 1])
    expected = corners * spacing @ turn.T + origin
    np.testing.assert_allclose(header.affine(corners), expected, atol=2e-3)


def test_the_same_case_as_nifti(tmp_path):
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    cases = []
    for ending in (*ENDINGS, "nii.gz"):
        folder = tmp_path / ending
        folder.mkdir()
        path = written(folder / f"a.{ending}", image(), turn, origin=(3.0, -4.0, 5.0))
        for root in (path, folder):
            cohort = open_cohort(root, HEART)
            assert [case.name for case in cohort.cases] == ["a"], ending
            cases.append(read_case(cohort.cases[0], HEART))
    for case in cases:
        stack, same = case.stacks[0], cases[-1].stacks[0]
        assert stack.arrangement == same.arrangement
        np.testing.assert_allclose(stack.grid.affine.matrix, same.grid.affine.matrix, atol=1e-4)
        for mine, theirs in zip(case.slices, cases[-1].slices, strict=True):
            np.testing.assert_array_equal(mine.image, theirs.image)


def test_manifest_and_frames(tmp_path):
    stacked = sitk.JoinSeries([sitk.GetImageFromArray(image().T + t) for t in range(3)])
    sitk.WriteImage(stacked, str(tmp_path / "cine.nrrd"))
    assert read_header(tmp_path / "cine.nrrd").oriented
    (tmp_path / "list.csv").write_text("case,image\none,cine.nrrd\n")
    case = read_case(open_cohort(tmp_path / "list.csv", HEART).cases[0], HEART)
    assert case.stacks[0].grid.times.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    path = written(tmp_path / "flat.mha", image()[:, :, :1])
    assert read_header(path).shape == (7, 6, 1, 1)


def test_headers_that_do_not_say_how_they_lie(tmp_path):
    bare = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspacings: 1 1 4\n\n"
    (tmp_path / "a.nrrd").write_bytes(bare.encode() + bytes(range(8)))
    header = read_header(tmp_path / "a.nrrd")
    assert not header.oriented
    assert header.affine.spacing.tolist() == [1, 1, 4]


def test_refused(tmp_path, monkeypatch):
    huge = "NRRD0004\ntype: short\ndimension: 3\nsizes: {} {} 100\nencoding: {}\nendian: little\n"
    huge += "spacings: 1 1 1\n\nab"
    for size, encoding, reason in (
        (1000, "raw", "truncated"),
        (1000, "gzip", "truncated"),
        (9999, "raw", "at most"),
    ):
        (tmp_path / "a.nrrd").write_text(huge.format(size, size, encoding))
        with pytest.raises(BadFileError, match=reason):
            read_header(tmp_path / "a.nrrd")
    written(tmp_path / "b.mhd", image())
    (tmp_path / "b.raw").write_bytes((tmp_path / "b.raw").read_bytes()[:-3])
    with pytest.raises(BadFileError, match="truncated"):
        read_header(tmp_path / "b.mhd")
    (tmp_path / "b.raw").unlink()
    with pytest.raises(BadFileError, match=r"its voxels, b.raw, are not beside it"):
        read_header(tmp_path / "b.mhd")
    (tmp_path / "c.mha").write_text("nothing of the kind")
    with pytest.raises(BadFileError, match="SimpleITK cannot read it"):
        read_header(tmp_path / "c.mha")
    (tmp_path / "d.hdr").write_bytes(bytes(348))
    with pytest.raises(BadFileError, match="not the header of a NIfTI pair"):
        read_header(tmp_path / "d.hdr")
    vector = sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "e.mha"))
    with pytest.raises(BadFileError, match="3 numbers"):
        read_header(tmp_path / "e.mha")
    written(tmp_path / "f.mha", image())
    found = builtins.__import__

    def without(name, *arguments, **options):
        if name == "SimpleITK":
            raise ModuleNotFoundError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadFileError, match=r"pip install 'nisf\[itk\]'"):
        read_header(tmp_path / "f.mha")
