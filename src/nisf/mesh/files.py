"""Write meshes in formats of other programs, including their coordinate system."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import quoteattr

import numpy as np

from nisf.errors import BadSettingError
from nisf.files import replacing, write_json
from nisf.mesh.surface import Surface

if TYPE_CHECKING:
    import trimesh

Space = Literal["RAS", "LPS"]
"""Coordinate system of a file: that of NIfTI (right, anterior, superior) or DICOM and ITK (left, posterior,
superior)."""


def write_surface(path: str | Path, surface: Surface, *, space: Space = "RAS") -> None:
    """Write one mesh in mm; binary except for OBJ, which is text.

    Each file contains ``SPACE=RAS`` or ``SPACE=LPS`` where 3D Slicer looks for it (STL header, PLY and OBJ
    comment, VTP field data); without it, Slicer assumes LPS. Other programs use the numbers as they are.

    Args:
        path: ``.stl``, ``.ply``, ``.obj`` or ``.vtp``.
        surface: the surface, in RAS+.
        space: coordinate system to write.

    Raises:
        BadSettingError: the file ending is not supported, or a package is missing.
        BadFileError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise BadSettingError(f"{path}: name the mesh {', '.join(WRITERS)}")
    data = WRITERS[path.suffix.lower()](in_space(surface, space), space)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def in_space(surface: Surface, space: Space) -> Surface:
    """The same mesh in other coordinates, rotated by 180 degrees about z, which keeps its orientation."""
    if space == "RAS":
        return surface
    return Surface(surface.name, surface.vertices * [-1.0, -1.0, 1.0], surface.faces, surface.time)


def write_series(path: str | Path, files: Mapping[float, Path]) -> None:
    """Write the list of files by time that ParaView opens as an animation (``NAME.vtp.series``).

    Args:
        path: path of the list, in the folder of the files.
        files: files by fraction of the cycle.
    """
    rows = [{"name": file.name, "time": time} for time, file in files.items()]
    write_json(path, {"file-series-version": "1.0", "files": rows})


def _trimesh(surface: Surface) -> trimesh.Trimesh:
    try:
        import trimesh
    except ImportError as error:
        raise BadSettingError(
            "STL, PLY and OBJ need the package trimesh: pip install 'nisf[mesh]'"
        ) from error
    return trimesh.Trimesh(surface.vertices, surface.faces, vertex_normals=surface.normals, process=False)


def _stl(surface: Surface, space: Space) -> bytes:
    from trimesh.exchange.stl import export_stl

    header = f"nisf; mm; SPACE={space}".encode()
    return header.ljust(80, b" ") + export_stl(_trimesh(surface))[80:]


def _ply(surface: Surface, space: Space) -> bytes:
    from trimesh.exchange.ply import export_ply

    first, _, rest = export_ply(_trimesh(surface), vertex_normal=True).partition(b"end_header\n")
    kept = [line for line in first.splitlines() if not line.startswith(b"comment")]
    kept.insert(2, f"comment nisf; mm; SPACE={space}".encode())
    return b"\n".join(kept) + b"\nend_header\n" + rest


def _obj(surface: Surface, space: Space) -> bytes:
    from trimesh.exchange.obj import export_obj

    text = export_obj(_trimesh(surface), include_normals=True, digits=5, header=None)
    return f"# nisf; mm; SPACE={space}\n{text}\n".encode()


def _vtp(surface: Surface, space: Space) -> bytes:
    """VTK's XML format with binary arrays, written directly because VTK itself is large (100 MB)."""
    count = len(surface.faces)
    points = _array("Points", surface.vertices.astype("<f4"))
    normals = _array("Normals", surface.normals.astype("<f4"))
    corners = _array("connectivity", surface.faces.astype("<i8").ravel())
    offsets = _array("offsets", np.arange(3, 3 * count + 1, 3).astype("<i8"))
    letters, time = " ".join(str(ord(letter)) for letter in f"{space}\0"), float(surface.time)
    return f"""<?xml version="1.0"?>
<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
<PolyData>
<FieldData>
<Array type="String" Name="SPACE" NumberOfTuples="1" format="ascii">{letters}</Array>
<DataArray type="Float64" Name="TimeValue" NumberOfTuples="1" format="ascii">{time}</DataArray>
</FieldData>
<Piece NumberOfPoints="{len(surface.vertices)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" \
NumberOfPolys="{count}">
<PointData Normals="Normals">{normals}</PointData>
<Points>{points}</Points>
<Polys>{corners}{offsets}</Polys>
</Piece>
</PolyData>
</VTKFile>
""".encode()


def _array(name: str, values: np.ndarray) -> str:
    """An array in VTK's XML format: its length in bytes and its bytes, in base 64."""
    kind = {"f": "Float32", "i": "Int64"}[values.dtype.kind]
    data = values.tobytes()
    coded = base64.b64encode(np.array(len(data), dtype="<u8").tobytes() + data).decode()
    parts = f' NumberOfComponents="{values.shape[1]}"' if values.ndim == 2 else ""
    return f'<DataArray type="{kind}" Name={quoteattr(name)}{parts} format="binary">{coded}</DataArray>'


WRITERS: dict[str, Callable[[Surface, Space], bytes]] = {
    ".stl": _stl,
    ".ply": _ply,
    ".obj": _obj,
    ".vtp": _vtp,
}
"""Functions that make a file's contents, by file extension."""


def names_of(stem: str, ending: str, words: Sequence[str], frames: int) -> list[list[str]]:
    """Names of the files of several structures (outer list) at several frames (inner).

    A single structure is named ``STEM``, others ``STEM_STRUCTURE``; frames are counted from 0, with at least
    two digits, so that names sort by time and do not depend on the number of frames up to 100.
    """
    width = max(2, len(str(frames - 1)))
    out = []
    for word in words:
        name = stem if len(words) == 1 else f"{stem}_{word}"
        out.append(
            [f"{name}{ending}"] if frames == 1 else [f"{name}_t{k:0{width}}{ending}" for k in range(frames)]
        )
    return out
