"""Arrays in a memory-mapped file, of which only the accessed parts are read.

The file is a safetensors file. Its own library reads whole arrays; here each array is a view of the mapped
file, which takes one file descriptor for any number of arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nisf.errors import MALFORMED, BadFileError
from nisf.files import kept_by, replacing_safetensors

HEADER_BYTES = 1 << 24
"""Maximum length of a header."""
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
TYPES = {**FLOATS, "I8": "i1", "U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], notes: Any) -> None:
    """Write arrays and metadata atomically; the file is not listed in any record of outputs.

    Args:
        path: path of the file.
        arrays: by name.
        notes: JSON metadata.
    """
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with kept_by(None), replacing_safetensors(path) as temporary:
        save_file(whole, temporary, {"notes": json.dumps(notes)})


def mapped_arrays(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays and the metadata of a file written by `write_arrays`.

    Arrays are mapped copy-on-write: writing to them does not change the file.

    Raises:
        BadFileError: the file is missing or something else.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="c", offset=8 + length)
        notes = json.loads(header.pop("__metadata__")["notes"])
        return {name: _view(np.asarray(data), entry) for name, entry in header.items()}, notes
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: this file is missing") from error
    except (OSError, *MALFORMED) as error:
        raise BadFileError(f"{path}: not a complete file of arrays ({error}); remove it") from error


def _view(data: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= len(data):
        raise ValueError("it was cut short")
    return data[first:last].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
