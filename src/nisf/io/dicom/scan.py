"""Read the headers of DICOM files: one `Instance` per image, in single-frame or multi-frame files."""

from __future__ import annotations

import io
import logging
import threading
import warnings
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.errors import BadFileError
from nisf.io.dicom.names import Identifiers
from nisf.io.dicom.sources import Entry, Sources, entries, looks_like_dicom
from nisf.io.dicom.values import (
    cycle_length,
    directions,
    first_of,
    number,
    number_of,
    numbers,
    seconds,
    several,
    whole_of,
)
from nisf.io.limits import MAX_VOXELS

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_RATIO = 1024
"""Maximum ratio of voxels to bytes of compressed pixel data; above it the header is considered broken."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_QUIET = threading.RLock()
_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "AccessionNumber",
    "StudyID",
)
_TAGS = [
    *_IDENTIFYING,
    "PatientBirthDate SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID StudyDate",
    "SeriesNumber SeriesInstanceUID SeriesDescription ProtocolName Modality ImageType FrameOfReferenceUID",
    "AcquisitionTime AcquisitionNumber InstanceNumber EchoTime",
    "SliceThickness SpacingBetweenSlices SliceLocation",
    "TriggerTime NominalCardiacTriggerDelayTime NominalInterval HeartRate TemporalPositionIndex",
    "TemporalPositionIdentifier ImagePositionPatient ImageOrientationPatient SamplesPerPixel NumberOfFrames",
    "Rows Columns PixelSpacing BitsAllocated BitsStored PixelRepresentation PhotometricInterpretation",
    "RescaleSlope RescaleIntercept PatientSize PatientWeight",
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class Instance:
    """One two-dimensional image.

    Attributes:
        entry: its location.
        frame: its index in a multi-frame file.
        place: position of the centre of its first pixel in the patient, LPS mm; None if unknown.
        axes: directions of increasing column and row index, LPS (2, 3).
        spacing: mm between columns, between rows.
        gap: mm between the centres of adjacent slices, as declared.
        location: position across the slices, as declared, mm from an unknown place.
        trigger_ms: time since the R wave.
        rr_ms: length of the cycle.
        slope: from stored numbers to brightness; negative where the lowest number is shown as white.
        intercept: likewise.
        flaw: why its pixels cannot be read, if the header shows it.
    """

    entry: Entry
    frame: int
    frames_in_file: int
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    series_number: int | None
    description: str
    modality: str
    image_type: tuple[str, ...]
    space_uid: str
    columns: int
    rows: int
    place: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float]
    thickness: float | None
    gap: float | None
    location: float | None
    echo: float | None
    slope: float
    intercept: float
    trigger_ms: float | None
    temporal_index: float | None
    acquired_s: float | None
    number: float | None
    rr_ms: float | None
    colour: bool
    flaw: str | None

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for copies of one image; in some anonymised data, different images share a UID."""
        return self.sop_uid, self.frame, self.trigger_ms, self.temporal_index, self.acquired_s, self.number

    @property
    def normal(self) -> np.ndarray | None:
        """Unit normal of the image, LPS; None without orientation."""
        return None if self.axes is None else np.cross(self.axes[0], self.axes[1])


@dataclass(eq=False)
class Scan:
    """Result of a scan of files.

    Attributes:
        people: identifying data of each study, which is shown on request only.
        bodies: height in cm and weight in kg of each study's patient, if known.
        unreadable: files that look like DICOM but cannot be read.
    """

    instances: list[Instance] = field(default_factory=list)
    identifiers: Identifiers = field(default_factory=Identifiers)
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    bodies: dict[str, dict[str, str]] = field(default_factory=dict)
    unreadable: list[Entry] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def require_pydicom() -> None:
    """Raise BadFileError if pydicom is not installed."""
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadFileError("DICOM needs the package pydicom: pip install 'nisf[dicom]'") from error


@contextmanager
def quiet() -> Generator[None]:
    """Suppress pydicom's warnings, which contain values of the header and thus identifying data."""
    logger = logging.getLogger("pydicom")
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = was


