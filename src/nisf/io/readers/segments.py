"""The names that a segmentation of 3D Slicer (``.seg.nrrd``) gives to its label numbers.

3D Slicer numbers segments in the order in which they were made, which may differ from file to file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.io.readers.itk import text_fields
from nisf.io.readers.listing import whole_number

ENDING = ".seg.nrrd"
_NAME = re.compile(r"segment(\d{1,9})_name")


def segment_names(path: Path) -> dict[int, str]:
    """Names of a ``.seg.nrrd`` file's segments by label number; empty for other files.

    Raises:
        BadFileError: its header cannot be read.
    """
    if not path.name.lower().endswith(ENDING):
        return {}
    # Additional entries are written KEY:=VALUE; text is UTF-8.
    fields = {
        key: value.removeprefix("=").encode("latin-1").decode("utf-8", "replace").strip()
        for key, value in text_fields(path).items()
    }
    found = {}
    for key, name in fields.items():
        match = _NAME.fullmatch(key)
        number = whole_number(fields.get(f"segment{match[1]}_labelvalue", "")) if match else None
        if number is not None:
            found[number] = name
    return found


def names_in_file(
    path: Path, names: Mapping[int, str], anatomy: Anatomy, notes: dict[str, str]
) -> Mapping[int, str]:
    """What the label numbers of a file mean: what the file says itself, else what its layout says.

    Args:
        path: label file.
        names: label names by number, as its layout gives them.
        anatomy: its structures; upper and lower case in the file's names do not matter.
        notes: a remark is added here if the file names segments, but none as the anatomy does.

    Raises:
        BadFileError: its header cannot be read.
    """
    told = segment_names(path)
    spelled = anatomy.spelled()
    own = {number: spelled[name.lower()] for number, name in told.items() if name.lower() in spelled}
    if told and not own:
        notes.setdefault(
            "segment_names",
            f"{path} (and maybe others): its segments are named {', '.join(told.values())[:200]}, and not "
            f"like the labels of {anatomy.name}, so its label numbers are used; rename them in 3D Slicer if "
            "the numbers differ from file to file",
        )
    return own or names
