"""Read the files of a case: voxels in one arrangement, and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case, Stack, slices_of_volume
from nisf.data.scratch import let_go, packed, room
from nisf.data.stacking import arrangement_of
from nisf.data.time_axis import frames_may_be_slices, repeated_frames
from nisf.data.wording import mm, sizes
from nisf.errors import BadFileError
from nisf.io.dicom.study import DicomStudy
from nisf.io.dicom.volume import read_study
from nisf.io.phases import phases_by_volume
from nisf.io.readers.joining import Read, joined
from nisf.io.readers.labels import Notes, hide_undrawn, read_labels
from nisf.io.readers.listing import CaseFiles, StackFiles
from nisf.io.readers.matching import StackGeometry, image_arrangement
from nisf.io.readers.measured import Measured, measured, nothing_measured
from nisf.io.readers.nifti import Header, read_header, read_volume

EXCHANGED = (
    "it changes less from slice to slice than from frame to frame; if time is stored before the slices, "
    "store it as x, y, slices, time"
)


def repeats(count: int, frames: int) -> str:
    """What is said of a stack some of whose frames have the image of the frame before."""
    return (
        f"{count} of {frames} frames repeat the image of the frame before, so nothing moves between them; "
        "export the scan again, or correct the list of its frames"
    )


def undrawn_phase(phases: Mapping[str, int], drawn: Sequence[bool]) -> str:
    """What is said of a phase whose frame has no labels while others have; empty if there is none.

    Args:
        phases: frame of each phase, from the layout.
        drawn: whether each frame has labels.
    """
    late = [name for name, frame in phases.items() if frame < len(drawn) and not drawn[frame]]
    if not late or not any(drawn):
        return ""
    frames = ", ".join(str(frame) for frame in np.flatnonzero(drawn))
    return (
        f"{late[0]} is given as frame {phases[late[0]]}, but only the frames {frames} (from 0) have labels; "
        "correct the table if it counts from 1"
    )


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack with its voxels.

    Attributes:
        stack: its grid.
        image: intensities (x, y, z, t, c).
        label: class indices (x, y, z, t), int8, or None.
        measured: which slices were measured (z, t); all if None.
        phases: named times from the layout, as fractions of the cycle.
    """

    stack: Stack
    image: np.ndarray
    label: np.ndarray | None
    measured: np.ndarray | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


def read_case(files: CaseFiles, anatomy: Anatomy, notes: Notes | None = None) -> Case:
    """Read a case's files.

    Args:
        files: files of the case.
        anatomy: its structures.
        notes: collects remarks, one per kind; share it among the cases of a cohort.

    Raises:
        BadFileError: a file cannot be read, shapes do not match, or a label number is unknown.
    """
    return assemble(files, anatomy, read_volumes(files, anatomy, notes))


def read_volumes(files: CaseFiles, anatomy: Anatomy, notes: Notes | None = None) -> list[Volume]:
    """The stacks of a case with their voxels; arguments and errors as for `read_case`."""
    notes = {} if notes is None else notes
    stacks = joined([_read_stack(stack, files, anatomy, notes) for stack in files.stacks], notes, files.name)
    volumes = [_volume(stack, files, anatomy, notes) for stack in stacks]
    note_thickness(stacks[0].shown, stacks[0].grid.shape, stacks[0].grid.spacing, notes)
    channels = {volume.image.shape[-1] for volume in volumes}
    if len(channels) > 1:
        raise BadFileError(
            f"{files.name}: its stacks have {sorted(channels)} channels; give all the same number"
        )
    return volumes


def assemble(files: CaseFiles, anatomy: Anatomy, volumes: Sequence[Volume]) -> Case:
    """Make a case from volumes that were read; its slices are views into them."""
    return Case(
        name=files.name,
        stacks=tuple(volume.stack for volume in volumes),
        slices=tuple(
            piece
            for index, volume in enumerate(volumes)
            for piece in slices_of_volume(
                volume.image, volume.label, volume.stack.grid, stack=index, measured=volume.measured
            )
        ),
        labels=anatomy.labels,
        known=files.known & frozenset(anatomy.labels),
        phases=_phases(anatomy, volumes),
        attributes=dict(files.attributes),
    )


