"""Large arrays backed by anonymous files, so that memory holds only the part in use.

Such an array behaves like any other. Its pages are read from the file when they are touched, and `let_go`
releases them, so that a loop over frames keeps one frame in memory. The file has no name, or is removed with
the process: nothing is left behind however the process ends.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

LARGE = 128 * 2**20
"""Arrays of at least this many bytes go into a file, unless a memory limit was given."""
PART_OF_MEMORY = 1 / 4
"""Fraction of the working memory that an array may take without going into a file."""
STEP = 16 * 2**20
"""Bytes of such an array that may be touched before its pages are released."""
MOST_OF_DISK = 0.9
"""Maximum fraction of a disk's free space to use."""
_FRAMES = 3
"""The axis of time in volumes (x, y, z, t, ...)."""

_folder: Path | None = None
_memory_mb: float | None = None


def use_scratch(folder: str | Path | None, memory_mb: float | None = None) -> None:
    """Set the folder for the files of large arrays; None uses the system's folder for temporary files.

    Args:
        folder: on a disk with enough space. On some machines the system's temporary folder is in memory.
        memory_mb: working memory, MiB, which determines what counts as large; `LARGE` if None.
    """
    global _folder, _memory_mb
    _folder, _memory_mb = None if folder is None else Path(folder), memory_mb


def is_large(nbytes: int) -> bool:
    """Whether an array of this many bytes goes into a file."""
    return nbytes >= (LARGE if _memory_mb is None else PART_OF_MEMORY * _memory_mb * 2**20)


def room(shape: tuple[int, ...], dtype: np.dtype | type, *, part_of: int = 0) -> np.ndarray:
    """Allocate an array, the first axis fastest in memory; in a file if it is large.

    If the file cannot be created, the array is in memory.

    Args:
        shape: shape of the array.
        dtype: data type of its numbers.
        part_of: total size in bytes of the arrays that belong together, if that is larger.

    Raises:
        MemoryError: there is not enough memory either.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if fits_into_files(max(nbytes, part_of)):
        with suppress(OSError, ValueError):
            return np.ndarray(shape, dtype, buffer=_mapped(nbytes), order="F")
    return np.empty(shape, dtype, order="F")


def let_go(array: np.ndarray) -> None:
    """Release the memory pages of an array, or of the one that it is a view into; the contents are kept.

    Does nothing for arrays in memory. Other threads may use the same array meanwhile.
    """
    mapping = _mapping(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        with suppress(OSError, ValueError):
            mapping.madvise(mmap.MADV_DONTNEED)


def fits_into_files(nbytes: int) -> bool:
    """Whether this many bytes count as large, and the disk has space for them."""
    with suppress(OSError):
        return is_large(nbytes) and nbytes < MOST_OF_DISK * shutil.disk_usage(_place()).free
    return False


def by_frame(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over index and frame of a volume (x, y, z, t, ...); pages are released after each frame."""
    for t in range(array.shape[_FRAMES]):
        yield t, array[:, :, :, t]
        let_go(array)


def packed(array: np.ndarray) -> np.ndarray:
    """A volume (x, y, z, t, ...) with its first axis fastest in memory; the same object if it already is."""
    if array.flags.f_contiguous or not is_large(array.nbytes) or array.ndim <= _FRAMES:
        return np.asfortranarray(array)
    out = room(array.shape, array.dtype)
    for t, frame in by_frame(array):
        out[:, :, :, t] = frame
        let_go(out)
    return out


def voxel_bytes(array: np.ndarray, dtype: np.dtype) -> Iterator[bytes]:
    """The voxels (x, y, z, ...) as the bytes of a file of this type, first axis fastest, frame by frame."""
    for index in np.ndindex(*array.shape[:2:-1]):
        yield array[(..., *index[::-1])].astype(dtype, copy=False).tobytes(order="F")
        let_go(array)


def _place() -> Path:
    return Path(tempfile.gettempdir()) if _folder is None else _folder


def _mapped(nbytes: int) -> mmap.mmap:
    """Map a new file of this size, whose disk space is allocated at once.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with tempfile.TemporaryFile(prefix=".writing-", dir=_place()) as file:
        if hasattr(os, "posix_fallocate"):
            # Without allocation, a full disk would later end the process with a signal.
            os.posix_fallocate(file.fileno(), 0, nbytes)
        else:
            piece = bytes(2**20)
            for _ in range(-(-nbytes // len(piece))):
                file.write(piece)
            file.flush()
        return mmap.mmap(file.fileno(), nbytes)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.obj if isinstance(base, memoryview) else base.base
    return base if isinstance(base, mmap.mmap) else None
