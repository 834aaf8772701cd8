"""The file of a subject, ``.nisf``: safetensors with a JSON header, read strictly."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np

from nisf.alignment import shift_of
from nisf.correction.file import strokes_of, strokes_to_json
from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.errors import MALFORMED, BadFileError, BadSettingError
from nisf.files import read_tensors, write_tensors
from nisf.io.readers.itk import is_image_name
from nisf.io.stack_json import stack_from_json, stack_to_json
from nisf.prior.prior import Prior
from nisf.prior.subject_record import SubjectRecord
from nisf.subject.subject import Subject

SubjectType = TypeVar("SubjectType")

FORMAT = 3
"""Version of the file. Format 3 names the kind of field, and stores only what that kind has. Formats 1 (a
latent without covariance and breath-holds) and 2 can still be read."""
CHANGED = 4
"""Version of a file with strokes or shifted slices, which readers that do not know them must reject."""


def write_subject(path: str | Path, subject: Subject) -> None:
    """Write a ``.nisf`` file atomically."""
    metadata = {
        "format": CHANGED if subject.strokes or subject.shifts else FORMAT,
        "kind": subject.prior.kind,
        "name": subject.name,
        "prior": {"fingerprint": subject.prior.fingerprint, "folder": subject.prior.source},
        "region": {"pose": subject.region.pose.matrix.tolist(), "half_mm": subject.region.half.tolist()},
        "stacks": [stack_to_json(stack) for stack in subject.stacks],
        "islands": subject.islands,
        "certain": list(subject.certain),
        "enclosed": subject.enclosed,
        "summary": dict(subject.summary),
        **({"strokes": strokes_to_json(subject.strokes)} if subject.strokes else {}),
        **({"shifts": [asdict(shift) for shift in subject.shifts]} if subject.shifts else {}),
        **subject.own_entries(),
    }
    write_tensors(path, subject.own_tensors(), {"nisf": json.dumps(metadata, allow_nan=False)})


def read_record(path: str | Path) -> SubjectRecord:
    """Read a ``.nisf`` file, before its prior makes a subject of it.

    Raises:
        BadFileError: the file is missing, damaged or of another version.
    """
    path = Path(path)
    _refuse_others(path)
    tensors, header = read_tensors(path)
    try:
        data = json.loads(header["nisf"])
        if data["format"] not in (1, 2, FORMAT, CHANGED):
            raise BadFileError(
                f"{path}: format {data['format']!r}, but this nisf reads formats 1 to {CHANGED}; fit it again"
            )
        return SubjectRecord(
            path=path,
            name=data["name"],
            fingerprint=data["prior"]["fingerprint"],
            source=data["prior"]["folder"],
            region=Region(Affine(np.array(data["region"]["pose"])), np.array(data["region"]["half_mm"])),
            stacks=tuple(stack_from_json(entry) for entry in data["stacks"]),
            summary=data["summary"],
            islands="remove" if data.get("islands") == "remove" else "keep",
            certain=tuple(float(least) for least in data.get("certain", ())),
            enclosed=float(data.get("enclosed", 0.0)),
            entries=data,
            tensors=tensors,
            strokes=strokes_of(data.get("strokes", [])),
            shifts=tuple(map(shift_of, data.get("shifts", []))),
        )
    except BadSettingError as error:
        raise BadFileError(f"{path}: {error}") from error
    except MALFORMED as error:
        raise BadFileError(f"{path}: not a subject written by nisf ({error!r})") from error


def _refuse_others(path: Path) -> None:
    """Report what a file is if it is not a subject.

    Raises:
        BadFileError: it is a folder, an image, or something else without the name of a subject.
    """
    wanted = "give a subject's file, NAME.nisf, as written when an image is segmented"
    if path.is_dir():
        raise BadFileError(f"{path}: a folder; {wanted}")
    if path.suffix == ".nisf" or not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":  # follows the header's length in a safetensors file
        what = "an image" if is_image_name(path) else "no subject"
        raise BadFileError(f"{path}: {what}; {wanted}")


def subject_in(record: SubjectRecord, prior: Prior[SubjectType]) -> SubjectType:
    """Make the subject from the contents of its file.

    Raises:
        BadFileError: the file belongs to another prior, or is damaged.
    """
    if record.fingerprint != prior.fingerprint:
        raise BadFileError(
            f"{record.path}: was made with prior {record.fingerprint}, not with the one given "
            f"({prior.fingerprint}); give the prior it was made with"
        )
    try:
        return prior.subject_of(record)
    except BadSettingError as error:
        raise BadFileError(f"{record.path}: {error}") from error
    except MALFORMED as error:
        raise BadFileError(f"{record.path}: not a subject written by nisf ({error!r})") from error
