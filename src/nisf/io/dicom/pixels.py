"""Read the pixels of DICOM images, decoded by pydicom and its plugins."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nisf.errors import BadFileError
from nisf.io.dicom.names import Identifiers
from nisf.io.dicom.scan import Instance, quiet
from nisf.io.dicom.sources import Entry, Sources

if TYPE_CHECKING:
    from pydicom import Dataset

_PACKAGES = (
    ("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
    ("JPEG-LS", "pylibjpeg pylibjpeg-libjpeg"),
    ("JPEG", "pylibjpeg pylibjpeg-libjpeg"),
    ("RLE", "pylibjpeg pylibjpeg-rle"),
)


def check_whole(instances: Sequence[Instance], identifiers: Identifiers) -> None:
    """Reject headers that declare more than their files can hold, before anything is allocated.

    Raises:
        BadFileError: a header does.
    """
    for one in instances:
        if one.flaw is not None:
            raise BadFileError(
                f"{identifiers.hide(one.entry.shown)}: {one.flaw}; copy or export it again, or leave it out"
            )


def read_pixels(instances: Sequence[Instance], identifiers: Identifiers) -> list[np.ndarray]:
    """Stored numbers of each image (x, y), with slope and intercept applied where the header has them.

    Raises:
        BadFileError: pixels are missing, truncated, in colour, or in an unsupported compression.
    """
    by_entry: dict[Entry, list[int]] = {}
    for index, one in enumerate(instances):
        by_entry.setdefault(one.entry, []).append(index)
    out: list[np.ndarray] = [np.empty(0)] * len(instances)
    with Sources() as sources, quiet():
        for entry, indices in by_entry.items():
            whole = _dataset(entry, sources, identifiers)
            for index in indices:
                out[index] = _scaled(_decoded(whole, instances[index], identifiers), instances[index])
    return out


def _dataset(entry: Entry, sources: Sources, identifiers: Identifiers) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(io.BytesIO(sources.content(entry)), force=True)
    except Exception as error:  # pydicom raises many types, with values of the header in their messages
        raise BadFileError(
            f"{identifiers.hide(entry.shown)}: cannot be read ({type(error).__name__}); copy it again"
        ) from error


def _decoded(whole: Dataset, one: Instance, identifiers: Identifiers) -> np.ndarray:
    from pydicom.pixels import pixel_array
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    shown = identifiers.hide(one.entry.shown)
    if "TransferSyntaxUID" not in whole.file_meta:
        implicit, _ = whole.original_encoding
        whole.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = whole.file_meta.TransferSyntaxUID
    try:
        stored = pixel_array(whole, index=one.frame if one.frames_in_file > 1 else 0, raw=True)
    except Exception as error:
        if syntax.is_compressed and "missing dependencies" in str(error).lower():
            package = next((packages for name, packages in _PACKAGES if name in syntax.name), "pylibjpeg")
            raise BadFileError(
                f"{shown}: compressed as {syntax.name}, for which a package is missing: pip install {package}"
            ) from error
        raise BadFileError(
            f"{shown}: its pixels cannot be read ({type(error).__name__}); copy or export it again"
        ) from error
    if stored.shape != (one.rows, one.columns):
        raise BadFileError(f"{shown}: its pixels have the shape {stored.shape}; only grey images are read")
    return stored.T


def _scaled(stored: np.ndarray, one: Instance) -> np.ndarray:
    if (one.slope, one.intercept) == (1.0, 0.0):
        return stored
    return (stored * one.slope + one.intercept).astype(np.float32)
