"""One NIfTI file, safely: header first, voxels in a bounded way, every fault a sentence.

The header is parsed by nibabel; the bytes are read by `inflate`, because a file must never be able to make
us allocate or unpack more than it holds.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.wording import mm
from nisf.errors import BadFileError
from nisf.io.readers.inflate import most_held, truncated, unpacked
from nisf.types import Vector3

MAX_VOXELS = 2**31  # a header that declares more is taken as broken

SIZE_TOLERANCE = 0.01
"""Relative difference of affine column and header zoom above which the zooms win."""

_SUFFIXES = (".nii.gz", ".nii")
_TIME_UNITS_MS = {8: 1000.0, 16: 1.0, 24: 0.001}  # xyzt_units: sec, msec, usec


@dataclass(frozen=True, eq=False)
class Header:
    """What the header of a NIfTI file says, mended by our rules.

    Attributes:
        path: the file.
        shape: voxels along x, y, z and frames (1 for a static image).
        affine: voxel to world, mm; its column lengths are the zooms where the two disagreed.
        zooms: the header's voxel size, mm.
        oriented: whether the affine gives a true position and orientation.
        file_spacing: column lengths of the affine as it is in the file, mm.
        frame_ms: time between frames in ms, or None where the file does not tell.
        dtype: type of the stored numbers, in the file's byte order.
        slope: stored numbers are multiplied by it.
        intercept: and this is added.
        offset: first byte of the voxels.
    """

    path: Path
    shape: tuple[int, int, int, int]
    affine: Affine
    zooms: Vector3
    oriented: bool
    file_spacing: Vector3
    frame_ms: float | None
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int

    @property
    def resized(self) -> bool:
        """Whether affine and zooms disagreed, so that the zooms won."""
        return bool((np.abs(self.file_spacing - self.zooms) > SIZE_TOLERANCE * self.zooms).any())

    @property
    def grid(self) -> Grid:
        """Shape, affine, and frame ``k`` of ``n`` at ``k / n``."""
        return Grid(self.shape[:3], self.affine, cycle_times(self.shape[3]))

    @property
    def cycle_ms(self) -> float | None:
        """Length of the cycle in ms; None for a static image or where the file does not tell."""
        return None if self.frame_ms is None or self.shape[3] < 2 else self.frame_ms * self.shape[3]


def is_nifti_name(path: Path) -> bool:
    """Whether the name ends like a NIfTI file, and is not one of macOS' ``._`` companions."""
    return path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_header(path: str | Path) -> Header:
    """Read the header alone; the voxels are not unpacked.

    Raises:
        BadFileError: no such file, not a NIfTI, or a header that cannot be true.
    """
    path = Path(path)
    if not path.name.lower().endswith(_SUFFIXES):
        raise BadFileError(
            f"{path}: not a .nii or .nii.gz file; convert it to NIfTI first (e.g. with dcm2niix)"
        )
    if path.is_dir():
        raise BadFileError(f"{path}: a folder, where a NIfTI file is expected; give the file in it")
    if not path.exists():
        raise BadFileError(f"{path}: no such file; check the path")
    start = b""
    for piece in unpacked(path, limit=540):
        start += piece
    if len(start) < 348:
        raise truncated(path, 348, len(start))
    size = struct.unpack("<i", start[:4])[0]
    endian, size = ("<", size) if size in (348, 540) else (">", int.from_bytes(start[:4], "big"))
    magic = start[344:347] if size == 348 else start[4:7]
    if len(start) < size or (size, magic) not in ((348, b"n+1"), (540, b"n+2")):
        raise BadFileError(
            f"{path}: not a single-file NIfTI (it starts with {start[:4]!r}); convert it again"
        )
    kind = Nifti1Header if size == 348 else Nifti2Header
    header = kind(start[:size], endianness=endian, check=False)

    shape = _shape(path, header)
    dtype = _dtype(path, header)
    zooms = _zooms(path, header)
    affine, oriented = _affine(path, header, zooms)
    resized = bool((np.abs(affine.spacing - zooms) > SIZE_TOLERANCE * zooms).any())
    offset = float(header["vox_offset"]) or float(size + 4)
    if not size <= offset < 2**31:
        raise BadFileError(f"{path}: the header puts the voxels at byte {offset:g}; write the file again")
    _check_size(path, shape, dtype, int(offset))
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = math.isfinite(slope) and slope != 0  # 0 and NaN mean "not scaled"
    return Header(
        path=path,
        shape=shape,
        affine=Affine.from_axes(affine.axes, zooms, affine.origin) if resized else affine,
        zooms=zooms,
        oriented=oriented and not resized,
        file_spacing=affine.spacing,
        frame_ms=_frame_ms(header),
        dtype=dtype,
        slope=slope if scaled else 1.0,
        intercept=intercept if scaled and math.isfinite(intercept) else 0.0,
        offset=int(offset),
    )


