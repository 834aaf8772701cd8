"""Assemble one series into a stack of voxels: slices by position, frames by time, LPS to RAS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nisf.data.geometry import LPS_RAS, Affine, Grid, cycle_times
from nisf.data.scratch import by_frame, let_go, room
from nisf.data.stacking import even_places
from nisf.errors import BadFileError
from nisf.io.dicom.frames import Row, cycle_ms, in_time, without_copies
from nisf.io.dicom.pixels import check_whole, read_pixels
from nisf.io.dicom.scan import Instance
from nisf.io.dicom.series import DicomSeries, positions_of
from nisf.io.dicom.study import DicomStudy
from nisf.io.limits import MAX_VOXELS

LEANING = 35.0
"""Maximum angle between the step from slice to slice and their normal, degrees; gantries tilt by up to 30."""

DISAGREES = 0.1
"""Relative difference above which the slice spacing in the headers is not that of the positions."""

SAME_LOCATION = 1.0
"""Maximum difference of the declared locations of images at one position, mm."""

_GONE = np.empty(0)
"""Replaces an image that has been copied into the stack."""


@dataclass(frozen=True, eq=False)
class Arranged:
    """A series arranged as a grid of images, before pixels are read.

    Attributes:
        grid: voxels of the stack; x counts columns of the image, y rows, z slices along the normal.
        rows: for each slice of the grid, its image at each frame; None where none was measured.
        cycle_ms: length of the cycle, if known.
        notes: problems that were found and corrected.
    """

    grid: Grid
    rows: tuple[Row, ...]
    cycle_ms: float | None
    notes: tuple[str, ...]


def arrange(series: DicomSeries) -> Arranged:
    """Find the position and time of each image of a series.

    Raises:
        BadFileError: no position in the patient, or the slices do not form an even stack.
    """
    first = series.instances[0]
    label = f"series {series.number}"
    if not series.placed:
        raise BadFileError(f"{label}: its headers give no position and orientation; use another series")
    if first.colour:
        raise BadFileError(f"{label}: colour images; use another series")
    notes = list(series.notes)
    positions = without_copies(positions_of(series.instances), notes)
    _refuse_shifted_frames(positions, label)
    _refuse_lost_positions(positions, label)
    measured = in_time(positions, notes)
    images = [next(one for one in row if one is not None) if any(row) else None for row in measured]
    kept = [(row, one) for row, one in zip(measured, images, strict=True) if one is not None]
    if not kept:
        raise BadFileError(f"{label}: the frames of its slices cannot be told apart; use another series")
    slots, third = _spread([one for _, one in kept], label, notes)
    rows: list[Row] = [[None] * len(kept[0][0]) for _ in range(slots[-1] + 1)]
    for slot, (row, _) in zip(slots, kept, strict=True):
        rows[slot] = row
    origin = kept[0][1].place
    assert first.axes is not None
    assert origin is not None
    matrix = np.eye(4)
    matrix[:3, 0] = first.axes[0] * first.spacing[0]
    matrix[:3, 1] = first.axes[1] * first.spacing[1]
    matrix[:3, 2] = third
    matrix[:3, 3] = origin
    shape = (first.columns, first.rows, len(rows))
    frames = len(rows[0])
    if first.columns * first.rows * len(rows) * frames > MAX_VOXELS:
        raise BadFileError(f"{label}: more than {MAX_VOXELS} voxels; use another series")
    grid = Grid(shape, Affine(np.diag([*LPS_RAS, 1.0]) @ matrix), cycle_times(frames))
    return Arranged(grid, tuple(rows), cycle_ms(rows, notes), tuple(notes))


def read_study(study: DicomStudy, notes: dict[str, str]) -> tuple[Arranged, np.ndarray]:
    """Read a study's chosen series: voxels (x, y, z, t, 1), constant in slices that were not measured.

    Args:
        study: the study.
        notes: remarks by kind are added here.

    Raises:
        BadFileError: no series can be chosen; see also `arrange`; pixels cannot be read; the image is empty.
    """
    series = study.chosen()
    check_whole(series.instances, study.identifiers)
    try:
        arranged = arrange(series)
    except BadFileError as error:
        raise BadFileError(f"{study.name}: {error}", options=["series"]) from error
    places = [
        (z, t, one) for z, row in enumerate(arranged.rows) for t, one in enumerate(row) if one is not None
    ]
    pieces = read_pixels([one for _, _, one in places], study.identifiers)
    dtype = np.result_type(*pieces)
    if dtype.itemsize > 4:
        dtype = np.dtype(np.float32)
    low = min(piece.min() for piece in pieces)
    if low == max(piece.max() for piece in pieces):
        raise BadFileError(
            f"{study.name}: series {series.number}: every voxel is {low:g}, it is empty; use another series"
        )
    shape = (*arranged.grid.shape, len(arranged.grid.times), 1)
    image = room(shape, dtype)
    for _, frame in by_frame(image):
        frame[...] = low
    for index, (z, t, _) in enumerate(places):
        image[:, :, z, t, 0], pieces[index] = pieces[index], _GONE
        let_go(image)
    for note in arranged.notes:
        notes.setdefault(f"dicom {study.name} {note}", f"{study.name}: series {series.number}: {note}")
    return arranged, image


def _spread(images: Sequence[Instance], label: str, notes: list[str]) -> tuple[list[int], np.ndarray]:
    """The index of each slice in an even stack, and the step from one to the next, LPS mm."""
    normal = images[0].normal
    assert normal is not None
    places = np.array([one.place for one in images])
    if len(images) == 1:
        return [0], normal * (images[0].gap or images[0].thickness or 1.0)
    _refuse_leaning(images, label)
    along = (places - places[0]) @ normal
    apart = np.diff(along)
    found = even_places(along)
    distances = ", ".join(f"{distance:.4g}" for distance in sorted(set(np.round(apart, 2))))
    if found is None:
        raise BadFileError(
            f"{label}: its slices are {distances} mm apart, which is no even stack; use another series, or "
            "leave out those that do not fit"
        )
    slots = np.array(found)
    third = (places[-1] - places[0]) / slots[-1]
    off = places - places[0] - slots[:, None] * third
    sideways = off - (off @ normal)[:, None] * normal
    if np.linalg.norm(sideways, axis=1).max() > 0.5 * min(images[0].spacing):
        raise BadFileError(
            f"{label}: its slices are shifted against each other in their plane by up to "
            f"{np.linalg.norm(sideways, axis=1).max():.3g} mm; use another series"
        )
    third = _without_rounding(third, normal, images)
    if slots[-1] + 1 > len(images):
        missing = int(slots[-1]) + 1 - len(images)
        notes.append(
            f"gaps between slices ({distances} mm): {missing} of {slots[-1] + 1} slices were not measured "
            "and are left blank"
        )
    return [int(slot) for slot in slots], third


def _refuse_leaning(images: Sequence[Instance], label: str) -> None:
    """Reject slices that do not follow each other along their normal, so that their volume would be wrong.

    Raises:
        BadFileError: the angle is too large, or the slice spacing in the headers shows that it is no tilt.
    """
    first = images[0]
    places = np.array([one.place for one in images])
    step = places[-1] - places[0]
    length = float(np.linalg.norm(step))
    along = abs(float(step @ first.normal)) / length
    angle = float(np.degrees(np.arccos(min(along, 1.0))))
    nearest = float(np.linalg.norm(np.diff(places, axis=0), axis=1).min())
    told = abs(first.gap or 0.0)
    tilted = abs(nearest * along - told) <= DISAGREES * told or abs(nearest - told) > DISAGREES * told
    if angle <= LEANING and tilted:
        return
    assert first.axes is not None
    orientation = ", ".join(f"{number:.3g}" for number in first.axes.ravel())
    raise BadFileError(
        f"{label}: its slices are {nearest:.4g} mm apart in a direction {angle:.0f} degrees off the normal "
        f"of their images (ImageOrientationPatient {orientation}), so positions or orientation are wrong; "
        "export it again, or use another series"
    )


def _refuse_shifted_frames(positions: Sequence[Sequence[Instance]], label: str) -> None:
    """Reject images at one position along the normal that lie elsewhere in their plane.

    Raises:
        BadFileError: they are apart by more than half a pixel.
    """
    for images in positions:
        normal = images[0].normal
        assert normal is not None
        off = np.array([one.place for one in images]) - images[0].place
        apart = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1).max()
        if apart > 0.5 * min(images[0].spacing):
            raise BadFileError(
                f"{label}: images at one position along their normal are shifted against each other in their "
                f"plane by up to {apart:.3g} mm; use another series"
            )


def _refuse_lost_positions(positions: Sequence[Sequence[Instance]], label: str) -> None:
    """Reject images at one position that are slices at different locations by another entry of their headers.

    They would become frames of one slice. Some programs that anonymise give all images one position.

    Raises:
        BadFileError: their locations differ by more than `SAME_LOCATION`.
    """
    for images in positions:
        locations = [one.location for one in images if one.location is not None]
        if locations and max(locations) - min(locations) > SAME_LOCATION:
            raise BadFileError(
                f"{label}: images with one position (ImagePositionPatient) have a SliceLocation of "
                f"{min(locations):.4g} to {max(locations):.4g} mm, so their positions are wrong; export it "
                "again, or use another series"
            )


def _without_rounding(third: np.ndarray, normal: np.ndarray, images: Sequence[Instance]) -> np.ndarray:
    """The step between slices, recomputed without the rounding of positions in headers to a few digits."""
    step = float(third @ normal)
    if np.linalg.norm(third - step * normal) > 1e-3 * step:
        return third  # the slices really are staggered
    told = images[0].gap
    return normal * (told if told is not None and abs(told - step) < 1e-4 * step else step)
