"""Small NIfTI files and folders of every layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import Case
from nisf.io.readers import open_cohort, read_case

HEART = load_anatomy("cardiac-sax")
LV, MYO, RV = 1, 2, 3

SHAPE = (6, 5, 3)
AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def real_data(name: str) -> Path:
    """A folder of the real data; skips the test where it is missing."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("NISF_DATA", default)) / name
    if not folder.is_dir():
        pytest.skip(f"real data: {folder} is missing (set NISF_DATA to its parent)")
    return folder


def write(
    path: Path,
    data: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    zooms: tuple[float, ...] | None = None,
    step: float | None = None,
    unit: str = "unknown",
    codes: tuple[int, int] = (1, 1),
) -> Path:
    """Write a NIfTI; ``zooms`` and time ``step`` overwrite the header's, ``codes`` are (sform, qform)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    image.header.set_xyzt_units("mm", unit)
    if zooms is not None:
        image.header["pixdim"][1 : 1 + len(zooms)] = zooms
    if step is not None:
        image.header["pixdim"][4] = step
    image.to_filename(path)
    return path


def patch(path: Path, field: str, value: object, index: int | None = None) -> Path:
    """Overwrite one header field of a bare .nii, in place, with no questions asked."""
    header = nib.Nifti1Header(path.read_bytes()[:348], check=False)
    if index is None:
        header[field] = value
    else:
        header[field][index] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    return path


def picture(*shape: int, dtype: type = np.int16) -> np.ndarray:
    """An image of which no two voxels are equal."""
    return np.arange(np.prod(shape or SHAPE)).reshape(shape or SHAPE).astype(dtype)


def heart(big: int = 3, classes: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    """Labels: ``big`` voxels of each class, classes along y, in slice 1."""
    label = np.zeros(SHAPE, dtype=np.uint8)
    for row, number in enumerate(classes):
        label[:big, row, 1] = number
    return label


def acdc_patient(root: Path, name: str = "patient001", ed: int = 1, es: int = 12) -> Path:
    folder = root / name
    for frame, big in ((ed, 4), (es, 2)):
        write(folder / f"{name}_frame{frame:02d}.nii.gz", picture() + frame, np.eye(4), zooms=(1.5, 1.5, 8.0))
        write(folder / f"{name}_frame{frame:02d}_gt.nii.gz", heart(big), np.eye(4), zooms=(1.5, 1.5, 8.0))
    text = f"ED: {ed}\nES: {es}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
    (folder / "Info.cfg").write_text(text)
    return folder


def ukb_subject(root: Path, name: str = "1000001") -> Path:
    folder = root / name
    write(folder / "sa.nii.gz", picture(*SHAPE, 4), step=250.0, unit="msec")
    label = np.stack([heart(4), heart(3), heart(2), heart(3)], axis=-1)
    write(folder / "seg_sa.nii.gz", label)
    write(folder / "la_4ch.nii.gz", picture(6, 5, 1, 4))
    return folder


def mnms_cohort(root: Path) -> Path:
    for code in ("A0S9V9", "B2C3D4"):
        write(root / code / f"{code}_sa.nii.gz", picture(*SHAPE, 5))
        label = np.zeros((*SHAPE, 5), dtype=np.uint8)
        label[..., 1], label[..., 3] = heart(4), heart(2)
        write(root / code / f"{code}_sa_gt.nii.gz", label)
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text(
        ",External code,VendorName,Vendor,Centre,ED,ES\n0,A0S9V9,Siemens,A,1,1,3\n1,B2C3D4,Philips,B,2,1,3\n"
    )
    return root


def nnunet_dataset(root: Path, channels: int = 2) -> Path:
    for name in ("heart_001", "heart_002"):
        for n in range(channels):
            write(root / "imagesTr" / f"{name}_{n:04d}.nii.gz", picture() + n)
        write(root / "labelsTr" / f"{name}.nii.gz", heart())
    (root / "imagesTr" / "._heart_001_0000.nii.gz").write_bytes(b"finder")
    table = {"background": 0, "RV blood pool": 1, "lv myocardium": 2, "LV blood pool": 3}
    names = {str(n): f"channel {n}" for n in range(channels)}
    (root / "dataset.json").write_text(json.dumps({"channel_names": names, "labels": table}))
    return root


def decathlon(root: Path) -> Path:
    write(root / "imagesTr" / "hippocampus_001.nii.gz", picture(dtype=np.uint8))
    write(root / "labelsTr" / "hippocampus_001.nii.gz", heart(classes=(1, 2)))
    training = [
        {"image": f"./imagesTr/{n}hippocampus_001.nii.gz", "label": f"./labelsTr/{n}hippocampus_001.nii.gz"}
        for n in ("", "._")
    ]
    table = {"0": "background", "1": "Anterior", "2": "Posterior"}
    data = {"modality": {"0": "MRI"}, "labels": table, "training": training}
    (root / "dataset.json").write_text(json.dumps(data))
    return root


def pairs_cohort(root: Path) -> Path:
    for name in ("a", "b"):
        write(root / "images" / f"{name}.nii.gz", picture())
        write(root / "labels" / f"{name}.nii.gz", heart(classes=(1, 2)))
    return root


def manifest(root: Path, rows: str, numbers: dict[str, str] | None = None) -> Path:
    path = root / "cohort.csv"
    path.write_text(rows)
    if numbers is not None:
        (root / "labels.json").write_text(json.dumps(numbers))
    return path


def counts(case: Case, frame: int, stack: int = 0) -> dict[int, int]:
    """Number of pixels of each class in a frame."""
    labels = [s.label for s in case.slices if s.frame == frame and s.stack == stack and s.label is not None]
    values, number = np.unique(np.stack(labels), return_counts=True)
    return dict(zip(values.tolist(), number.tolist(), strict=True))


def only_case(path, anatomy: Anatomy = HEART, **options) -> Case:
    cohort = open_cohort(path, anatomy, **options)
    return read_case(cohort.cases[0], anatomy, cohort.notes)
