"""Read the voxels of one image file safely: with bounded memory and one-sentence errors.

The bytes are read by `inflate`, so that a file can never make us allocate or unpack more than it holds; the
header is read by `nisf.io.readers.header`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nisf.data.scratch import STEP, by_frame, let_go, room
from nisf.errors import BadFileError
from nisf.io.readers.header import Header, is_nifti_name, stem
from nisf.io.readers.header import read_header as read_nifti_header
from nisf.io.readers.inflate import truncated, unpacked
from nisf.io.readers.itk import is_image_name, is_itk_name, read_itk_header, read_itk_voxels

__all__ = [
    "Header",
    "is_image_name",
    "is_nifti_name",
    "read_header",
    "read_numbers",
    "read_volume",
    "stem",
]

WHOLE = 1e-3
"""Maximum deviation of a label from an integer: writers that scale are not exact."""


def read_header(path: str | Path) -> Header:
    """Read the header of a NIfTI or of an image in another format; errors as in the two readers."""
    path = Path(path)
    return read_itk_header(path) if is_itk_name(path) else read_nifti_header(path)


def read_volume(path: str | Path) -> tuple[np.ndarray, Header]:
    """Read one image: intensities (x, y, z, t, 1) and the header, whose `grid` gives the geometry.

    Numbers keep the file's type, except that scaled numbers (slope, intercept) and 8-byte numbers become
    float32. Some may be NaN or infinite; `nisf.io.readers.measured` determines what was measured.

    Raises:
        BadFileError: see `read_header`; truncated or corrupt data; more than half of the voxels not finite.
    """
    header = read_header(path)
    image = _scaled(header, _stored(header))
    if image.dtype.kind == "f":
        bad = int(image.size - sum(np.count_nonzero(np.isfinite(frame)) for _, frame in by_frame(image)))
        if bad > image.size / 2:
            raise BadFileError(
                f"{path}: {bad} of {image.size} voxels are NaN or infinite; check how the file was written"
            )
    return image[..., None], header


def read_numbers(path: str | Path) -> tuple[np.ndarray, Header]:
    """Read one label file: its integers (x, y, z, t), of any integer type, and the header.

    Raises:
        BadFileError: see `read_header`; truncated or corrupt data; values that are not integers.
    """
    header = read_header(path)
    numbers = _stored(header)
    if (header.slope, header.intercept) != (1.0, 0.0):
        with np.errstate(over="ignore", invalid="ignore"):  # such values are reported below
            numbers = numbers * header.slope + header.intercept
    if numbers.dtype.kind == "f":
        whole = np.round(np.nan_to_num(numbers, nan=0.5, posinf=0.5, neginf=0.5))
        with np.errstate(invalid="ignore"):
            odd = numbers[~(np.abs(numbers - whole) <= WHOLE) | (np.abs(whole) > 2**31)]
        if odd.size:
            raise BadFileError(
                f"{path}: {odd.size} label voxels are not whole numbers (e.g. {odd[0]:g}); "
                "resample labels with nearest neighbour"
            )
        numbers = whole.astype(np.int32)
    return numbers, header


def _stored(header: Header) -> np.ndarray:
    """The stored numbers (x, y, z, t), native byte order, first axis fastest, writable."""
    if is_itk_name(header.path):
        return read_itk_voxels(header)
    nbytes = math.prod(header.shape) * header.dtype.itemsize
    try:
        buffer = room((header.offset + nbytes,), np.uint8)  # untouched pages take no memory
    except MemoryError as error:
        raise BadFileError(
            f"{header.path}: its {nbytes} bytes do not fit into memory; crop the image"
        ) from error
    filled = resident = 0
    for piece in unpacked(header.path, limit=buffer.size):
        buffer[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled, resident = filled + len(piece), resident + len(piece)
        if resident > STEP:
            let_go(buffer)
            resident = 0
    let_go(buffer)
    if filled < buffer.size:
        raise truncated(header.path, buffer.size, filled)
    voxels = np.frombuffer(buffer.data, header.dtype, offset=header.offset).reshape(header.shape, order="F")
    if header.dtype.isnative:
        return voxels
    return _by_frames(voxels, header.dtype.newbyteorder("="), lambda frame: frame)


def _by_frames(
    voxels: np.ndarray, dtype: np.dtype | type, work: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Apply a function to each frame, into a new array."""
    out = room(voxels.shape, dtype)
    for t, frame in by_frame(voxels):
        out[..., t] = work(frame)
        let_go(out)
    return out


def _scaled(header: Header, voxels: np.ndarray) -> np.ndarray:
    scaled = (header.slope, header.intercept) != (1.0, 0.0)
    if not scaled and voxels.dtype.itemsize < 8:
        return voxels
    with np.errstate(over="ignore", invalid="ignore"):  # the caller counts infinities
        if not scaled:
            return _by_frames(voxels, np.float32, lambda frame: frame)
        slope = np.float64(header.slope)
        return _by_frames(voxels, np.float32, lambda frame: frame * slope + header.intercept)