def read_volume(path: str | Path) -> tuple[np.ndarray, Header]:
    """Read one image: intensities (x, y, z, t, 1) and the header, whose `grid` places them.

    Numbers keep the file's type; scaled ones (slope, intercept) and those of 8 bytes become float32.

    Raises:
        BadFileError: as `read_header`; truncated or corrupt data; NaN or infinite voxels; constant image.
    """
    header = read_header(path)
    image = _scaled(header, _stored(header))
    if image.dtype.kind == "f":
        bad = int(image.size - np.count_nonzero(np.isfinite(image)))
        if bad:
            raise BadFileError(
                f"{path}: {bad} of {image.size} voxels are NaN or infinite; replace them (e.g. by 0)"
            )
    low, high = image.min(), image.max()
    if low == high:
        raise BadFileError(
            f"{path}: every voxel is {low:g}, the image is empty; check how the file was written"
        )
    return image[..., None], header


def read_numbers(path: str | Path) -> tuple[np.ndarray, Header]:
    """Read one label file: the whole numbers in it (x, y, z, t), any integer type, and the header.

    Raises:
        BadFileError: as `read_header`; truncated or corrupt data; values that are not whole numbers.
    """
    header = read_header(path)
    numbers = _stored(header)
    if (header.slope, header.intercept) != (1.0, 0.0):
        with np.errstate(over="ignore", invalid="ignore"):  # not whole: found below
            numbers = numbers * header.slope + header.intercept
    if numbers.dtype.kind == "f":
        whole = np.nan_to_num(numbers, nan=0.5, posinf=0.5, neginf=0.5)
        odd = whole[(whole != np.round(whole)) | (np.abs(whole) > 2**31)]
        if odd.size:
            raise BadFileError(
                f"{path}: {odd.size} label voxels are not whole numbers (e.g. {odd[0]:g}, or NaN); "
                "resample labels with nearest neighbour"
            )
        numbers = whole.astype(np.int32)
    return numbers, header


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int, int]:
    dim = [int(n) for n in header["dim"]]
    if dim[0] not in (2, 3, 4):
        sizes = " x ".join(map(str, dim[1 : dim[0] + 1] if 0 < dim[0] < 8 else dim))
        raise BadFileError(
            f"{path}: {dim[0]} dimensions ({sizes}), but only 2D, 3D and 4D (x, y, z, time) are read; "
            "write one file per channel"
        )
    sizes = dim[1 : dim[0] + 1]
    if min(sizes) < 1:
        raise BadFileError(f"{path}: the header declares the size {sizes}; write the file again")
    if math.prod(sizes) > MAX_VOXELS:
        raise BadFileError(
            f"{path}: the header declares {math.prod(sizes)} voxels ({' x '.join(map(str, sizes))}), "
            f"more than {MAX_VOXELS}; the header is broken, or the image must be cropped"
        )
    x, y, z, t = (*sizes, 1, 1)[:4]
    return x, y, z, t