def has_dicom(root: Path, most: int = 5000) -> bool:
    """Whether one of the first files in a folder or zip, or a file, is DICOM; works without pydicom."""
    with Sources() as sources:
        try:
            for count, entry in enumerate(entries(root, {})):
                if looks_like_dicom(sources.start(entry)):
                    return True
                if count >= most:
                    return False
        except (OSError, zipfile.BadZipFile, BadFileError, RuntimeError):
            return False
    return False


def scan(root: Path) -> Scan:
    """Read the headers of all DICOM images in a folder, a zip or a file.

    Raises:
        BadFileError: pydicom is missing; an archive cannot be read.
    """
    require_pydicom()
    found = Scan()
    values: set[str] = set()
    with Sources() as sources, quiet():
        for entry in entries(root, found.notes):
            try:
                start = sources.start(entry)
                if not looks_like_dicom(start):
                    continue
                header, left = _header(entry, start, sources)
                values |= {str(value) for name in _IDENTIFYING for value in several(header.get(name))}
                instances = list(_instances(entry, header, left))
            except Exception:  # pydicom raises many types
                found.unreadable.append(entry)
                continue
            found.instances += instances
            if instances:
                person = {
                    name: str(header.get(tag, ""))
                    for name, tag in (("name", "PatientName"), ("id", "PatientID"), ("date", "StudyDate"))
                }
                found.people.setdefault(instances[0].study_uid, person)
                found.bodies.setdefault(instances[0].study_uid, _body(header))
    found.identifiers = Identifiers(values)
    return found


def _body(header: Dataset) -> dict[str, str]:
    """Height and weight as a case's attributes; scanners write 0 if they are unknown."""
    height, weight = number_of(header, "PatientSize"), number_of(header, "PatientWeight")  # m and kg
    return {"height_cm": f"{100 * height:g}", "weight_kg": f"{weight:g}"} if height and weight else {}


def _header(entry: Entry, start: bytes, sources: Sources) -> tuple[Dataset, int]:
    """The header, and the number of bytes that remain for the pixels."""
    import pydicom

    if _DEFLATED in start:
        raise ValueError("deflated as a whole, whose size has no bound")
    tags = " ".join(_TAGS).split()
    file = entry.path.open("rb") if entry.member is None else io.BytesIO(sources.content(entry))
    with file:
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(tags))
        return header, entry.size - file.tell()


def _instances(entry: Entry, header: Dataset, left: int) -> Iterator[Instance]:
    rows, columns = number_of(header, "Rows"), number_of(header, "Columns")
    if not rows or not columns:
        return  # a report or presentation state, not an image
    frames = max(1, int(number_of(header, "NumberOfFrames") or 1))
    shared = first_of(header.get("SharedFunctionalGroupsSequence"))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    flaw = _flaw(header, int(rows), int(columns), frames, left)
    if flaw is not None or len(per_frame) not in (0, frames):
        frames = min(frames, max(1, len(per_frame)))  # the declared number is not trusted
    for frame in range(frames):
        own = per_frame[frame] if (frame < len(per_frame) and frames > 1) or len(per_frame) == 1 else None
        yield _instance(
            entry, header, [part for part in (own, shared) if part is not None], frame, frames, flaw
        )


