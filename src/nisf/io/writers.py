"""Write answers as images that overlay on their input in any viewer: NIfTI, or formats that ITK reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nisf.data.arrangement import same_place
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.data.scratch import voxel_bytes
from nisf.errors import BadFileError, BadSettingError
from nisf.files import read_json, replacing, write_json
from nisf.io.metaimage import write_mha
from nisf.io.nrrd import write_nrrd
from nisf.io.readers.header import header_to_write, is_nifti_name, read_header
from nisf.outputs import file_words, recorded
from nisf.subject.rendering import Rendering

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

LABELS = "labels.json"
"""The file that gives the structure of each label number."""


FORMATS = ("nii.gz", "nii", "hdr", "nrrd", "mha")
"""Image formats, by file extension; ``hdr`` is a NIfTI pair with ``.img``."""


def check_format(name: str, channels: int = 1) -> str:
    """Return the format if images with this many channels can be written in it.

    Raises:
        BadSettingError: there is no such format, or it supports one channel only.
    """
    if name not in FORMATS:
        raise BadSettingError(
            f"{name}: not an image format; give one of {', '.join(FORMATS)}", options=["format"]
        )
    if channels > 1 and name in ("nrrd", "mha"):
        raise BadSettingError(
            f"{name}: {channels} channels can only be written as NIfTI; leave the format out",
            options=["format"],
        )
    return name


def _header(grid: Grid, stack: Stack | None) -> tuple[Nifti1Header, np.ndarray]:
    """A new header and affine for data on ``grid``."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "msec")
    code = 1 if stack is None or stack.oriented else 2
    header.set_data_shape((*grid.shape, len(grid.times)))
    header.set_qform(grid.affine.matrix, code)
    header.set_sform(grid.affine.matrix, code)
    header.set_zooms((*grid.spacing.tolist(), 0.0))
    return header, grid.affine.matrix


def _source_header(stack: Stack) -> tuple[Nifti1Header, np.ndarray] | None:
    """Header and affine of a stack's source file; None if it is missing or has changed."""
    if stack.source is None:
        return None
    try:
        found = read_header(stack.source)
        if not same_place(stack.arrangement.of_grid(found.grid), stack.grid):
            return None
        return header_to_write(stack.source)
    except BadFileError:
        return None


def header_not_copied(stack: Stack, format: str) -> str:  # noqa: A002
    """A sentence that the header of a stack's NIfTI file cannot be copied any more; empty if it can."""
    if stack.source is None or not is_nifti_name(stack.source) or format in ("nrrd", "mha"):
        return ""
    if _source_header(stack) is not None:
        return ""
    why = "is not the scan that was segmented" if stack.source.exists() else "is not there"
    return (
        f"{stack.source}: {why}, so its header is not copied; affine and units of the images written may "
        "differ from the scan's"
    )


def write_volume(
    path: str | Path,
    data: np.ndarray,
    grid: Grid,
    *,
    stack: Stack | None = None,
    own: bool = False,
) -> None:
    """Write ``(x, y, z, t)`` or ``(x, y, z, t, c)``; trailing axes of length 1 are dropped.

    Args:
        path: ends in one of `FORMATS`; channels can only be written as NIfTI.
        data: labels (uint8) or intensities (float32).
        grid: grid of the voxels.
        stack: the measured stack that the data belong to.
        own: whether ``grid`` is the stack's own; header and affine are then copied from the source file
            if both are NIfTI.

    Raises:
        BadSettingError: the file ending is not supported.
        BadFileError: the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(tuple(f".{name}" for name in FORMATS)):
        raise BadSettingError(f"{path}: name the file .{', .'.join(FORMATS)}")
    source = _source_header(stack) if own and stack is not None else None
    if own and stack is not None:
        data = stack.arrangement.undo(data)
        grid = stack.arrangement.undo_grid(grid)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    cycle_ms = None if stack is None else stack.cycle_ms
    frame_ms = _frame_ms(grid, cycle_ms)
    if path.suffix in (".nrrd", ".mha") and data.ndim > 4:
        raise BadSettingError(f"{path}: {data.shape[-1]} channels need NIfTI; name the file .nii.gz")
    if path.suffix == ".nrrd":
        write_nrrd(path, data, grid.affine, frame_ms=frame_ms)
    elif path.suffix == ".mha":
        write_mha(path, data, grid.affine, frame_ms=frame_ms)
    else:
        _write_nifti(path, data, *(_header(grid, stack) if source is None else source), frame_ms)


def _frame_ms(grid: Grid, cycle_ms: float | None) -> float:
    """Time between the frames of a grid; 1, a writer's word for unknown, if there is no single one."""
    steps = np.diff(grid.times)
    if not cycle_ms or not len(steps) or steps.min() <= 0 or np.ptp(steps) > 0.01 * steps.min():
        return 1.0
    return cycle_ms * float(steps.mean())


