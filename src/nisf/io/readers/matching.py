"""How the array axes of a stack's other files, frames and labels, become those of the stack.

Each file has to agree with the first image of its stack in shape, voxel size and directions of its axes. Only
the position may differ, with a note: the first image's is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nisf.data.arrangement import Arrangement, arrangement_between, same_place
from nisf.data.geometry import Grid
from nisf.data.wording import mm
from nisf.errors import BadFileError
from nisf.io.readers.header import SIZE_TOLERANCE, Header

TURNED = 0.1
"""Maximum difference between the directions of two files' axes."""


@dataclass(frozen=True)
class StackGeometry:
    """Geometry of a stack's images: their grid, and how the files' array axes became its axes."""

    grid: Grid
    arrangement: Arrangement


def image_arrangement(header: Header, first: Header, on: StackGeometry, notes: dict[str, str]) -> Arrangement:
    """How the array axes of a frame or channel become those of the stack.

    Args:
        header: header of the frame or channel.
        first: header of the stack's first image.
        on: geometry of that image.
        notes: a remark is added here if the position differs.

    Raises:
        BadFileError: its shape or voxel size differs, or its axes point in other directions.
    """
    own = arrangement_between(header.grid, on.grid) or on.arrangement
    arranged = own.of_grid(header.grid)
    if arranged.shape != on.grid.shape or header.shape[3] != first.shape[3]:
        raise BadFileError(
            f"{header.path}: its shape is {header.shape}, that of {first.path.name} {first.shape}; "
            "frames and channels of a stack must have the same shape"
        )
    if _resized(arranged, on.grid):
        raise BadFileError(
            f"{header.path}: its voxels are {mm(header.grid.spacing)}, those of {first.path.name} "
            f"{mm(first.grid.spacing)}; correct the wrong header, or resample the file to the "
            "other one's grid"
        )
    if not same_place(arranged, on.grid):
        _refuse_turned(header, first, "resample it to the other file's grid")
        notes.setdefault(
            "frames_apart",
            f"{header.path} (and maybe others) is at another position than {first.path.name}, which is used",
        )
    return own


def label_arrangement(header: Header, image: Header, on: StackGeometry, notes: dict[str, str]) -> Arrangement:
    """How the array axes of a label file become those of its image's stack.

    A file with voxels of exactly 1 mm was written by a program that does not know their size.

    Args:
        header: header of the label file.
        image: header of the stack's first image.
        on: geometry of that image.
        notes: a remark is added here if the geometry differs.

    Raises:
        BadFileError: its shape or voxel size differs, or its axes point in other directions.
    """
    own = arrangement_between(header.grid, on.grid)
    if own is not None and header.shape[3] == image.shape[3]:
        return own
    if header.shape != image.shape:
        raise BadFileError(
            f"{header.path}: its shape is {header.shape}, that of its image {image.path.name} {image.shape}; "
            "resample the labels to the image's grid"
        )
    if _resized(header.grid, image.grid) and not (header.zooms == 1).all():
        raise BadFileError(
            f"{header.path}: its voxels are {mm(header.grid.spacing)}, those of its image {image.path.name} "
            f"{mm(image.grid.spacing)}; correct the wrong header, or resample the labels to the image's "
            "grid"
        )
    _refuse_turned(header, image, "resample the labels to its grid")
    notes.setdefault(
        "label_affine",
        f"{header.path} (and maybe others) has another affine than its image; the image's geometry is used",
    )
    return on.arrangement


def _resized(grid: Grid, wanted: Grid) -> bool:
    return bool((np.abs(grid.spacing - wanted.spacing) > SIZE_TOLERANCE * wanted.spacing).any())


def _refuse_turned(header: Header, first: Header, advice: str) -> None:
    if not (header.oriented and first.oriented):
        return
    if np.abs(header.affine.axes - first.affine.axes).max() > TURNED:
        raise BadFileError(
            f"{header.path}: its axes point in other directions than those of {first.path.name}, and no flip "
            f"or exchange of axes maps one onto the other; {advice}"
        )
