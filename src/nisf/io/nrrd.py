"""Write NRRD files: a text header, then the voxels; read by ITK, 3D Slicer and pynrrd.

Format: http://teem.sourceforge.net/nrrd/format.html. ITK's own writer does not name the space of images with
a time axis, so that only ITK knows that it is LPS.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nisf.data.geometry import LPS_RAS, Affine
from nisf.data.scratch import voxel_bytes
from nisf.files import replacing

_TYPES = {"uint8": "unsigned char", "int16": "short", "int32": "int", "float32": "float", "float64": "double"}


def write_nrrd(
    path: str | Path, voxels: np.ndarray, affine: Affine, *, frame_ms: float = 1.0, fields: Sequence[str] = ()
) -> None:
    """Write an image, compressed by gzip.

    Args:
        path: ending in ``.nrrd``.
        voxels: (x, y, z) or (x, y, z, t).
        affine: voxel to world, mm, RAS+.
        frame_ms: time between frames.
        fields: more lines of the header, e.g. ``key:=value``.

    Raises:
        BadFileError: the file cannot be written.
    """
    columns, origin = (LPS_RAS[:, None] * affine.matrix[:3, :3]).T, LPS_RAS * affine.origin
    space, kinds, units = "left-posterior-superior", ["domain"] * 3, ["mm"] * 3
    if voxels.ndim == 4:
        space, kinds, units = f"{space}-time", [*kinds, "time"], [*units, "ms"]
        columns = np.block([[columns, np.zeros((3, 1))], [np.zeros((1, 3)), np.full((1, 1), frame_ms)]])
        origin = np.append(origin, 0.0)
    lines = [
        "NRRD0004",
        f"type: {_TYPES[voxels.dtype.name]}",
        f"dimension: {voxels.ndim}",
        f"space: {space}",
        f"sizes: {' '.join(map(str, voxels.shape))}",
        f"space directions: {' '.join(map(_vector, columns))}",
        f"kinds: {' '.join(kinds)}",
        "endian: little",
        "encoding: gzip",
        "space units: " + " ".join(f'"{unit}"' for unit in units),
        f"space origin: {_vector(origin)}",
        *fields,
    ]
    header = "\n".join(lines) + "\n\n"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)  # gzip format without a timestamp
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode())
        for piece in voxel_bytes(voxels, voxels.dtype.newbyteorder("<")):
            file.write(packer.compress(piece))
        file.write(packer.flush())


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
