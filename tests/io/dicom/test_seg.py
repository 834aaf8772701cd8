"""DICOM SEG: what is read back has the same voxels at the same places, and tells no more than it may."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
import highdicom
import pydicom
from readers.helpers import real_data

from nisf.cli import main
from nisf.data.anatomy import load_anatomy
from nisf.errors import BadFileError, BadSettingError
from nisf.io.dicom.seg import Maker, write_dicom_seg
from nisf.io.dicom.study import DicomStudy, identified, studies
from nisf.io.dicom.volume import arrange
from nisf.io.phases import frames_by_name

from .helpers import COLUMNS, DATE, ID, NAME, ROWS, SLICES, enhanced, place, write

HEART = load_anatomy("cardiac-sax")
MAKER = Maker("0.1.0", "abc")
LABEL = np.random.default_rng(0).integers(0, 4, (COLUMNS, ROWS, SLICES)).astype(np.uint8)


def only(path: Path) -> DicomStudy:
    (study,) = studies(path)[0]
    return study


def written(study: DicomStudy, path: Path, label: np.ndarray = LABEL, frame: int = 2, **more) -> Path:
    write_dicom_seg(path, label, study, arrange(study.chosen()), frame, HEART, made_by=MAKER, **more)
    return path


def read_back(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (columns, rows, slices) and the affine, RAS+, by highdicom."""
    found = highdicom.seg.segread(path).get_volume(combine_segments=True)
    array = found.array.transpose(2, 1, 0)
    matrix = found.affine @ np.eye(4)[[2, 1, 0, 3]].T
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


@pytest.mark.parametrize("kind", ["single", "enhanced", "gap"])
def test_voxels_and_places_come_back(tmp_path, kind):
    def gap(data, z, _t):
        return None if z == 1 and kind == "gap" else data

    source = tmp_path / "scan"
    if kind == "enhanced":
        enhanced(source / "one")
    else:
        write(source, gap)
    study = only(source)
    path = written(study, tmp_path / "x_seg.dcm")
    label, affine = read_back(path)
    grid = arrange(study.chosen()).grid
    # highdicom may count the slices from the other end: compare by place.
    flipped = not np.allclose(affine, grid.affine.matrix, atol=1e-4)
    if flipped:
        label = label[:, :, ::-1]
        affine = affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SLICES - 1], [0, 0, 0, 1]]
    np.testing.assert_array_equal(label, LABEL)
    np.testing.assert_allclose(affine, grid.affine.matrix, atol=1e-4)


def frames(data):
    """(segment, z, pixels (x, y), sources) of each frame of a SEG, by pydicom alone."""
    for group, image in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        z = int(np.argmin([np.linalg.norm(origin - place(z)) for z in range(SLICES)]))
        sources = [
            source
            for derivation in group.DerivationImageSequence
            for source in derivation.SourceImageSequence
        ]
        if sources:
            np.testing.assert_array_equal(origin, place(z))
        else:
            np.testing.assert_allclose(origin, place(z), atol=1e-5)
        yield group.SegmentIdentificationSequence[0].ReferencedSegmentNumber, z, image.T, sources


def test_refers_to_the_images_of_its_frame(tmp_path):
    (study,) = identified([only(write(tmp_path / "scan"))])
    arranged = arrange(study.chosen())
    data = pydicom.dcmread(written(study, tmp_path / "x_seg.dcm"))
    for segment, z, pixels, (source,) in frames(data):
        np.testing.assert_array_equal(pixels, LABEL[:, :, z] == segment)
        assert source.ReferencedSOPInstanceUID == arranged.rows[z][2].sop_uid
    listed = {
        item.ReferencedSOPInstanceUID for item in data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert listed == {row[2].sop_uid for row in arranged.rows}
    assert data.StudyInstanceUID == "1.2.3.1"
    assert data.FrameOfReferenceUID == "1.2.3.1.9"
    assert (str(data.PatientName), data.PatientID, data.StudyDate) == (NAME, ID, DATE)
    shared = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert list(shared.PixelSpacing) == [1.25, 1.5]
    assert shared.SpacingBetweenSlices == pytest.approx(8)


def test_a_slice_that_was_not_measured_refers_to_no_image(tmp_path):
    study = only(write(tmp_path / "scan", lambda data, z, _: None if z == 1 else data))
    data = pydicom.dcmread(written(study, tmp_path / "x_seg.dcm"))
    assert {z: len(sources) for _, z, _, sources in frames(data)} == {0: 1, 1: 0, 2: 1, 3: 1}
    assert len(data.SourceImageSequence) == 3


def test_enhanced_files_are_referred_to_by_frame(tmp_path):
    (study,) = identified([only(enhanced(tmp_path / "one"))])
    arranged = arrange(study.chosen())
    data = pydicom.dcmread(written(study, tmp_path / "x_seg.dcm"))
    for _, z, _, (source,) in frames(data):
        assert source.ReferencedFrameNumber == arranged.rows[z][2].frame + 1
    assert len(data.SourceImageSequence) == 1


def test_tells_nobody_who_it_is_unless_asked(tmp_path):
    study = only(write(tmp_path / "scan"))
    first, second = (pydicom.dcmread(written(study, tmp_path / f"{t}.dcm", frame=t)) for t in range(2))
    text = (tmp_path / "0.dcm").read_bytes()
    uids = {one.sop_uid for one in study.chosen().instances} | {"1.2.3.1\0", "1.2.3.1.7", "1.2.3.1.9"}
    for word in ("Muster", "Erika", ID, DATE, "19600229", *uids):
        assert word.encode() not in text, word
    assert (first.PatientID, first.PatientName) == ("scan", "scan")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert first[name].value == second[name].value  # what belongs together stays together
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_names_codes_and_colours(tmp_path):
    data = pydicom.dcmread(written(only(write(tmp_path / "scan")), tmp_path / "x.dcm"))
    assert [segment.SegmentLabel for segment in data.SegmentSequence] == list(HEART.labels[1:])
    for number, segment in enumerate(data.SegmentSequence, start=1):
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == (
            HEART.codes[HEART.labels[number]].value,
            "SCT",
        )
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        colour = highdicom.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        np.testing.assert_allclose(colour, list(bytes.fromhex(HEART.colours[number][1:])), atol=2)
    assert data.SegmentationType == "BINARY"
    assert data.Modality == "SEG"


def test_structures_without_a_code_and_without_a_voxel(tmp_path):
    from dataclasses import replace

    study = only(write(tmp_path / "scan"))
    path = tmp_path / "x.dcm"
    bare = replace(HEART, codes={})
    write_dicom_seg(path, LABEL * 0, study, arrange(study.chosen()), 0, bare, made_by=MAKER)
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in pydicom.dcmread(path).SegmentSequence]
    assert {code.CodingSchemeDesignator for code in types} == {"99NISF"}
    assert len({code.CodeValue for code in types}) == 3
    assert not pydicom.dcmread(path).pixel_array.any()


