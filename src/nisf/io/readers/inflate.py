"""The bytes of a file, plain or gzip, up to a limit.

Python's gzip module cannot be told where to stop, and holds the interpreter lock for longer. With one zlib
call per megabyte, threads unpack files in parallel.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from nisf.errors import BadFileError

_CHUNK = 1 << 20
_PIECE = 1 << 23
_MAX_DEFLATE_RATIO = 1032  # maximum unpacked bytes per byte of deflate data, from zlib's documentation


def most_held(path: Path) -> int:
    """Maximum number of unpacked bytes that a file can hold, judged by its size."""
    return path.stat().st_size * (_MAX_DEFLATE_RATIO if is_gzip(path) else 1)


def truncated(path: Path, declared: int, held: int) -> BadFileError:
    """The error of a file that holds fewer bytes than it declares."""
    return BadFileError(
        f"{path}: truncated, {declared} bytes are needed but the file holds at most {held}; "
        "copy or download it again"
    )


def is_gzip(path: Path) -> bool:
    """Whether the content is gzip, regardless of the name."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def unpacked(path: Path, limit: int) -> Iterator[bytes]:
    """Yield up to ``limit`` bytes of the file's content in pieces, unpacked if it is gzip.

    A checksum directly after the last byte is verified.

    Raises:
        BadFileError: the file cannot be read, or its gzip data are corrupt.
    """
    packed = is_gzip(path)
    chunk = min(_CHUNK, max(4096, limit))
    inflate = zlib.decompressobj(31)
    try:
        with path.open("rb") as file:
            while data := file.read(chunk):
                if not packed:
                    yield data[:limit]
                    limit -= len(data)
                    if limit <= 0:
                        return
                more = False
                while packed and (data or more):
                    # One byte more than wanted makes zlib read on and verify its checksum. Never everything
                    # at once: a megabyte can unpack to a gigabyte.
                    most = min(limit + 1, _PIECE)
                    piece = inflate.decompress(data, most)
                    more = len(piece) == most
                    yield piece[:limit]
                    if len(piece) > limit:
                        return
                    limit -= len(piece)
                    data = inflate.unconsumed_tail
                    if inflate.eof:  # bgzip and others write several members one after another
                        data, more = inflate.unused_data, False
                        inflate = zlib.decompressobj(31)
                        if limit == 0 or not data.startswith(b"\x1f\x8b"[: len(data)]):
                            return  # padding after the last member
    except zlib.error as error:
        raise BadFileError(f"{path}: corrupt gzip data ({error}); copy or download it again") from error
    except OSError as error:
        raise BadFileError(
            f"{path}: cannot be read ({error.strerror}); check disk and permissions"
        ) from error
