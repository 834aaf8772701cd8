"""Read images in formats other than single-file NIfTI with SimpleITK; needs ``nisf[itk]``.

The size declared by a header is compared with that of the files before SimpleITK allocates anything. It runs
in its own process (`nisf.io.readers.itk_process`), because some damaged files crash it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.geometry import LPS_RAS, Affine
from nisf.data.wording import mm, sizes
from nisf.errors import BadFileError
from nisf.io.limits import MAX_VOXELS
from nisf.io.readers.header import (
    LARGEST_MM,
    SMALLEST_MM,
    Header,
    check_is_file,
    is_nifti_name,
    told_frame_ms,
)
from nisf.io.readers.inflate import truncated
from nisf.io.readers.itk_process import itk_information, itk_voxels

ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr")
"""Extensions of these formats; a pair ``.hdr`` and ``.img`` is named by its header."""

_MOST_HEADER = 1 << 20
_MOST_FIELD, _MOST_TEXT = 1000, 1 << 16
"""Maximum length of a header entry, and of one that programs add for themselves."""
_DEFLATE, _TEXT = 1032, 8
"""Maximum bytes of voxels per byte of a compressed file, and of one with numbers as text."""
_LACKS = dict.fromkeys((".nrrd", ".nhdr"), "it names no space") | dict.fromkeys(
    (".mha", ".mhd"), "it has no TransformMatrix"
)
_TIME_UNITS_MS = {"us": 1e-3, "ms": 1.0, "msec": 1.0, "s": 1e3, "sec": 1e3}
_PACKED = {"true", "gzip", "gz", "bzip2", "bz2"}


def is_itk_name(path: Path) -> bool:
    """Whether the name is that of a format read here."""
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


def is_image_name(path: Path) -> bool:
    """Whether the name is that of a readable image, NIfTI or another format."""
    return is_nifti_name(path) or is_itk_name(path)


def files_of(path: Path) -> list[Path]:
    """The files of an image: itself, and the file with its voxels if that is separate."""
    if not is_itk_name(path):
        return [path]
    try:
        files, _ = _data_files(path, text_fields(path))
    except (OSError, BadFileError):
        return [path]  # the reader will report what is wrong
    return list(dict.fromkeys([path, *files]))


def read_itk_header(path: str | Path) -> Header:
    """Read the header of an image, converted from LPS to RAS+, without its voxels.

    Raises:
        BadFileError: SimpleITK is missing, the header is impossible, or voxels are missing.
    """
    path = Path(path)
    check_is_file(path)
    fields = text_fields(path)
    files, packing = _data_files(path, fields)
    said = itk_information(path)
    size, spacing = tuple(said["size"]), tuple(said["spacing"])
    if said["dtype"] is None or said["components"] != 1:
        raise BadFileError(
            f"{path}: {said['components']} numbers or a complex one in a voxel; convert it to one number per "
            "voxel, a file per channel"
        )
    dtype = np.dtype(said["dtype"])
    while len(size) > 2 and size[-1] == 1:
        size = size[:-1]  # trailing axes of length 1 have no meaning
    if len(size) > 4 or math.prod(size) > MAX_VOXELS:
        raise BadFileError(
            f"{path}: its size is {sizes(size)}; only 2D, 3D and 4D (x, y, z, time) of at most {MAX_VOXELS} "
            "voxels are read; crop it, or write one file per channel"
        )
    held = sum(file.stat().st_size for file in files) * packing
    declared = math.prod(size) * dtype.itemsize
    if declared > held:
        raise truncated(path, declared, held)
    x, y, z, t = (*size, 1, 1)[:4]
    affine = _affine(path, spacing, said["origin"], said["direction"])
    return Header(
        path=path,
        shape=(x, y, z, t),
        affine=affine,
        zooms=affine.spacing,
        oriented=_oriented(path, fields),
        file_spacing=affine.spacing,
        frame_ms=told_frame_ms(spacing[3], _time_unit_ms(fields)) if t > 1 else None,
        dtype=dtype,
        slope=1.0,
        intercept=0.0,
        offset=0,
        lacks=_LACKS.get(path.suffix.lower(), "its form codes are 0"),
    )


def read_itk_voxels(header: Header) -> np.ndarray:
    """The voxels (x, y, z, t) of an image, first axis fastest, scaled as its header says.

    Raises:
        BadFileError: they cannot be read.
    """
    return itk_voxels(header.path, header.shape, header.dtype)


def text_fields(path: Path) -> dict[str, str]:
    """The entries of a text header; for a pair's binary header, whether a form code is set."""
    with path.open("rb") as file:
        start = file.read(_MOST_HEADER)
    if path.suffix.lower() == ".hdr":
        if len(start) < 348 or start[344:347] != b"ni1":
            raise BadFileError(f"{path}: not the header of a NIfTI pair; convert it to .nii.gz")
        return {"forms": "set"} if any(start[252:256]) else {}
    nrrd = start.startswith(b"NRRD")
    if nrrd != (path.suffix.lower() in (".nrrd", ".nhdr")):
        raise BadFileError(f"{path}: its content is of another format than its name says; rename it")
    found: dict[str, str] = {}
    for line in start.splitlines():
        key, sign, value = line.decode("latin-1").partition(":" if nrrd else "=")
        if not line.strip() and nrrd:
            break
        if len(line) > (_MOST_TEXT if b":=" in line else _MOST_FIELD):
            # ITK copies unreadable lines into a message of fixed size, and crashes.
            raise BadFileError(f"{path}: a line of its header has {len(line)} characters; write it again")
        if sign:
            found[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            break
    return found


def _data_files(path: Path, fields: dict[str, str]) -> tuple[list[Path], int]:
    """The files that hold the voxels, and the maximum number of voxel bytes per byte of them."""
    if path.suffix.lower() == ".hdr":
        pair = [path.with_suffix(ending) for ending in (".img", ".IMG", ".img.gz")]
        found = [file for file in pair if file.is_file()][:1]
        if not found:
            raise BadFileError(f"{path}: {path.stem}.img is not beside it; copy both")
        return found, _DEFLATE if found[0].suffix == ".gz" else 1
    named = fields.get("elementdatafile") or fields.get("data file") or fields.get("datafile") or "local"
    packed = {fields.get("compresseddata", "").lower(), fields.get("encoding", "").lower()} & _PACKED
    text = fields.get("encoding", "").lower() in ("ascii", "text", "txt")
    text = text or fields.get("binarydata", "true").lower() == "false"
    ratio = _DEFLATE if packed else _TEXT if text else 1
    if named.lower() == "local":
        return [path], ratio
    if named.lower().startswith("list") or "%" in named:
        raise BadFileError(f"{path}: its voxels are in several files; convert it to .nii.gz")
    file = path.parent / named
    if Path(named).is_absolute() or ".." in Path(named).parts or not file.is_file():
        raise BadFileError(f"{path}: its voxels, {named}, are not beside it; copy both files into one folder")
    return [file], ratio


def _oriented(path: Path, fields: dict[str, str]) -> bool:
    """Whether the header gives the orientation in the patient."""
    if path.suffix.lower() == ".hdr":
        return "forms" in fields
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        # ITK writes images with time in an unnamed space of four dimensions, which is LPS.
        named = "space" in fields or fields.get("space dimension") == "4"
        return "space directions" in fields and named
    return any(name in fields for name in ("transformmatrix", "rotation", "orientation"))


def _time_unit_ms(fields: dict[str, str]) -> float | None:
    """The unit of the fourth axis, if a NRRD names it."""
    units = fields.get("space units", "").replace('"', " ").split()
    return _TIME_UNITS_MS.get(units[3]) if len(units) == 4 else None


def _affine(path: Path, spacing: Any, origin: Any, direction: Any) -> Affine:
    """Voxel to world, RAS+, from SimpleITK's geometry; a flat image gets a third axis."""
    count = len(spacing)
    turn, steps, start = np.eye(3), np.ones(3), np.zeros(3)
    least = min(count, 3)
    turn[:least, :least] = np.array(direction, dtype=np.float64).reshape(count, count)[:least, :least]
    if count == 2:
        turn[2, 2] = np.linalg.det(turn[:2, :2])
    steps[:least], start[:least] = spacing[:least], origin[:least]
    if not (np.isfinite(steps).all() and steps.min() >= SMALLEST_MM and steps.max() <= LARGEST_MM):
        raise BadFileError(f"{path}: the voxel size is {mm(steps)}, which is impossible; correct it")
    try:
        return Affine.from_axes(LPS_RAS[:, None] * turn, steps, LPS_RAS * start)
    except ValueError as error:
        raise BadFileError(f"{path}: {error}; correct its directions") from error