def _dtype(path: Path, header: Nifti1Header) -> np.dtype:
    advice = "convert it to one number per voxel (integers or floats)"
    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError) as error:
        raise BadFileError(f"{path}: unknown data type {int(header['datatype'])}; {advice}") from error
    if dtype.kind not in "iuf":
        name = "colour (RGB)" if dtype.names else "complex" if dtype.kind == "c" else str(dtype)
        raise BadFileError(f"{path}: the voxels are {name}; {advice}")
    return dtype


def _zooms(path: Path, header: Nifti1Header) -> Vector3:
    zooms = np.array(header["pixdim"][1:4], dtype=np.float64)
    if int(header["dim"][0]) == 2 and not zooms[2] > 0:
        zooms[2] = 1.0  # a flat image need not tell how thick it is
    if not (np.isfinite(zooms).all() and zooms.min() > 0):
        raise BadFileError(f"{path}: the voxel size is {mm(zooms)}; set pixdim to positive numbers of mm")
    return zooms


def _affine(path: Path, header: Nifti1Header, zooms: Vector3) -> tuple[Affine, bool]:
    """The affine as in the file, and whether a form code says that it means something."""
    oriented = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    try:
        matrix = np.array(header.get_best_affine(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:  # quaternions that are none
        raise BadFileError(f"{path}: the header's qform is no rotation ({error}); set its sform") from error
    if int(header["dim"][0]) == 2 and not matrix[:3, 2].any():
        normal = np.cross(matrix[:3, 0], matrix[:3, 1])
        matrix[:3, 2] = normal / (np.linalg.norm(normal) or 1.0) * zooms[2]
    try:
        return Affine(matrix), oriented
    except ValueError as error:
        raise BadFileError(
            f"{path}: {error}; its rows are {matrix[:3].tolist()}; set a valid sform"
        ) from error


def _frame_ms(header: Nifti1Header) -> float | None:
    step = float(header["pixdim"][4])
    unit = int(header["xyzt_units"]) & 0x38
    if int(header["dim"][0]) < 4 or not math.isfinite(step) or step <= 0:
        return None
    if unit in _TIME_UNITS_MS:
        return step * _TIME_UNITS_MS[unit]
    # Without a unit, 1 is what writers put where they know nothing; a frame of a beating heart lasts
    # 20-60 ms, so that the other numbers can only be one of the two.
    if unit or step == 1:
        return None
    return step if step > 5 else step * 1000.0


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> None:
    """Refuse, before anything is allocated, a header that declares more than the file can hold."""
    declared = math.prod(shape) * dtype.itemsize + offset
    held = most_held(path)
    if declared > held:
        raise truncated(path, declared, held)


def _stored(header: Header) -> np.ndarray:
    """The stored numbers (x, y, z, t), native byte order, first axis fastest, writable."""
    nbytes = math.prod(header.shape) * header.dtype.itemsize
    try:
        buffer = np.empty(header.offset + nbytes, dtype=np.uint8)  # untouched pages cost nothing
    except MemoryError as error:
        raise BadFileError(
            f"{header.path}: its {nbytes} bytes do not fit into memory; crop the image"
        ) from error
    filled = 0
    for piece in unpacked(header.path, limit=buffer.size):
        buffer[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if filled < buffer.size:
        raise truncated(header.path, buffer.size, filled)
    voxels = np.frombuffer(buffer.data, header.dtype, offset=header.offset).reshape(header.shape, order="F")
    return voxels.astype(header.dtype.newbyteorder("="), order="F", copy=False)


def _scaled(header: Header, voxels: np.ndarray) -> np.ndarray:
    scaled = (header.slope, header.intercept) != (1.0, 0.0)
    if not scaled and voxels.dtype.itemsize < 8:
        return voxels
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are counted by the caller
        if not scaled:
            return voxels.astype(np.float32, order="F")
        return (voxels * np.float64(header.slope) + header.intercept).astype(np.float32, order="F")
