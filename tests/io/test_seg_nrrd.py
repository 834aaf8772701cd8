"""Segmentations for 3D Slicer: the same voxels at the same places, with names and colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.geometry import Affine, Grid
from nisf.io.seg_nrrd import NrrdFiles, write_seg_nrrd
from nisf.subject.rendering import Rendering

HEART = load_anatomy("cardiac-sax")


def label(seed: int = 0) -> np.ndarray:
    out = np.random.default_rng(seed).integers(0, 4, (6, 5, 4)).astype(np.uint8)
    out[3:][out[3:] == 2] = 0
    return out


def affine(seed: int) -> Affine:
    draw = np.random.default_rng(seed)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    return Affine.from_axes(turn, draw.uniform(0.5, 10, 3), draw.normal(size=3) * 100)


@pytest.mark.parametrize("seed", range(12))
def test_voxels_and_places_come_back(tmp_path, seed):
    pytest.importorskip("SimpleITK")
    from nisf.io.readers.nifti import read_numbers

    path = tmp_path / "x_ED.seg.nrrd"
    write_seg_nrrd(path, label(seed), affine(seed), HEART)
    numbers, header = read_numbers(path)
    np.testing.assert_array_equal(numbers[..., 0], label(seed))
    np.testing.assert_allclose(header.affine.matrix, affine(seed).matrix, atol=1e-9)
    assert header.oriented


def test_names_colours_and_codes(tmp_path):
    write_seg_nrrd(tmp_path / "x.seg.nrrd", label(), affine(0), HEART)
    text = (tmp_path / "x.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    entries = dict(line.split(":=", 1) for line in text.splitlines() if ":=" in line)
    assert [entries[f"Segment{n}_Name"] for n in range(3)] == list(HEART.labels[1:])
    assert [entries[f"Segment{n}_LabelValue"] for n in range(3)] == ["1", "2", "3"]
    red, green, blue = (float(part) for part in entries["Segment0_Color"].split())
    assert (red, green, blue) == pytest.approx((0xD1 / 255, 0x49 / 255, 0x5B / 255), abs=1e-5)
    assert entries["Segment1_Extent"] == "0 2 0 4 0 3"
    assert "SCT^87878005^Left ventricle" in entries["Segment0_Tags"]


def test_a_file_for_each_phase(tmp_path, toy_fitted):
    grid = Grid((6, 5, 4), affine(0), np.arange(2) / 2)
    labels = np.stack([label(0), label(1)], axis=-1)
    rendering = Rendering(grid, np.zeros((6, 5, 4, 2, 1), np.float32), labels)
    subject = replace(toy_fitted, name="a", prior=replace(toy_fitted.prior, anatomy=HEART))
    files = NrrdFiles("auto", {"ED": 0.0, "ES": 0.5}).write(tmp_path, subject, rendering)
    assert [path.name for path in files] == ["a_ED.seg.nrrd", "a_ES.seg.nrrd"]
    assert all(path.is_file() for path in files)