def test_frames_by_name():
    label = np.zeros((2, 2, 2, 4), dtype=np.uint8)
    label[0, 0, 0], label[1, ..., 1], label[0, 0, :, 3] = 1, 1, 1
    times = np.arange(4) / 4

    def found(wish="auto", phases=None, anatomy=HEART, label=label):
        return frames_by_name("a", label, times[: label.shape[-1]], anatomy, phases or {}, wish)

    assert found() == {"ED": 1, "ES": 0}
    assert found(phases={"ED": 0.0, "ES": 0.74}) == {"ED": 0, "ES": 3}
    assert found("all") == {f"frame0{t}": t for t in range(4)}
    assert found("ES, 2") == {"ES": 0, "frame02": 2}
    assert found(label=label[..., :1]) == {"": 0}
    assert found("2", label=label * 0) == {"frame02": 2}
    still = load_anatomy("hippocampus")
    assert found(anatomy=still) == found("all")
    for wish in ("4", "systole", "", "-1"):
        with pytest.raises(BadSettingError, match=r"give auto, all, or (ED, ES, )?0 to 3"):
            found(wish)
    with pytest.raises(BadFileError, match="is in 0 frames"):
        found(label=label * 0)


def test_refused(tmp_path, capsys, monkeypatch):
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    out = str(tmp_path / "out")
    assert main(["segment", str(tmp_path / "a.nii.gz"), "-o", out, "--dicom-seg", "auto"]) == 2
    assert "a was not read from DICOM images, which a DICOM SEG refers to" in capsys.readouterr().err
    scan = str(write(tmp_path / "scan"))
    assert main(["segment", scan, "-o", out, "--dicom-seg", "auto", "--frames", "9"]) == 2
    assert "leave --frames out" in capsys.readouterr().err
    found = builtins.__import__

    def without(name, *arguments, **options):
        if name.split(".")[0] == "highdicom":
            raise ModuleNotFoundError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["segment", scan, "-o", out, "--dicom-seg", "auto"]) == 2
    assert "pip install 'nisf[dicom-seg]'" in capsys.readouterr().err


@pytest.mark.slow
def test_sunnybrook_seg_lies_on_its_images(tmp_path):
    import nibabel as nib

    archive = real_data("sunnybrook") / "SC-HF-I-1_dicom.zip"
    command = ["segment", str(archive), "-o", str(tmp_path), "--dicom-seg", "auto"]
    assert main(command) == 0
    nifti = nib.load(tmp_path / "SC-HF-I-1_dicom_seg.nii.gz")
    labels = np.asarray(nifti.dataobj)
    sizes = np.count_nonzero(labels == 1, axis=(0, 1, 2))
    for phase, t in (("ED", sizes.argmax()), ("ES", sizes.argmin())):
        label, affine = read_back(tmp_path / f"SC-HF-I-1_dicom_{phase}_seg.dcm")
        if not np.allclose(affine, nifti.affine, atol=1e-3):
            label = label[:, :, ::-1]
            affine = affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, label.shape[2] - 1], [0, 0, 0, 1]]
        np.testing.assert_allclose(affine, nifti.affine, atol=1e-3)
        np.testing.assert_array_equal(label, labels[..., t])
    (tmp_path / "SC-HF-I-1_dicom_ED_seg.dcm").unlink()
    assert main(command) == 0  # done already: made of the subject
    assert (tmp_path / "SC-HF-I-1_dicom_ED_seg.dcm").is_file()