def note_geometry(header: Header, notes: Notes, anatomy: Anatomy) -> None:
    """Remark once per cohort that position and orientation cannot be trusted."""
    if header.resized:
        notes.setdefault(
            "zooms",
            f"affine and voxel size disagree ({header.path}: affine {mm(header.file_spacing)}, header "
            f"{mm(header.zooms)}, and maybe others): the header's size is used, and position and "
            "orientation in the patient are treated as unknown",
        )
    elif not header.oriented:
        notes.setdefault(
            "no_form",
            f"no patient position and orientation in the header ({header.path}, and maybe others): "
            f"{header.lacks}",
        )
    if header.sizeless:
        notes.setdefault(
            "sizeless",
            f"{header.path} (and maybe others): {sizes(header.shape[:3])} voxels of exactly 1 x 1 x 1 mm, "
            "the default of programs that do not know the size; if that is wrong, correct pixdim and the "
            "affine, or structures will be missed and volumes will be wrong",
        )
    if header.stated_cycle_ms is not None and header.cycle_ms is None:
        notes.setdefault(
            "cycle",
            f"{header.path} (and maybe others): {header.shape[3]} frames of {header.frame_ms:.4g} ms would "
            f"be a cycle of {header.stated_cycle_ms / 1000:.4g} s, so its length is treated as unknown; "
            "for measures per time, correct the time between frames (pixdim[4]) and its unit",
        )
    if anatomy.orientation is not None and not header.oriented:
        notes.setdefault(
            "as_stored",
            f"{header.path} (and maybe others) has no orientation in the patient and is taken to be "
            f"stored like the training images ({anatomy.orientation})",
        )


def note_thickness(
    shown: str, shape: Sequence[int], spacing: Sequence[float] | np.ndarray, notes: Notes
) -> None:
    """Remark once per cohort that the thickness of a stack of one slice was probably never set."""
    if shape[2] == 1 and np.isclose(spacing[2], 1.0) and not np.allclose(spacing, 1.0):
        notes.setdefault(
            "thickness",
            f"{shown} (and maybe others): one slice of exactly 1 mm, which is assumed where no thickness is "
            "given; if that is wrong, correct the thickness in the header, or volumes will be wrong",
        )


def frames_of(header: Header, files: StackFiles) -> int:
    """Number of frames of a stack whose first image has this header.

    Raises:
        BadFileError: one of several files has several frames, or the number of times is wrong.
    """
    count = len(files.images)
    if count > 1 and header.shape[3] > 1:
        raise BadFileError(
            f"{header.path}: {header.shape[3]} frames in a file of a stack with one file per frame"
        )
    frames = max(count, header.shape[3])
    if files.times is not None and len(files.times) != frames:
        raise BadFileError(f"{header.path}: {frames} frames, but {len(files.times)} times are given for it")
    return frames


def _read_stack(files: StackFiles, case: CaseFiles, anatomy: Anatomy, notes: Notes) -> Read:
    if files.series is not None:
        return _read_series(files.series, files.name, anatomy, notes)
    first = files.images[0][0]
    header = read_header(first)
    note_geometry(header, notes, anatomy)
    frames = frames_of(header, files)
    arrangement = arrangement_of(header.shape[:3], header.affine, anatomy, oriented=header.oriented)
    wanted = arrangement.of_grid(header.grid)
    on = StackGeometry(wanted, arrangement)
    parts = [[_arranged(path, header, on, notes) for path in paths] for paths in files.images]
    grid = wanted if len(files.images) == 1 else wanted.with_frames(frames)
    grid = grid if files.times is None else grid.at_times(files.times)
    label = read_labels(files, case, anatomy, header, StackGeometry(grid, arrangement), notes)
    if label is not None and len(files.labels) == 1:
        drawn = [bool((label[..., t] > 0).any()) for t in range(frames)]
        if said := undrawn_phase(files.phases, drawn):
            notes.setdefault("undrawn_phase", f"{files.labels[0]} (and maybe others): {said}")
    return Read(
        names=(files.name,),
        grid=grid,
        image=_join(parts, (*wanted.shape, frames)),
        label=label,
        source=first,
        shown=str(first),
        oriented=header.oriented,
        cycle_ms=header.cycle_ms,
        arrangement=arrangement,
        phases=files.phases,
    )


