"""The headers of DICOM files: one `Instance` for each image, whether in a file of its own or with others."""

from __future__ import annotations

import io
import logging
import threading
import warnings
import zipfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.errors import BadFileError
from nisf.io.dicom.names import Identifiers
from nisf.io.dicom.sources import Entry, Sources, entries, looks_like_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_VOXELS = 2**31
MAX_RATIO = 1024
"""Of voxels to bytes of compressed pixel data, above which a header is taken as broken."""

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
    "AcquisitionTime AcquisitionNumber InstanceNumber EchoTime SliceThickness SpacingBetweenSlices",
    "TriggerTime NominalCardiacTriggerDelayTime NominalInterval HeartRate TemporalPositionIndex",
    "TemporalPositionIdentifier ImagePositionPatient ImageOrientationPatient SamplesPerPixel NumberOfFrames",
    "Rows Columns PixelSpacing BitsAllocated RescaleSlope RescaleIntercept",
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class Instance:
    """One two-dimensional image.

    Attributes:
        entry: where it is.
        frame: its index in a file with several.
        place: position of the centre of its first pixel in the patient, LPS mm; None if not told.
        axes: directions in which columns and rows are counted, LPS (2, 3).
        spacing: mm between columns, between rows.
        trigger_ms: time since the R wave.
        rr_ms: length of the cycle.
        flaw: why its pixels cannot be read, if that is known from the header.
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
    def normal(self) -> np.ndarray | None:
        """Unit normal of the image, LPS; None without orientation."""
        return None if self.axes is None else np.cross(self.axes[0], self.axes[1])


@dataclass(eq=False)
class Scan:
    """What was found.

    Attributes:
        people: per study, what identifies the person: for the eyes of who asks for it only.
        unreadable: files that look like DICOM and are not.
    """

    instances: list[Instance] = field(default_factory=list)
    identifiers: Identifiers = field(default_factory=Identifiers)
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    unreadable: list[Entry] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def require_pydicom() -> None:
    """Raises BadFileError where the extra is not installed."""
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadFileError("DICOM needs the package pydicom: pip install 'nisf[dicom]'") from error


@contextmanager
def quiet() -> Generator[None]:
    """No warnings of pydicom: they print values of the header, and thus who it is."""
    logger = logging.getLogger("pydicom")
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = was


def has_dicom(root: Path, most: int = 5000) -> bool:
    """Whether one of the first files in a folder or zip, or the file itself, is DICOM. Needs no pydicom."""
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
    """The headers of all DICOM images in a folder, a zip or a file.

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
                values |= {str(value) for name in _IDENTIFYING for value in _several(header.get(name))}
                instances = list(_instances(entry, header, left))
            except Exception:  # pydicom raises nearly everything
                found.unreadable.append(entry)
                continue
            found.instances += instances
            if instances:
                person = {
                    name: str(header.get(tag, ""))
                    for name, tag in (("name", "PatientName"), ("id", "PatientID"), ("date", "StudyDate"))
                }
                found.people.setdefault(instances[0].study_uid, person)
    found.identifiers = Identifiers(values)
    return found


def _header(entry: Entry, start: bytes, sources: Sources) -> tuple[Dataset, int]:
    """The header, and how many bytes of the file are left for the pixels."""
    import pydicom

    if _DEFLATED in start:
        raise ValueError("deflated as a whole, which has no bound")
    tags = " ".join(_TAGS).split()
    file = entry.path.open("rb") if entry.member is None else io.BytesIO(sources.content(entry))
    with file:
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(tags))
        return header, entry.size - file.tell()


def _instances(entry: Entry, header: Dataset, left: int) -> Iterator[Instance]:
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    if not rows or not columns:
        return  # a report, a presentation state: no image
    frames = max(1, int(_number(header, "NumberOfFrames") or 1))
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    flaw = _flaw(header, int(rows), int(columns), frames, left)
    if flaw is not None or len(per_frame) not in (0, frames):
        frames = min(frames, max(1, len(per_frame)))  # what is declared is not to be believed
    for frame in range(frames):
        own = per_frame[frame] if (frame < len(per_frame) and frames > 1) or len(per_frame) == 1 else None
        yield _instance(
            entry, header, [part for part in (own, shared) if part is not None], frame, frames, flaw
        )


