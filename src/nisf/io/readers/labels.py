"""Convert a stack's label files to class indices on its grid.

Numbers become indices into the anatomy's labels. A 0 in a file is not always background. A frame without any
label was not annotated and is unknown. If a class was not drawn (in the whole cohort, or in one frame of a
cine), it may be hidden among the zeros, which are then unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.data.case import UNKNOWN, UNKNOWN_NAME
from nisf.errors import BadFileError
from nisf.io.readers.listing import CaseFiles, StackFiles
from nisf.io.readers.matching import StackGeometry, label_arrangement
from nisf.io.readers.nifti import Header, read_numbers
from nisf.io.readers.segments import names_in_file

Notes = dict[str, str]
"""Remarks by kind: `setdefault` keeps the first, so that each kind is reported once per cohort."""


def read_labels(
    files: StackFiles, case: CaseFiles, anatomy: Anatomy, image: Header, on: StackGeometry, notes: Notes
) -> np.ndarray | None:
    """Class indices (x, y, z, t), int8, of a stack; background wherever files have 0; None without labels.

    Args:
        files: files of the stack.
        case: defines the numbers, and which classes were drawn.
        anatomy: its label names.
        image: header of the stack's first image.
        on: geometry of the images.
        notes: remarks are added here.

    Raises:
        BadFileError: a file cannot be read, its shape does not fit, or it has unexpected numbers.
    """
    if not any(files.labels):
        return None
    names = case.numbers if files.numbers is None else files.numbers
    frames = len(on.grid.times)
    label = np.full((*on.grid.shape, frames), UNKNOWN, dtype=np.int8, order="F")
    for t, path in enumerate(files.labels):
        if path is None:
            continue
        numbers, header = read_numbers(path)
        own = label_arrangement(header, image, on, notes)
        table = class_table(numbers, names_in_file(path, names, anatomy, notes), anatomy, path)
        part = slice(None) if len(files.labels) == 1 else slice(t, t + 1)
        label[..., part] = own.apply(table[numbers])
    return label


def class_table(numbers: np.ndarray, names: Mapping[int, str], anatomy: Anatomy, path: Path) -> np.ndarray:
    """Class index of each number in ``numbers`` (any shape): ``table[number]``, int8.

    Raises:
        BadFileError: numbers without a name, or with a name that the anatomy lacks.
    """
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high > 65535:
        present = [int(number) for number in np.unique(numbers)]
    else:
        seen = np.zeros(high + 1, dtype=bool)
        seen[numbers.ravel(order="K")] = True
        present = [int(number) for number in np.flatnonzero(seen)]
    index = {name: i for i, name in enumerate(anatomy.labels)} | {UNKNOWN_NAME: UNKNOWN}
    classes = {0: 0} | {number: index[name] for number, name in names.items() if name in index}
    if strange := [number for number in present if number not in classes]:
        expected = ", ".join(f"{n} {names[n]}" for n in sorted(names) if names[n] in index) or "none"
        raise BadFileError(
            f"{path}: unexpected label values {strange[:10]}; numbers with a name in {anatomy.name} are: "
            f"{expected}; give the right layout or anatomy, or correct the file"
        )
    table = np.zeros(high + 1, dtype=np.int8)
    for number in present:
        table[number] = classes[number]
    return table


def hide_undrawn(label: np.ndarray, classes: int, *, background_known: bool) -> np.ndarray | None:
    """Set whatever was not drawn to `UNKNOWN`, in place; see the module's rules.

    Args:
        label: class indices (x, y, z, t).
        classes: number of classes, background included.
        background_known: whether zeros are background; see `nisf.io.readers.listing.CaseFiles`.

    Returns:
        The same array; None if no frame has any label, because an empty file was not annotated.
    """
    frames = label.shape[3]
    drawn = np.zeros((frames, classes), dtype=bool)
    for t in range(frames):
        frame = label[..., t].ravel(order="K")
        drawn[t, frame[frame > 0]] = True
    if not drawn.any():
        return None
    for t in range(frames):
        if not drawn[t].any():
            label[..., t] = UNKNOWN
        elif not background_known or (drawn[t] != drawn.any(axis=0)).any():
            label[..., t][label[..., t] == 0] = UNKNOWN
    return label
