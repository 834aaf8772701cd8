"""Write segmentations as DICOM SEG, linked to the images that they were made from; needs ``nisf[dicom-seg]``.

highdicom gets template images that we make, one for each slice of the series' grid. The geometry is therefore
the source's, whatever its files look like (enhanced, several series, missing slices). References to the
templates are then replaced by references to the source images.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.anatomy import Anatomy, Code
from nisf.data.geometry import LPS_RAS
from nisf.errors import BadFileError
from nisf.files import replacing
from nisf.io.dicom.scan import Instance, quiet
from nisf.io.dicom.sources import Sources
from nisf.io.dicom.study import DicomStudy
from nisf.io.dicom.volume import Arranged

if TYPE_CHECKING:
    from pydicom import Dataset

SCHEME = "99NISF"
"""Coding scheme for structures without a SNOMED CT code."""

_TEMPLATE = "2.25."  # prefix of the UIDs of our templates, followed by the number of the slice
_WHO = """
    PatientName PatientID PatientBirthDate PatientSex StudyID AccessionNumber StudyDate StudyTime
    ReferringPhysicianName
"""


@dataclass(frozen=True)
class Maker:
    """Provenance of a segmentation.

    Attributes:
        version: version of this package.
        prior: the prior's fingerprint.
    """

    version: str
    prior: str


def require_highdicom() -> None:
    """Raise BadFileError if highdicom is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise BadFileError(
            "DICOM SEG needs the package highdicom: pip install 'nisf[dicom-seg]'", options=["dicom_seg"]
        ) from error


def write_dicom_seg(
    path: str | Path,
    label: np.ndarray,
    study: DicomStudy,
    arranged: Arranged,
    frame: int,
    anatomy: Anatomy,
    *,
    made_by: Maker,
    phase: str = "",
) -> None:
    """Write the structures in one frame of a series as a binary DICOM SEG.

    The patient's name, ID and dates, and the UIDs of study, series and images, are the source's only if
    the study hides nothing (``nisf.io.dicom.study.identified``). Otherwise the study's display name is used,
    and each UID is replaced by a new one that is derived from it, so that references stay consistent.

    Args:
        path: path of the file.
        label: class of each voxel (columns, rows, slices), on the grid of the series.
        study: the study of the series.
        arranged: the series.
        frame: index of the segmented frame.
        anatomy: anatomy of the classes.
        made_by: provenance.
        phase: name of the frame's phase.

    Raises:
        BadFileError: highdicom is missing; the file cannot be written.
        ValueError: the shape of the label differs from that of the series' grid.
    """
    require_highdicom()
    if label.shape != arranged.grid.shape:
        raise ValueError(f"a label of shape {label.shape} on a grid of {arranged.grid.shape}")
    images = [row[frame] for row in arranged.rows]
    with quiet():
        made = _made(label, study, arranged, images, anatomy, made_by)
        made.ContentDescription = f"{phase or 'frame'} {frame} of {len(arranged.grid.times)}"[:64]
        made.SeriesDescription = f"nisf {anatomy.name} {phase}".strip()[:64]
        made.InstanceNumber = frame + 1
        _refer(made, images, study)
        with replacing(path) as temporary:
            made.save_as(temporary)


def _made(
    label: np.ndarray,
    study: DicomStudy,
    arranged: Arranged,
    images: Sequence[Instance | None],
    anatomy: Anatomy,
    made_by: Maker,
) -> Any:
    """The SEG object, with references that still point to the templates."""
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    some = next(one for row in arranged.rows for one in row if one is not None)
    person = _person(study, some)
    return Segmentation(
        source_images=[_template(arranged, z, image, some, person, study) for z, image in enumerate(images)],
        # From (x, y, z) to frames of rows of columns.
        pixel_array=np.ascontiguousarray(label.transpose(2, 1, 0), dtype=np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            _segment(number, name, anatomy, made_by) for number, name in enumerate(anatomy.labels) if number
        ],
        omit_empty_frames=False,
        series_instance_uid=generate_uid(),
        series_number=9000 + min(max(some.series_number or 0, 0), 990_000),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="nisf",
        manufacturer_model_name=anatomy.name[:64],
        software_versions=made_by.version,
        device_serial_number=made_by.prior[:64],
        content_label="SEGMENTATION",
    )