def _instance(
    entry: Entry, header: Dataset, groups: list[Dataset], frame: int, frames: int, flaw: str | None
) -> Instance:
    def of(name: str, *sequences: str) -> Any:
        """A value of the frame's or the shared groups, else of the header."""
        for group in groups:
            for sequence in sequences:
                inner = _first(group.get(sequence))
                if inner is not None and inner.get(name) is not None:
                    return inner.get(name)
        return header.get(name)

    def number(name: str, *sequences: str) -> float | None:
        return _float(of(name, *sequences))

    cardiac = "CardiacSynchronizationSequence"
    content = "FrameContentSequence"
    scaling = "PixelValueTransformationSequence"
    measures = "PixelMeasuresSequence"
    spacing = _floats(of("PixelSpacing", measures), 2)
    axes = _floats(of("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    trigger = number("TriggerTime")
    if trigger is None:
        trigger = number("NominalCardiacTriggerDelayTime", cardiac)
    acquired = of("FrameAcquisitionDateTime", content) or header.get("AcquisitionTime")
    index = number("TemporalPositionIndex", content)
    slope = number("RescaleSlope", scaling)
    return Instance(
        entry=entry,
        frame=frame,
        frames_in_file=frames,
        sop_class=str(header.get("SOPClassUID", "")),
        sop_uid=str(header.get("SOPInstanceUID", "")),
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        series_number=_whole(header, "SeriesNumber"),
        description=str(header.get("SeriesDescription") or header.get("ProtocolName") or ""),
        modality=str(header.get("Modality", "")),
        image_type=tuple(str(word) for word in _several(header.get("ImageType"))),
        space_uid=str(header.get("FrameOfReferenceUID", "")),
        columns=int(header.Columns),
        rows=int(header.Rows),
        place=_floats(of("ImagePositionPatient", "PlanePositionSequence"), 3),
        axes=None if axes is None else _unit(axes.reshape(2, 3)),
        # In the file: between rows, then between columns.
        spacing=(1.0, 1.0) if spacing is None else (float(spacing[1]), float(spacing[0])),
        thickness=number("SliceThickness", measures),
        gap=number("SpacingBetweenSlices", measures),
        echo=number("EffectiveEchoTime", "MREchoSequence") or number("EchoTime"),
        slope=1.0 if slope is None or slope == 0 else slope,
        intercept=number("RescaleIntercept", scaling) or 0.0,
        trigger_ms=trigger,
        temporal_index=number("TemporalPositionIdentifier") if index is None else index,
        acquired_s=_seconds(acquired),
        number=float(frame) if frames > 1 else number("InstanceNumber"),
        rr_ms=_rr(number("RRIntervalTimeNominal", cardiac) or number("NominalInterval"), number("HeartRate")),
        colour=(_number(header, "SamplesPerPixel") or 1) > 1,
        flaw=flaw if spacing is None or min(spacing) > 0 else "its pixel spacing is not positive",
    )


def _flaw(header: Dataset, rows: int, columns: int, frames: int, left: int) -> str | None:
    """Why the pixels cannot be what the header declares; nothing is allocated for that."""
    bits = int(_number(header, "BitsAllocated") or 0)
    samples = int(_number(header, "SamplesPerPixel") or 1)
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


def _rr(interval: float | None, rate: float | None) -> float | None:
    for found in (interval, 60_000.0 / rate if rate else None):
        if found is not None and 200.0 <= found <= 3000.0:
            return found
    return None


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _several(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if hasattr(value, "append") else (value,)  # names of persons are iterable too


def _number(header: Dataset, name: str) -> float | None:
    return _float(header.get(name))


def _whole(header: Dataset, name: str) -> int | None:
    found = _number(header, name)
    return None if found is None else int(found)


def _float(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def _floats(value: Any, count: int) -> np.ndarray | None:
    try:
        found = np.array([float(number) for number in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _unit(axes: np.ndarray) -> np.ndarray | None:
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if lengths.min() < 0.5:
        return None
    axes = axes / lengths
    return axes if abs(axes[0] @ axes[1]) < 0.05 else None


def _seconds(value: Any) -> float | None:
    """Seconds since midnight of HHMMSS.ffffff, with or without a date before it."""
    text = str(value or "").split("+")[0].split("-")[0]
    whole, _, rest = text.partition(".")
    whole = whole[-6:] if len(whole) > 6 else whole
    if len(whole) != 6 or not whole.isdigit():
        return None
    return int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:]) + float(f"0.{rest or 0}")
