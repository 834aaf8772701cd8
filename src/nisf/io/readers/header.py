"""Read the header of one NIfTI file safely: tolerant of what other readers accept, with one-sentence errors.

The header is parsed by nibabel; the bytes are read by `inflate`, so that a file can never make us allocate or
unpack more than it holds.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.time_axis import plausible_cycle
from nisf.data.wording import mm
from nisf.errors import BadFileError
from nisf.io.limits import MAX_VOXELS
from nisf.io.readers.inflate import most_held, truncated, unpacked
from nisf.types import Vector3

SIZE_TOLERANCE = 0.01
"""Relative difference between affine column and header zoom above which the zooms win."""

SMALLEST_MM, LARGEST_MM = 0.01, 100.0
"""Range of plausible voxel sizes."""

FLAT = 6
"""Ratio of the longest to the shortest side, in voxels, above which cubic voxels of 1 mm are not believed."""

_SUFFIXES = (".nii.gz", ".nii")
_TIME_UNITS_MS = {8: 1000.0, 16: 1.0, 24: 0.001}  # xyzt_units: sec, msec, usec
_SPACE_UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, mm, micron


@dataclass(frozen=True, eq=False)
class Header:
    """The header of a NIfTI file, corrected by our rules.

    Attributes:
        path: the file.
        shape: voxels along x, y, z and frames (1 for a static image).
        affine: voxel to world, mm; its column lengths are the zooms if the two disagreed.
        zooms: the header's voxel size, mm.
        oriented: whether the affine gives a true position and orientation.
        lacks: which entry of the header is missing for that, for messages.
        file_spacing: column lengths of the affine in the file, mm.
        frame_ms: time between frames in ms, or None if unknown.
        dtype: type of the stored numbers, in the file's byte order.
        slope: factor on stored numbers.
        intercept: added after scaling.
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
    lacks: str = "sform and qform codes are 0"

    @property
    def resized(self) -> bool:
        """Whether affine and zooms disagreed, so that the zooms won."""
        return bool((np.abs(self.file_spacing - self.zooms) > SIZE_TOLERANCE * self.zooms).any())

    @property
    def sizeless(self) -> bool:
        """Whether the voxel size is probably a writer's default: 1 mm in all directions, for a flat stack."""
        unset = bool((self.zooms == 1).all()) and not self.resized
        return unset and max(self.shape[:3]) >= FLAT * min(self.shape[:3])

    @property
    def grid(self) -> Grid:
        """Shape, affine, and frame ``k`` of ``n`` at ``k / n``."""
        return Grid(self.shape[:3], self.affine, cycle_times(self.shape[3]))

    @property
    def cycle_ms(self) -> float | None:
        """Length of the cycle in ms; None for a static image, or if unknown or impossible."""
        return plausible_cycle(self.stated_cycle_ms)

    @property
    def stated_cycle_ms(self) -> float | None:
        """Length of the cycle in ms that follows from the header, however implausible."""
        return None if self.frame_ms is None or self.shape[3] < 2 else self.frame_ms * self.shape[3]


def is_nifti_name(path: Path) -> bool:
    """Whether the name is that of a NIfTI file, and not one of macOS's ``._`` companions."""
    return path.name.lower().endswith(_SUFFIXES) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_header(path: str | Path) -> Header:
    """Read the header only; the voxels are not unpacked.

    Raises:
        BadFileError: no such file, not a NIfTI, or an impossible header.
    """
    path = Path(path)
    if not path.name.lower().endswith(_SUFFIXES):
        raise BadFileError(
            f"{path}: not a .nii or .nii.gz file; convert it to NIfTI first (e.g. with dcm2niix)"
        )
    check_is_file(path)
    start = b""
    for piece in unpacked(path, limit=540):
        start += piece
    if len(start) < 348:
        raise truncated(path, 348, len(start))
    header = parsed(path, start)

    shape = _shape(path, header)
    dtype = _dtype(path, header)
    affine, zooms, oriented = _geometry(path, header)
    resized = bool((np.abs(affine.spacing - zooms) > SIZE_TOLERANCE * zooms).any())
    size = int(header["sizeof_hdr"])
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


def header_to_write(path: Path) -> tuple[Nifti1Header, np.ndarray]:
    """The header of a file, adapted for answers on its grid, and its affine, both in the file's own units.

    Geometry, units and free text are kept; the description of the stored numbers is not.

    Raises:
        BadFileError: see `read_header`.
    """
    check_is_file(path)
    start = b"".join(unpacked(path, limit=540))
    raw = parsed(path, start)
    affine, _ = _affine(path, raw, np.array(raw["pixdim"][1:4], dtype=np.float64), 1.0)
    header = Nifti1Header.from_header(raw, check=False) if isinstance(raw, Nifti2Header) else raw.copy()
    header = header.as_byteswapped("<")
    header["sizeof_hdr"], header["vox_offset"] = 348, 0  # of a NIfTI-2 it is still 540
    header["scl_slope"] = header["scl_inter"] = np.nan
    header["cal_min"] = header["cal_max"] = 0  # the display window of the old intensities
    return header, affine.matrix


