"""Read a segmentation file onto the grid of its reference by reordering axes, without resampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nisf.data.arrangement import arrangement_between
from nisf.data.case import Case
from nisf.data.geometry import Affine, Grid
from nisf.data.wording import mm, place_mm
from nisf.errors import BadFileError
from nisf.io.readers.nifti import read_numbers


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
    if not path.is_file():
        raise BadFileError(f"{case.name}: no prediction, expected {path}")
    try:
        numbers, header = read_numbers(path)
    except BadFileError as error:
        raise BadFileError(f"{case.name}: {error}") from error
    stack = case.stacks[0]
    grid, file = header.grid, stack.arrangement.undo_grid(stack.grid)
    arrangement = arrangement_between(grid, stack.grid) if stack.oriented else stack.arrangement
    shape = (*(grid if arrangement is None else arrangement.of_grid(grid)).shape, header.shape[3])
    wanted = (*stack.grid.shape, len(stack.grid.times))
    if shape != wanted and (arrangement is not None or sorted(shape[:3]) != sorted(wanted[:3])):
        raise BadFileError(
            f"{case.name}: {path} has shape {shape}, but the reference has {wanted} (x, y, z, t); "
            "render it on the grid and frames of the reference"
        )
    if arrangement is None:
        raise BadFileError(f"{case.name}: {path} {_elsewhere(grid, file)}")
    if not stack.oriented:
        notes.setdefault(
            "by_index",
            f"{case.name} (and maybe others) has no position and orientation in its header: predictions are "
            "compared with it by voxel index",
        )
    elif arrangement != stack.arrangement:
        notes.setdefault(
            "rearranged",
            f"{path} (and maybe others) is stored {codes(grid.affine)}, its reference {codes(file.affine)}: "
            "compared by their affines",
        )
    return arrangement.apply(numbers)


def codes(affine: Affine) -> str:
    """The sides of the patient towards which the axes point, e.g. ``LAS``."""
    from nibabel.orientations import aff2axcodes

    return "".join(str(code) for code in aff2axcodes(affine.matrix))


def _elsewhere(grid: Grid, wanted: Grid) -> str:
    """How a file's grid differs from that of its reference's file, with advice."""
    advice = "render it on the grid of the reference"
    place, reference = place_mm(grid.centre()), place_mm(wanted.centre())
    return (
        f"is {codes(grid.affine)}, {mm(grid.spacing)}, around {place}, its reference {codes(wanted.affine)}, "
        f"{mm(wanted.spacing)}, around {reference}, and no flip or exchange of axes maps one onto the "
        f"other; {advice}"
    )