# One field per line: splitting it would not help.
def _instance(
    entry: Entry, header: Dataset, groups: list[Dataset], frame: int, frames: int, flaw: str | None
) -> Instance:
    def of(name: str, *sequences: str) -> Any:
        """A value from the frame's or the shared functional groups, else from the header."""
        for group in groups:
            for sequence in sequences:
                inner = first_of(group.get(sequence))
                if inner is not None and inner.get(name) is not None:
                    return inner.get(name)
        return header.get(name)

    def value(name: str, *sequences: str) -> float | None:
        return number(of(name, *sequences))

    cardiac = "CardiacSynchronizationSequence"
    content = "FrameContentSequence"
    scaling = "PixelValueTransformationSequence"
    measures = "PixelMeasuresSequence"
    spacing = numbers(of("PixelSpacing", measures), 2)
    place = numbers(of("ImagePositionPatient", "PlanePositionSequence"), 3)
    axes = numbers(of("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    trigger = value("TriggerTime")
    if trigger is None:
        trigger = value("NominalCardiacTriggerDelayTime", cardiac)
    acquired = of("FrameAcquisitionDateTime", content) or header.get("AcquisitionTime")
    index = value("TemporalPositionIndex", content)
    slope, intercept = _brightness(header, value("RescaleSlope", scaling), value("RescaleIntercept", scaling))
    return Instance(
        entry=entry,
        frame=frame,
        frames_in_file=frames,
        sop_class=str(header.get("SOPClassUID", "")),
        sop_uid=str(header.get("SOPInstanceUID", "")),
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        series_number=whole_of(header, "SeriesNumber"),
        description=str(header.get("SeriesDescription") or header.get("ProtocolName") or ""),
        modality=str(header.get("Modality", "")),
        image_type=tuple(
            map(str, several(of("FrameType", "MRImageFrameTypeSequence") or header.get("ImageType")))
        ),
        space_uid=str(header.get("FrameOfReferenceUID", "")),
        columns=int(header.Columns),
        rows=int(header.Rows),
        place=place,
        axes=None if axes is None else directions(axes.reshape(2, 3)),
        # In the file, the spacing between rows comes first.
        spacing=(1.0, 1.0) if spacing is None else (float(spacing[1]), float(spacing[0])),
        thickness=value("SliceThickness", measures),
        gap=value("SpacingBetweenSlices", measures),
        location=value("SliceLocation"),
        echo=value("EffectiveEchoTime", "MREchoSequence") or value("EchoTime"),
        slope=slope,
        intercept=intercept,
        trigger_ms=trigger,
        temporal_index=value("TemporalPositionIdentifier") if index is None else index,
        acquired_s=seconds(acquired),
        number=float(frame) if frames > 1 else value("InstanceNumber"),
        rr_ms=cycle_length(
            value("RRIntervalTimeNominal", cardiac) or value("NominalInterval"), value("HeartRate")
        ),
        colour=(number_of(header, "SamplesPerPixel") or 1) > 1,
        flaw=flaw or _spacing_flaw(spacing, place),
    )


def _brightness(header: Dataset, slope: float | None, intercept: float | None) -> tuple[float, float]:
    """Slope and intercept from stored numbers to brightness; in MONOCHROME1 the lowest number is white."""
    slope, intercept = slope or 1.0, intercept or 0.0
    if str(header.get("PhotometricInterpretation", "")).strip() != "MONOCHROME1":
        return slope, intercept
    bits = int(number_of(header, "BitsStored") or number_of(header, "BitsAllocated") or 16)
    # The lowest plus the highest number that these bits can store.
    ends = -1 if number_of(header, "PixelRepresentation") else 2 ** min(bits, 64) - 1
    return -slope, intercept + slope * ends


def _spacing_flaw(spacing: np.ndarray | None, place: np.ndarray | None) -> str | None:
    """What is wrong with the spacing of pixels that have a place; others cannot be used anyway."""
    if spacing is None:
        return None if place is None else "its header gives no pixel spacing, so nothing in it has a size"
    return None if min(spacing) > 0 else "its pixel spacing is not positive"


def _flaw(header: Dataset, rows: int, columns: int, frames: int, left: int) -> str | None:
    """Why the pixels cannot be what the header declares; checked without allocating anything."""
    bits = int(number_of(header, "BitsAllocated") or 0)
    samples = int(number_of(header, "SamplesPerPixel") or 1)
    voxels = rows * columns * frames * samples
    declared = f"its header declares {voxels} voxels ({columns} x {rows} x {frames})"
    if voxels > MAX_VOXELS:
        return f"{declared}, more than {MAX_VOXELS}"
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed:
        return f"{declared}, but only {left} bytes follow" if voxels > left * MAX_RATIO else None
    if voxels * bits > max(left, 0) * 8:
        return f"{declared}, {voxels * bits // 8} bytes, but only {max(left, 0)} follow: it is truncated"
    return None