def check_is_file(path: Path) -> None:
    """Reject what is not a regular file, before a reader blocks on it.

    Raises:
        BadFileError: it is missing, a folder, a broken or looping link, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise BadFileError(
                f"{path}: a link to {os.readlink(path)}, which cannot be read ({error.strerror}); get the "
                "file that it points to"
            ) from error
        raise BadFileError(f"{path}: no such file; check the path") from error
    if stat.S_ISDIR(mode):
        raise BadFileError(f"{path}: a folder, where a NIfTI file is expected; give the file in it")
    if not stat.S_ISREG(mode):
        raise BadFileError(f"{path}: a pipe or device, where a file is expected; copy it into a file")


def parsed(path: Path, start: bytes) -> Nifti1Header:
    """Parse the header in the first bytes of a file with nibabel, in the file's own byte order.

    Raises:
        BadFileError: it is not the header of a single-file NIfTI.
    """
    size = struct.unpack("<i", start[:4])[0]
    endian, size = ("<", size) if size in (348, 540) else (">", int.from_bytes(start[:4], "big"))
    magic = start[344:347] if size == 348 else start[4:7]
    if len(start) < size or (size, magic) not in ((348, b"n+1"), (540, b"n+2")):
        raise BadFileError(
            f"{path}: not a single-file NIfTI (it starts with {start[:4]!r}); convert it again"
        )
    kind = Nifti1Header if size == 348 else Nifti2Header
    header = kind(start[:size], endianness=endian, check=False)
    if float(header["pixdim"][0]) not in (-1.0, 1.0):
        header["pixdim"][0] = 1.0  # qfac; other readers treat 0 as 1 too
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    return header


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int, int]:
    dim = [int(n) for n in header["dim"]]
    while 4 < dim[0] < 8 and dim[dim[0]] == 1:
        dim[0] -= 1  # trailing axes of length 1 have no meaning
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


def _geometry(path: Path, header: Nifti1Header) -> tuple[Affine, Vector3, bool]:
    """Affine and voxel size as in the file, mm, and whether a form code declares the affine as true.

    If one of the two sizes is exactly 1, 1, 1, it was never set, and the other one is used for both.
    """
    unit = _SPACE_UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    zooms = np.array(header["pixdim"][1:4], dtype=np.float64) * unit
    if int(header["dim"][0]) == 2 and not zooms[2] > 0:
        zooms[2] = unit  # a flat image need not state its thickness
    if not (np.isfinite(zooms).all() and zooms.min() > 0):
        raise BadFileError(f"{path}: the voxel size is {mm(zooms)}; set pixdim to positive numbers of mm")
    affine, oriented = _affine(path, header, zooms, unit)
    if oriented and (zooms == unit).all():
        zooms = affine.spacing
    if not (zooms.min() >= SMALLEST_MM and zooms.max() <= LARGEST_MM):
        raise BadFileError(
            f"{path}: the voxel size is {mm(zooms)}, which is impossible; correct pixdim, affine and units "
            "(xyzt_units)"
        )
    return affine, zooms, oriented


def _affine(path: Path, header: Nifti1Header, zooms: Vector3, unit: float) -> tuple[Affine, bool]:
    """The affine as in the file, mm, and whether a form code declares that it has a meaning."""
    sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    try:
        # An sform of zeros was never set, whatever its code says.
        use_qform = qform and not (sform and np.array(header.get_sform())[:3, :3].any())
        matrix = np.array(header.get_qform() if use_qform else header.get_best_affine(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:  # invalid quaternions
        raise BadFileError(f"{path}: the header's qform is no rotation ({error}); set its sform") from error
    matrix[:3] *= unit
    if int(header["dim"][0]) == 2 and not matrix[:3, 2].any():
        normal = np.cross(matrix[:3, 0], matrix[:3, 1])
        matrix[:3, 2] = normal / (np.linalg.norm(normal) or 1.0) * zooms[2]
    try:
        return Affine(matrix), sform or qform
    except ValueError as error:
        raise BadFileError(
            f"{path}: {error}; its rows are {matrix[:3].tolist()}; set a valid sform"
        ) from error


def _frame_ms(header: Nifti1Header) -> float | None:
    step = float(header["pixdim"][4])
    unit = int(header["xyzt_units"]) & 0x38
    if int(header["dim"][0]) < 4 or (unit and unit not in _TIME_UNITS_MS):
        return None
    return told_frame_ms(step, _TIME_UNITS_MS.get(unit))


def told_frame_ms(step: float, unit_ms: float | None) -> float | None:
    """Interpret the header's time between frames, ms; None if it has no meaning.

    Args:
        step: the number.
        unit_ms: its unit; None if the header names none.
    """
    if not math.isfinite(step) or step <= 0:
        return None
    # 1 is a writer's default for unknown; ITK adds seconds as the unit. Without a unit any other number is
    # unambiguous, since a frame of a beating heart lasts 20-60 ms.
    if step == 1:
        return None
    if unit_ms is not None:
        return step * unit_ms
    return step if step > 5 else step * 1000.0


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> None:
    """Reject a header that declares more than the file can hold, before anything is allocated."""
    declared = math.prod(shape) * dtype.itemsize + offset
    held = most_held(path)
    if declared > held:
        raise truncated(path, declared, held)
