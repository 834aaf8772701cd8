"""Sources of DICOM data: files in folders and members of zip archives, in any nesting, with any names.

Nothing is extracted to disk, so no member can escape the folder; the unpacked size of a member is bounded.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nisf.errors import BadFileError

MAX_MEMBER = 2**31
"""Maximum unpacked size of one member of a zip, bytes."""
MAX_MEMBERS = 200_000
MAX_TOTAL = 2**36
MAX_RATIO = 250
"""Maximum ratio of unpacked to packed bytes for members of more than a megabyte; images stay far below."""

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
"""Extensions of archives and compressed files."""
_REPRESENTATIONS = {b"AE", b"CS", b"DA", b"IS", b"LO", b"OB", b"PN", b"SH", b"ST", b"TM", b"UI", b"UL", b"US"}


@dataclass(frozen=True)
class Entry:
    """One file, or one member of a zip archive.

    Attributes:
        path: the file, or the archive.
        member: name in the archive; None for a file.
        size: bytes, unpacked.
    """

    path: Path
    member: str | None
    size: int

    @property
    def shown(self) -> str:
        """Name for messages; may contain identifiers."""
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"


class Sources:
    """Opens entries; archives stay open until the end of the ``with`` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, entry: Entry, count: int = 1024) -> bytes:
        """The first bytes of an entry.

        Raises:
            OSError, zipfile.BadZipFile: it cannot be read.
        """
        if entry.member is None:
            with entry.path.open("rb") as file:
                return file.read(count)
        with self.archive(entry.path).open(entry.member) as file:
            return file.read(count)

    def content(self, entry: Entry) -> bytes:
        """All bytes of an entry; errors as `start`."""
        if entry.member is None:
            return entry.path.read_bytes()
        with self.archive(entry.path).open(entry.member) as file:
            return file.read(entry.size)

    def archive(self, path: Path) -> zipfile.ZipFile:
        """The archive, opened once."""
        if path not in self._archives:
            self._archives[path] = self._stack.enter_context(zipfile.ZipFile(path))
        return self._archives[path]


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file with these first bytes is DICOM, with or without its preamble."""
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in (b"\x02\x00", b"\x08\x00") or len(start) < 132:
        return False
    element, length = int.from_bytes(start[2:4], "little"), int.from_bytes(start[4:8], "little")
    return element <= 0x70 and (start[4:6] in _REPRESENTATIONS or length <= 1024)


def is_archive(path: Path) -> bool:
    """Whether the content is a zip, whatever the name says."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def entries(root: Path, notes: dict[str, str]) -> Iterator[Entry]:
    """Every file in a folder, member of a zip, or a single file; they need not be DICOM.

    Args:
        root: the folder, zip or file.
        notes: remarks by kind are added here; kinds of problems that lose a study start with "broken".

    Raises:
        BadFileError: the root is an archive that cannot be read, or would unpack to a suspicious size.
    """
    files = _walk(root) if root.is_dir() else iter([root])
    for path in files:
        if path.is_symlink() and not path.exists():
            notes[f"broken {path}"] = f"{path}: a link with a missing target; fetch it, or repair the link"
        if not path.is_file() or path.stat().st_size < 132:
            continue
        if is_archive(path):
            try:
                yield from _members(path, notes)
            except BadFileError as error:
                if path == root:
                    raise
                notes[f"broken {path}"] = str(error)
        elif path.name.upper() != "DICOMDIR":
            yield Entry(path, None, path.stat().st_size)


def _walk(root: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _members(path: Path, notes: dict[str, str]) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise BadFileError(
            f"{path}: cannot be read as a zip ({type(error).__name__}); copy or download it again"
        ) from error
    total = sum(info.file_size for info in members)
    if len(members) > MAX_MEMBERS or total > MAX_TOTAL:
        raise BadFileError(
            f"{path}: {len(members)} members that unpack to {total} bytes, more than {MAX_MEMBERS} or "
            f"{MAX_TOTAL}; unpack what you need yourself, and give the folder"
        )
    for info in members:
        name = info.filename.rsplit("/", 1)[-1]
        if name.startswith(".") or name.upper() == "DICOMDIR" or info.file_size < 132:
            continue
        if name.lower().endswith(ARCHIVES):
            notes.setdefault("nested", f"{path}: archives in the archive are not opened; unpack them first")
            continue
        if info.flag_bits & 1:
            raise BadFileError(f"{path}: encrypted; unpack it yourself, and give the folder")
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER or (info.file_size > 2**20 and ratio > MAX_RATIO):
            raise BadFileError(
                f"{path}: a member declares that it unpacks from {info.compress_size} to {info.file_size} "
                "bytes, which no image does; make the archive again"
            )
        yield Entry(path, info.filename, info.file_size)