def _write_nifti(
    path: Path, data: np.ndarray, header: Nifti1Header, affine: np.ndarray, frame_ms: float
) -> None:
    """Write a NIfTI or a pair; ``frame_ms`` is used if the header gives no time between frames."""
    import nibabel as nib
    from nibabel.openers import ImageOpener

    header.set_data_dtype(data.dtype)
    pair = path.suffix == ".hdr"
    # nibabel makes the header for an image of this size; voxels are written frame by frame.
    sizes = np.broadcast_to(data.flat[0], data.shape)
    image = (nib.Nifti1Pair if pair else nib.Nifti1Image)(sizes, affine, header)
    zooms = [float(zoom) for zoom in image.header.get_zooms()]
    if data.ndim > 3:
        told = [float(zoom) for zoom in header.get_zooms()[3:4]]
        zooms[3] = told[0] if told and told[0] > 0 else frame_ms
        image.header.set_zooms(zooms)
    image.header.set_slope_inter(1, 0)
    with (
        replacing(path.with_suffix(".img") if pair else path) as temporary,
        ImageOpener(str(temporary), "wb") as file,
    ):
        if not pair:
            image.header.write_to(file)
        for piece in voxel_bytes(data, image.header.get_data_dtype()):
            file.write(piece)
    if pair:  # the header is written last, so that a pair with a header is complete
        with replacing(path) as temporary, temporary.open("wb") as file:
            image.header.write_to(file)


def write_labels_json(folder: str | Path, labels: Sequence[str], *, overwrite: bool = False) -> list[str]:
    """Write ``labels.json``: label names by number; an equal file is kept.

    Segmentations with other numbers in the same folder would be misread.

    Args:
        folder: gets the file.
        labels: names, background first.
        overwrite: replace another list.

    Returns:
        The file's name if another list was replaced.

    Raises:
        BadFileError: the folder has another list, or one that cannot be read.
    """
    path = Path(folder) / LABELS
    try:
        refuse_other_labels(folder, labels)
    except BadFileError:
        if not overwrite:
            raise
    else:
        if path.exists():
            return []
    with recorded(folder, "", "labels", planned=[LABELS], overwrite=overwrite, wait=10.0) as writing:
        write_json(path, {str(number): name for number, name in enumerate(labels)})
    return [LABELS] if writing.replaced else []


def refuse_other_labels(folder: str | Path, labels: Sequence[str]) -> None:
    """Reject a folder whose list of labels has other names, or cannot be read.

    Raises:
        BadFileError: it has such a list.
    """
    path = Path(folder) / LABELS
    if not path.exists():
        return
    try:
        found = read_json(path)
    except BadFileError as error:
        advice = "choose another output folder, or overwrite it"
        raise BadFileError(f"{error}; {advice}", options=["overwrite"]) from error
    ours = {str(number): name for number, name in enumerate(labels)}
    if not isinstance(found, dict) or {**found, "0": labels[0]} != ours:
        names = ", ".join(map(str, found.values())) if isinstance(found, dict) else "no list of labels"
        raise BadFileError(
            f"{path}: lists other labels ({names[:200]}) than this prior ({', '.join(labels)}); "
            "choose another output folder, or overwrite it",
            options=["overwrite"],
        )


def write_rendering(
    folder: str | Path,
    name: str,
    rendering: Rendering,
    labels: Sequence[str],
    *,
    stack: Stack | None = None,
    own: bool = False,
    format: str = "nii.gz",  # noqa: A002
) -> list[Path]:
    """Write ``NAME_seg.nii.gz``, ``NAME_image.nii.gz`` and, if present, one file of probabilities per class.

    Standard deviations over the posterior are written as ``NAME_std-LABEL.nii.gz``. File extensions follow
    ``format``, one of `FORMATS`.

    Returns:
        The files written.
    """
    folder = Path(folder)
    files: list[tuple[str, np.ndarray]] = [
        (f"{name}_seg.{format}", rendering.label),
        (f"{name}_image.{format}", rendering.image),
    ]
    for kind, values in (("probability", rendering.probability), ("std", rendering.deviation)):
        if values is not None:
            words = file_words(labels)
            files += [(f"{name}_{kind}-{word}.{format}", values[..., k]) for k, word in enumerate(words)]
    for file, data in files:
        write_volume(folder / file, data, rendering.grid, stack=stack, own=own)
    return [folder / file for file, _ in files]
