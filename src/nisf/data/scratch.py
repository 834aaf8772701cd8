"""Large arrays backed by anonymous files, so that memory holds only the part in use.

Such an array is like any other. Its pages come from the file when they are touched, and `let_go` gives them
back, so that a loop over frames holds a frame. The file has no name in its folder, or loses it with the
process: nothing is left behind however the process ends.
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
"""Bytes from which an array is put into a file, where nothing is said about memory."""
PART_OF_MEMORY = 1 / 4
"""Of the working memory: what an array may take of it without being put into a file."""
STEP = 32 * 2**20
"""Bytes of such an array that may be touched before its pages are given back."""
MOST_OF_DISK = 0.9
"""Share of a disk's free space that is taken at most."""
_FRAMES = 3
"""The axis of time in volumes (x, y, z, t, ...)."""

_folder: Path | None = None
_memory_mb: float | None = None


def use_scratch(folder: str | Path | None, memory_mb: float | None = None) -> None:
    """Have the files of large arrays made in a folder; None takes the system's for temporary files.

    Args:
        folder: on a disk with room for them. What the system calls temporary is memory on some machines.
        memory_mb: working memory, MiB, which says from what size on arrays are large; `LARGE` if None.
    """
    global _folder, _memory_mb
    _folder, _memory_mb = None if folder is None else Path(folder), memory_mb


def is_large(nbytes: int) -> bool:
    """Whether an array of so many bytes is put into a file."""
    return nbytes >= (LARGE if _memory_mb is None else PART_OF_MEMORY * _memory_mb * 2**20)


def room(shape: tuple[int, ...], dtype: np.dtype | type, *, part_of: int = 0) -> np.ndarray:
    """An array to be filled, the first axis fastest in memory; in a file if it is large.

    Where the file cannot be made it is in memory.

    Args:
        shape: of the array.
        dtype: of its numbers.
        part_of: bytes of all the arrays that it is one of, where they are large together.

    Raises:
        MemoryError: there it does not fit either.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if fits_into_files(max(nbytes, part_of)):
        with suppress(OSError, ValueError):
            return np.ndarray(shape, dtype, buffer=_mapped(nbytes), order="F")
    return np.empty(shape, dtype, order="F")


def let_go(array: np.ndarray) -> None:
    """Give the pages back that hold an array, or the one that it is a view into; what they say stays.

    Nothing happens to an array in memory. Others may read and write the same array meanwhile.
    """
    mapping = _mapping(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        with suppress(OSError, ValueError):
            mapping.madvise(mmap.MADV_DONTNEED)


def fits_into_files(nbytes: int) -> bool:
    """Whether so many bytes are large, and the disk has room for them."""
    with suppress(OSError):
        return is_large(nbytes) and nbytes < MOST_OF_DISK * shutil.disk_usage(_place()).free
    return False


def by_frame(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Index and frame of a volume (x, y, z, t, ...), one by one; pages are given back after each."""
    for t in range(array.shape[_FRAMES]):
        yield t, array[:, :, :, t]
        let_go(array)


def packed(array: np.ndarray) -> np.ndarray:
    """A volume (x, y, z, t, ...) with its first axis fastest in memory; itself, if it is so already."""
    if array.flags.f_contiguous or not is_large(array.nbytes) or array.ndim <= _FRAMES:
        return np.asfortranarray(array)
    out = room(array.shape, array.dtype)
    for t, frame in by_frame(array):
        out[:, :, :, t] = frame
        let_go(out)
    return out


def voxel_bytes(array: np.ndarray, dtype: np.dtype) -> Iterator[bytes]:
    """The voxels (x, y, z, ...) as a file of this type has them, first axis fastest, a frame at a time."""
    for index in np.ndindex(*array.shape[:2:-1]):
        yield array[(..., *index[::-1])].astype(dtype, copy=False).tobytes(order="F")
        let_go(array)


def _place() -> Path:
    return Path(tempfile.gettempdir()) if _folder is None else _folder


def _mapped(nbytes: int) -> mmap.mmap:
    """A mapping of a new file of this size, whose place on the disk is taken at once.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with tempfile.TemporaryFile(prefix=".writing-", dir=_place()) as file:
        if hasattr(os, "posix_fallocate"):
            # A page that finds no place on the disk later would end the process by a signal.
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
