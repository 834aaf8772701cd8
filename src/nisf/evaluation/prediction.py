"""Read a segmentation file onto the grid of its reference by reordering axes, without resampling."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from nisf.data.arrangement import arrangement_between
from nisf.data.case import Case
from nisf.data.geometry import Affine, Grid
from nisf.data.wording import mm, place_mm, sizes
from nisf.errors import BadFileError
from nisf.io.readers.itk import is_itk_name, read_itk_header, read_itk_voxels

WHOLE = 1e-3
"""Maximum deviation of a label from an integer, e.g. after scaling by the header."""


def read_prediction(path: Path, case: Case, notes: dict[str, str]) -> np.ndarray:
    """The integers of a segmentation file (x, y, z, t), arranged like the case's first stack.

    If the reference is oriented, the file is matched to it by its affine: axes may be permuted or reversed.
    Otherwise voxels are compared by index.

    Args:
        path: image file, (x, y, z) or (x, y, z, t).
        case: the reference.
        notes: remarks are added here, one per kind.

    Raises:
        BadFileError: the file is missing or unreadable, on another grid, or has values that are not integers.
    """
    array, affine = _loaded(path, case)
    stack = case.stacks[0]
    array = array.reshape(*array.shape[:4], *(n for n in array.shape[4:] if n != 1))
    array = array.reshape(*array.shape, *(1,) * (4 - array.ndim))
    if array.ndim > 4:
        raise BadFileError(f"{case.name}: {path} has {array.ndim} dimensions ({sizes(array.shape)}); give 4")
    x, y, z, frames = array.shape
    grid = Grid((x, y, z), affine)
    arrangement = arrangement_between(grid, stack.grid) if stack.oriented else stack.arrangement
    shape = (*(grid if arrangement is None else arrangement.of_grid(grid)).shape, frames)
    wanted = (*stack.grid.shape, len(stack.grid.times))
    if shape != wanted and (arrangement is not None or sorted(shape[:3]) != sorted(wanted[:3])):
        raise BadFileError(
            f"{case.name}: {path} has shape {shape}, but the reference has {wanted} (x, y, z, t); "
            "render it on the grid and frames of the reference"
        )
    if arrangement is None:
        raise BadFileError(f"{case.name}: {path} {_elsewhere(grid, stack.grid)}")
    if not stack.oriented:
        notes.setdefault(
            "by_index",
            f"{case.name} (and maybe others) has no position and orientation in its header: predictions are "
            "compared with it by voxel index",
        )
    elif arrangement != stack.arrangement:
        file = stack.arrangement.undo_grid(stack.grid)
        notes.setdefault(
            "rearranged",
            f"{path} (and maybe others) is stored {codes(affine)}, its reference {codes(file.affine)}: "
            "compared by their affines",
        )
    return arrangement.apply(_whole(array, path, case))


def codes(affine: Affine) -> str:
    """The sides of the patient towards which the axes point, e.g. ``LAS``."""
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(affine.matrix))


def _elsewhere(grid: Grid, wanted: Grid) -> str:
    """How a grid differs from another that no arrangement maps to, and what to do."""
    advice = "render it on the grid of the reference"
    place, reference = place_mm(grid.centre()), place_mm(wanted.centre())
    return (
        f"is {codes(grid.affine)}, {mm(grid.spacing)}, around {place}, its reference {codes(wanted.affine)}, "
        f"{mm(wanted.spacing)}, around {reference}, and no flip or exchange of axes maps one onto the "
        f"other; {advice}"
    )


def _loaded(path: Path, case: Case) -> tuple[np.ndarray, Affine]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, SpatialImage

    if not path.is_file():
        raise BadFileError(f"{case.name}: no prediction, expected {path}")
    if is_itk_name(path):
        header = read_itk_header(path)
        return read_itk_voxels(header), header.affine
    try:
        image = nibabel.load(path)
        assert isinstance(image, SpatialImage), f"{path} is no image"
        return np.asarray(image.dataobj), Affine(image.affine)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise BadFileError(f"{case.name}: {path} cannot be read ({error})") from error


def _whole(array: np.ndarray, path: Path, case: Case) -> np.ndarray:
    """The numbers as integers; scaling by the header can turn 1 into 1.00000002."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind != "f":
        raise BadFileError(
            f"{case.name}: {path} contains {array.dtype}, not numbers; write labels as integers"
        )
    near = np.round(array)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        odd = array[~(np.abs(array - near) <= WHOLE)]
    if odd.size:
        raise BadFileError(
            f"{case.name}: {path} has {odd.size} voxels that are not label numbers (e.g. {odd[0]:g}); write "
            "labels as integers, resampled with nearest neighbour"
        )
    return near.astype(np.int64)
