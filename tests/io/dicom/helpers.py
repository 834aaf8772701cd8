"""Small DICOM files of every kind, made with pydicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

COLUMNS, ROWS, SLICES, FRAMES = 6, 5, 4, 5
ROW = np.array([-0.104592, 0.346381, -0.932245])
COLUMN = np.array([-0.733192, -0.660188, -0.163037])
ROW, COLUMN = ROW / np.linalg.norm(ROW), COLUMN / np.linalg.norm(COLUMN)
NORMAL = np.cross(ROW, COLUMN)
ORIGIN = np.array([236.585, -37.6925, 108.928])
SPACING = (1.5, 1.25)  # between columns, between rows
STEP, RR = 8.0, 800.0
NAME, ID, DATE = "Muster^Erika", "PAT-4711", "20190314"


def pixels(z: int, t: int, columns: int = COLUMNS, rows: int = ROWS) -> np.ndarray:
    """(x, y): no two images have a pixel in common."""
    return (np.arange(columns * rows).reshape(columns, rows) + 1000 * z + 40 * t).astype(np.int16)


def volume(slices: int = SLICES, frames: int = FRAMES) -> np.ndarray:
    """(x, y, z, t) as it must be read."""
    return np.stack([np.stack([pixels(z, t) for t in range(frames)], axis=-1) for z in range(slices)], axis=2)


def affine() -> np.ndarray:
    """RAS+, as it must be read."""
    matrix = np.eye(4)
    columns = (ROW * SPACING[0], COLUMN * SPACING[1], NORMAL * STEP, ORIGIN)
    for axis, column in enumerate(columns):
        matrix[:3, axis] = column * [-1, -1, 1]
    return matrix


def place(z: float) -> list[float]:
    return [float(f"{number:.6f}") for number in ORIGIN + z * STEP * NORMAL]


def empty(uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPInstanceUID = uid
    data.SOPClassUID = MRImageStorage
    data.StudyInstanceUID = "1.2.3.1"
    data.SeriesInstanceUID = "1.2.3.1.7"
    data.FrameOfReferenceUID = "1.2.3.1.9"
    data.PatientName, data.PatientID, data.StudyDate = NAME, ID, DATE
    data.PatientBirthDate, data.AcquisitionDate = "19600229", DATE
    data.Modality, data.SeriesNumber, data.SeriesDescription = "MR", 7, "cine SA"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.Columns, data.Rows = COLUMNS, ROWS
    return data


def instance(z: int, t: int) -> FileDataset:
    data = empty(generate_uid())
    data.InstanceNumber = 1 + z * FRAMES + t
    data.TriggerTime = f"{(t + 0.5) * RR / FRAMES:.4f}"
    data.NominalInterval = int(RR)
    data.ImagePositionPatient = place(z)
    data.ImageOrientationPatient = [float(f"{number:.6f}") for number in (*ROW, *COLUMN)]
    data.PixelSpacing = [SPACING[1], SPACING[0]]
    data.SliceThickness = STEP
    fill(data, pixels(z, t))
    return data


def fill(data: Dataset, image: np.ndarray) -> None:
    data.Columns, data.Rows = image.shape
    data.PixelData = np.ascontiguousarray(image.T).astype("<i2").tobytes()


def save(data: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def write(
    folder: Path,
    change: Callable[[FileDataset, int, int], FileDataset | None] = lambda data, *_: data,
    slices: int = SLICES,
    frames: int = FRAMES,
) -> Path:
    """A short-axis cine in shuffled files without endings; ``change`` may alter or leave out each."""
    order = np.random.default_rng(3).permutation(slices * frames)
    for name, index in enumerate(order):
        z, t = divmod(int(index), frames)
        data = change(instance(z, t), z, t)
        if data is not None:
            save(data, folder / f"IM{name:04d}")
    return folder


def enhanced(path: Path) -> Path:
    """The same cine as one enhanced multi-frame file, frame after frame, slices from the other end."""
    data = empty(generate_uid())
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    places = [(z, t) for t in range(FRAMES) for z in reversed(range(SLICES))]
    data.NumberOfFrames = len(places)
    shared, orientation, measures, scaling = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [float(f"{number:.6f}") for number in (*ROW, *COLUMN)]
    measures.PixelSpacing, measures.SliceThickness = [SPACING[1], SPACING[0]], STEP
    scaling.RescaleSlope, scaling.RescaleIntercept = 2, -10
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([scaling])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for z, t in places:
        group, position, cardiac = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = place(z)
        cardiac.NominalCardiacTriggerDelayTime = (t + 0.5) * RR / FRAMES
        cardiac.RRIntervalTimeNominal = RR
        group.PlanePositionSequence = Sequence([position])
        group.CardiacSynchronizationSequence = Sequence([cardiac])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    stored = b"".join(np.ascontiguousarray(pixels(z, t).T).astype("<i2").tobytes() for z, t in places)
    data.PixelData = stored
    return save(data, path)