def _template(
    arranged: Arranged,
    z: int,
    image: Instance | None,
    some: Instance,
    person: Dataset,
    study: DicomStudy,
) -> Dataset:
    """The header of a slice, as if it were a file of its own."""
    import pydicom
    from pydicom.uid import MRImageStorage
    from pydicom.valuerep import format_number_as_ds

    data = pydicom.Dataset()
    data.update(person)
    data.StudyInstanceUID = _uid(some.study_uid, study)
    data.FrameOfReferenceUID = _uid(some.space_uid or f"space of {some.series_uid}", study)
    data.SeriesInstanceUID = _uid(some.series_uid, study)
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, f"{_TEMPLATE}{z + 1}"
    data.Modality, data.Rows, data.Columns = some.modality or "MR", some.rows, some.columns
    place = arranged.grid.affine(np.array([0, 0, z])) * LPS_RAS
    if image is not None and image.place is not None:
        place = image.place
    assert some.axes is not None
    data.ImagePositionPatient = [format_number_as_ds(float(number)) for number in place]
    data.ImageOrientationPatient = [format_number_as_ds(float(number)) for number in some.axes.ravel()]
    data.PixelSpacing = [format_number_as_ds(float(number)) for number in reversed(some.spacing)]
    apart = float(arranged.grid.spacing[2])
    data.SliceThickness = format_number_as_ds(some.thickness or apart)
    data.SpacingBetweenSlices = format_number_as_ds(apart)
    return data


def _person(study: DicomStudy, some: Instance) -> Dataset:
    """The patient, from the source's header; if that is hidden, the study's display name."""
    import pydicom

    data = pydicom.Dataset()
    for name in _WHO.split():
        setattr(data, name, "")
    if study.identifiers.hiding:
        data.PatientName = data.PatientID = study.name[:64]
        data.SpecificCharacterSet = "ISO_IR 192"
        return data
    with Sources() as sources:
        header = pydicom.dcmread(io.BytesIO(sources.content(some.entry)), force=True, stop_before_pixels=True)
    data.SpecificCharacterSet = header.get("SpecificCharacterSet") or "ISO_IR 100"
    for name in _WHO.split():
        setattr(data, name, header.get(name) or "")
    if data.PatientSex not in ("M", "F", "O"):
        data.PatientSex = ""
    return data


def _uid(source: str, study: DicomStudy) -> str:
    """The source's UID; if it is hidden or missing, one derived from it that does not reveal it."""
    from pydicom.uid import UID, generate_uid

    if not study.identifiers.hiding and UID(source).is_valid:
        return source
    return generate_uid(entropy_srcs=["nisf", source])


def _segment(number: int, name: str, anatomy: Anatomy, made_by: Maker) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code as Coded

    code, scheme = anatomy.codes.get(name), "SCT"
    if code is None:
        word = re.sub(r"[^a-z0-9]+", "-", name.lower())[:12].strip("-")
        code, scheme = Code(f"{word}-{number}", name[:64]), SCHEME
    red, green, blue = bytes.fromhex(anatomy.colours[number].removeprefix("#"))
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=Coded(code.category[0], "SCT", code.category[1]),
        segmented_property_type=Coded(code.value, scheme, code.meaning),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            "nisf", codes.DCM.ArtificialIntelligence, made_by.version
        ),
        display_color=CIELabColor.from_rgb(red, green, blue),
    )


def _refer(made: Any, images: Sequence[Instance | None], study: DicomStudy) -> None:
    """Replace references to our templates by references to the images that they stand for."""
    import pydicom

    def reference(one: Instance) -> Dataset:
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID = one.sop_class
        item.ReferencedSOPInstanceUID = _uid(one.sop_uid, study)
        return item

    for group in made.PerFrameFunctionalGroupsSequence:
        derivation = deepcopy(group.DerivationImageSequence[0])  # frames of several segments share it
        source = derivation.SourceImageSequence[0]
        one = images[int(source.ReferencedSOPInstanceUID.removeprefix(_TEMPLATE)) - 1]
        if one is None:  # not measured, so not derived from an image
            group.DerivationImageSequence = pydicom.Sequence()
            continue
        source.update(reference(one))
        if one.frames_in_file > 1:
            source.ReferencedFrameNumber = one.frame + 1
        group.DerivationImageSequence = pydicom.Sequence([derivation])
    files = {one.sop_uid: one for one in images if one is not None}
    series: dict[str, list[Dataset]] = {}
    for one in files.values():
        series.setdefault(_uid(one.series_uid, study), []).append(reference(one))
    made.SourceImageSequence = pydicom.Sequence([reference(one) for one in files.values()])
    made.ReferencedSeriesSequence = pydicom.Sequence()
    for uid, references in series.items():
        item = pydicom.Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, pydicom.Sequence(references)
        made.ReferencedSeriesSequence.append(item)