def _read_series(study: DicomStudy, name: str, anatomy: Anatomy, notes: Notes) -> Read:
    """Read a DICOM series by the same rules as a NIfTI file of the same scan."""
    series, voxels = read_study(study, notes)
    arrangement = arrangement_of(series.grid.shape, series.grid.affine, anatomy, oriented=True)
    return Read(
        names=(name,),
        grid=arrangement.of_grid(series.grid),
        image=packed(arrangement.apply(voxels)),
        label=None,
        source=None,  # there is no header to copy: outputs get a new one with this affine
        shown=study.name,
        oriented=True,
        cycle_ms=series.cycle_ms,
        arrangement=arrangement,
        phases={},
    )


def _volume(stack: Read, case: CaseFiles, anatomy: Anatomy, notes: Notes) -> Volume:
    """The measured part of a stack, with the labels that were drawn.

    Raises:
        BadFileError: nothing in it was measured, or the frame of a phase does not exist.
    """
    found = measured(stack.image)
    if found is None:
        raise nothing_measured(stack.shown)
    _note_measured(stack.shown, found, notes)
    label, times = stack.label, stack.grid.times
    if label is not None:
        label = hide_undrawn(label, len(anatomy.labels), background_known=case.background_known)
    for name, frame in stack.phases.items():
        if frame >= len(times):
            raise BadFileError(
                f"{stack.shown}: {name} is given as frame {frame}, but it has {len(times)} frames, counted "
                "from 0; correct the table"
            )
    return Volume(
        Stack(
            name=stack.names[0],
            grid=stack.grid,
            oriented=stack.oriented,
            source=stack.source,
            cycle_ms=stack.cycle_ms,
            intensity_range=found.intensity_range,
            arrangement=stack.arrangement,
            ends=found.ends,
        ),
        found.image,
        label,
        found.slices if found.blank else None,
        {name: float(times[frame]) for name, frame in stack.phases.items()},
    )


def _arranged(path: Path, first: Header, on: StackGeometry, notes: Notes) -> np.ndarray:
    """The voxels of a frame or channel (x, y, z, t, c), arranged on the stack's grid.

    Raises:
        BadFileError: it cannot be read, or its geometry is not that of the stack's first file.
    """
    voxels, header = read_volume(path)
    own = image_arrangement(header, first, on, notes)
    return voxels if own.changes_nothing else packed(own.apply(voxels))


def _note_measured(shown: str, found: Measured, notes: Notes) -> None:
    if frames_may_be_slices(found.image):
        notes.setdefault("exchanged", f"{shown}: {EXCHANGED}")
    if count := repeated_frames(found.image):
        notes.setdefault("repeated", f"{shown} (and maybe others): {repeats(count, found.image.shape[3])}")
    if found.blank:
        notes.setdefault(
            "blank",
            f"{shown}: {found.blank} of {found.slices.size} slices are blank and treated as not measured "
            "(this is said once for all cases)",
        )
    if found.filled:
        notes.setdefault(
            "filled",
            f"{shown}: {100 * found.filled:.3g} % of the pixels are padding or not a number, and are treated "
            "as not measured (this is said once for all cases)",
        )


def _join(parts: list[list[np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """Join frames and channels, each (x, y, z, t, 1), into one array (x, y, z, t, c), x fastest in memory."""
    if len(parts) == 1 and len(parts[0]) == 1:
        return parts[0][0]
    dtype = np.result_type(*(array for frame in parts for array in frame))
    image = room((*shape, len(parts[0])), dtype)
    for t, frame in enumerate(parts):
        for c, array in enumerate(frame):
            image[:, :, :, slice(None) if len(parts) == 1 else slice(t, t + 1), c] = array[..., 0]
        let_go(image)
    return image


def _phases(anatomy: Anatomy, volumes: Sequence[Volume]) -> dict[str, float]:
    """Named phases: from the layout, else from the volumes of the structure that defines them."""
    for volume in volumes:
        if volume.phases:
            return dict(volume.phases)
    label, times = volumes[0].label, volumes[0].stack.grid.times
    if label is None:
        return {}
    try:
        return {name: float(times[frame]) for name, frame in phases_by_volume(label, anatomy).items()}
    except ValueError:
        return {}  # drawn in too few frames
