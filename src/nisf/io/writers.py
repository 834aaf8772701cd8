"""Write answers as NIfTI files that overlay on their input in any viewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nisf.data.arrangement import same_place
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.errors import BadFileError, BadSettingError
from nisf.files import read_json, replacing, write_json
from nisf.io.readers.header import header_to_write, read_header
from nisf.outputs import file_words, recorded
from nisf.subject.rendering import Rendering

LABELS = "labels.json"
"""The file that says which number is which structure."""


def _header(grid: Grid, stack: Stack | None):
    """A new header and affine for data on ``grid``."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "msec")
    code = 1 if stack is None or stack.oriented else 2
    header.set_data_shape((*grid.shape, len(grid.times)))
    header.set_qform(grid.affine.matrix, code)
    header.set_sform(grid.affine.matrix, code)
    return header, grid.affine.matrix


def _source_header(stack: Stack):
    """Header and affine of the file that a stack was read from; None if it is not there or another one."""
    if stack.source is None:
        return None
    try:
        found = read_header(stack.source)
        if not same_place(stack.arrangement.of_grid(found.grid), stack.grid):
            return None
        return header_to_write(stack.source)
    except BadFileError:
        return None


def write_volume(
    path: str | Path,
    data: np.ndarray,
    grid: Grid,
    *,
    stack: Stack | None = None,
    own: bool = False,
) -> None:
    """Write ``(x, y, z, t)`` or ``(x, y, z, t, c)`` as NIfTI; axes of length 1 at the end are dropped.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        data: uint8 labels or float32 intensities.
        grid: where the voxels are.
        stack: the measured stack the answer belongs to.
        own: whether ``grid`` is the stack's own, so that the source file's header and affine are taken.

    Raises:
        BadSettingError: the file's name ends in something else.
        BadFileError: the file cannot be written.
    """
    import nibabel as nib

    if not str(path).endswith((".nii", ".nii.gz")):
        raise BadSettingError(f"{path}: name the file .nii.gz or .nii")
    source = _source_header(stack) if own and stack is not None else None
    if own and stack is not None:
        data = np.asfortranarray(stack.arrangement.undo(data))
        grid = stack.arrangement.undo_grid(grid)
    header, affine = _header(grid, stack) if source is None else source
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    header.set_data_dtype(data.dtype)
    image = nib.Nifti1Image(data, affine, header)
    zooms = list(image.header.get_zooms())
    if source is None:
        zooms[:3] = grid.spacing.tolist()
    if data.ndim > 3:
        cycle_ms = None if stack is None else stack.cycle_ms
        kept = source is not None and len(header.get_zooms()) > 3 and float(header.get_zooms()[3]) > 0
        zooms[3] = float(header.get_zooms()[3]) if kept else (cycle_ms / len(grid.times) if cycle_ms else 1.0)
    image.header.set_zooms(zooms)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def write_labels_json(folder: str | Path, labels: Sequence[str], *, overwrite: bool = False) -> list[str]:
    """``labels.json``: label number to name; one that says the same already stays.

    Segmentations with other numbers in one folder would be misread.

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
    """Refuse a folder whose list of labels has other names, or cannot be read.

    Raises:
        BadFileError: it does.
    """
    path = Path(folder) / LABELS
    if not path.exists():
        return
    found, ours = read_json(path), {str(number): name for number, name in enumerate(labels)}
    if not isinstance(found, dict) or {**found, "0": labels[0]} != ours:
        names = ", ".join(map(str, found.values())) if isinstance(found, dict) else "no list of labels"
        raise BadFileError(
            f"{path}: another list of labels ({names[:200]}) than that of this prior ({', '.join(labels)}); "
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
) -> list[Path]:
    """Write ``NAME_seg.nii.gz``, ``NAME_image.nii.gz`` and, if present, one file of probabilities per class.

    Standard deviations over the posterior come likewise, as ``NAME_std-LABEL.nii.gz``.

    Returns:
        The files written.
    """
    folder = Path(folder)
    files: list[tuple[str, np.ndarray]] = [
        (f"{name}_seg.nii.gz", rendering.label),
        (f"{name}_image.nii.gz", rendering.image),
    ]
    for kind, values in (("probability", rendering.probability), ("std", rendering.deviation)):
        if values is not None:
            words = file_words(labels)
            files += [(f"{name}_{kind}-{word}.nii.gz", values[..., k]) for k, word in enumerate(words)]
    for file, data in files:
        write_volume(folder / file, data, rendering.grid, stack=stack, own=own)
    return [folder / file for file, _ in files]
