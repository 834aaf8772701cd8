"""Write single-file MetaImages (``.mha``): a text header, then the voxels; read by ITK and related programs.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation. Written frame by frame, because SimpleITK would need
the whole image in memory twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nisf.data.geometry import LPS_RAS, Affine
from nisf.data.scratch import voxel_bytes
from nisf.files import replacing

_TYPES = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "int32": "MET_INT", "float32": "MET_FLOAT"}
_DIGITS = 15
"""Digits reserved for the size of the compressed voxels, which is known only after writing them."""


def write_mha(path: str | Path, voxels: np.ndarray, affine: Affine, *, frame_ms: float = 1.0) -> None:
    """Write an image, compressed.

    Args:
        path: ending in ``.mha``.
        voxels: (x, y, z) or (x, y, z, t).
        affine: voxel to world, mm, RAS+.
        frame_ms: time between frames.

    Raises:
        BadFileError: the file cannot be written.
    """
    n = voxels.ndim
    axes = np.eye(n)
    axes[:3, :3] = LPS_RAS[:, None] * affine.axes
    lines = [
        "ObjectType = Image",
        f"NDims = {n}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {'0' * _DIGITS}",
        # Axis by axis, although matrices are usually written row by row.
        f"TransformMatrix = {_numbers(axes.T.ravel())}",
        f"Offset = {_numbers([*(LPS_RAS * affine.origin), 0.0][:n])}",
        f"ElementSpacing = {_numbers([*affine.spacing, frame_ms][:n])}",
        f"DimSize = {' '.join(map(str, voxels.shape))}",
        f"ElementType = {_TYPES[voxels.dtype.name]}",
        "ElementDataFile = LOCAL",
    ]
    header = ("\n".join(lines) + "\n").encode("ascii")
    packer = zlib.compressobj()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for piece in voxel_bytes(voxels, voxels.dtype.newbyteorder("<")):
            file.write(packer.compress(piece))
        file.write(packer.flush())
        size = file.tell() - len(header)
        file.seek(header.index(b"0" * _DIGITS))
        file.write(f"{size:0{_DIGITS}d}".encode("ascii"))


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
