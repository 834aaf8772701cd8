"""Writing the files of a part: nothing that is not ours is replaced, and everything is recorded."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from nisf.errors import BadFileError, NisfError
from nisf.files import Keeper, kept_by
from nisf.outputs.input_state import other_places, same_content
from nisf.outputs.lock import locked
from nisf.outputs.names import file_stem
from nisf.outputs.record import ENDING, Made, Part, Record, as_json, is_plain, mark_of, read_part, read_record


class Writing(Keeper):
    """A part while its files are written; `nisf.files.replacing` asks it.

    Attributes:
        files: paths below the folder of what was written so far.
        replaced: those of them that nisf had not written before, or that belonged to another part or input.
        removed: files of the part as it was before, which the new one does not have.
        superseded: what the part was made of before, if not of the same input and prior; else None.
    """

    def __init__(
        self,
        folder: Path,
        record: Record,
        part: str,
        made: Made,
        *,
        ours: Collection[str] = (),
        overwrite: bool = False,
    ) -> None:
        self._folder, self._record, self._part, self._overwrite = folder, record, part, overwrite
        self._before = record.parts.get(part)
        self._ours = set(ours)
        self.files: list[str] = []
        self.replaced: list[str] = []
        self.removed: list[str] = []
        self.superseded: str | None = None
        old = {} if self._before is None else self._before.files
        self.now = Part(made, "writing", dict(old))

    def check(self, names: Collection[str]) -> None:
        """Refuse files that are in the way.

        Raises:
            BadFileError: a file is not ours.
        """
        for name in names:
            self._check(name)

    def plan(self, names: Collection[str]) -> None:
        """Refuse files that are in the way, and note the others as being written.

        Raises:
            BadFileError: a file is not ours.
        """
        self.check(names)
        self.now.files |= {name: {} for name in names}
        self._save(self.now)

    def admit(self, path: Path, draft: Path) -> bool:
        """Whether ``draft`` is to replace ``path``; noted before it does.

        Raises:
            BadFileError: it lies outside of the folder, or is not ours.
        """
        name = self._name(path)
        if name not in self.files:
            if not self._owns(name) and _same_bytes(path, draft):
                return False
            self._check(name)
            self.files.append(name)
        if self.now.files.get(name) != {}:
            self.now.files[name] = {}
            self._save(self.now)
        return True

    def finish(self, *, goes_on: bool = False) -> None:
        """Hash what was written, remove what the part had before and has no more, and note it as done.

        Args:
            goes_on: nothing is removed, and belongs to the part still.
        """
        if goes_on:
            self.files += [name for name in self.now.files if (self._folder / name).is_file()]
            self.files = list(dict.fromkeys(self.files))
        for name in [name for name in self.now.files if name not in self.files]:
            path = self._folder / name
            if self._before is not None and self._before.wrote(self._folder, name):
                with suppress(OSError):
                    path.unlink()
                    self.removed.append(name)
            del self.now.files[name]
        self.now.files = {name: mark_of(self._folder / name) for name in self.files}
        self.now.state = "done"
        self._save(self.now)

    def give_up(self) -> None:
        """Leave the part as it was if nothing was written, and as unfinished otherwise."""
        self._save(self.now if self.files else self._before)

    def remarks(self) -> list[str]:
        """Sentences on what was replaced or removed that was worth keeping to somebody."""
        out = [] if self.superseded is None else [f"replaced a result that {self.superseded}"]
        if self.replaced:
            out.append(f"replaced {', '.join(self.replaced)}, not written by nisf for this output")
        if self.removed:
            out.append(f"removed {', '.join(self.removed)} of the result before")
        return out

    def _save(self, part: Part | None) -> None:
        # Read again: a part inside this one may have been written meanwhile.
        try:
            self._record = read_record(self._folder, self._record.name)
        except BadFileError:
            self._record = Record(self._folder, self._record.name)
        self._record.parts.pop(self._part, None)
        if part is not None:
            self._record.parts[self._part] = part
        self._record.write()

    def _name(self, path: Path) -> str:
        inside = os.path.relpath(os.path.abspath(path), os.path.abspath(self._folder)).replace(os.sep, "/")
        if inside == ".." or inside.startswith("../") or os.path.isabs(inside):
            raise BadFileError(
                f"{path}: lies outside of the output folder {self._folder}; nothing is written"
            )
        return inside

    def _owns(self, name: str) -> bool:
        path = self._folder / name
        if not os.path.lexists(path) or name in self._ours:
            return True
        return self._before is not None and self._before.wrote(self._folder, name)

    def _check(self, name: str) -> None:
        if self._owns(name):
            return
        if not self._overwrite:
            raise BadFileError(
                f"{self._folder / name}: {self._whose(name)}, and would be replaced; choose another output "
                "folder, or overwrite it",
                options=["overwrite"],
            )
        if (self._folder / name).is_dir():
            raise BadFileError(f"{self._folder / name}: a folder; choose another output folder")
        if name not in self.replaced:
            self.replaced.append(name)

    def _whose(self, name: str) -> str:
        for other, part in self._record.parts.items():
            if other != self._part and part.wrote(self._folder, name):
                return f"was written by '{other}'"
        if self._before is not None and self._before.files.get(name):
            return "was changed after nisf wrote it"
        return "was not written by nisf for this output"


@contextmanager
def claimed(folder: str | Path, name: str = "", *, wait: float = 0.0) -> Generator[None]:
    """Keep other processes from a case (or the folder's own files) for longer than one part takes.

    Raises:
        BusyError: another process has it.
        BadFileError: the folder cannot be made.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFileError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        with locked(folder, file_stem(name) if name else "", wait=wait):
            yield
    finally:
        for path in made:
            with suppress(OSError):  # one that was made for nothing
                path.rmdir()


@contextmanager
def recorded(
    folder: str | Path,
    name: str,
    part: str,
    made: Made | None = None,
    *,
    planned: Collection[str] = (),
    ours: Collection[str] = (),
    goes_on: bool = False,
    overwrite: bool = False,
    wait: float = 0.0,
) -> Generator[Writing]:
    """Everything that is written inside becomes a part of a record, and replaces nothing that is not ours.

    Args:
        folder: all files lie in it or below.
        name: of the case; empty for what belongs to the folder.
        part: what writes, e.g. ``measures``.
        made: of what.
        planned: files that are known to be written, which are refused before the block begins.
        ours: files that are known to be nisf's although no record says so.
        goes_on: what the part had before stays; otherwise it is removed if it is not written again.
        overwrite: replace whatever is there; `Writing.replaced` says what that was.
        wait: seconds to wait for another process that writes the same.

    Raises:
        BadFileError: a file is in the way, or a result of another input or prior.
        BusyError: another process writes the same.
    """
    with claimed(folder, name, wait=wait):
        writing = _begun(Path(folder), name, part, made, ours, overwrite)
        writing.plan(planned)
        try:
            with kept_by(writing):
                yield writing
        except BaseException:
            with suppress(OSError, NisfError):
                writing.give_up()
            raise
        writing.finish(goes_on=goes_on)


@contextmanager
def recorded_file(
    path: Path,
    what: str,
    *,
    folder: Path | None = None,
    made: Made | None = None,
    overwrite: bool = False,
) -> Generator[Writing]:
    """One file that is a part of its own, so that others of the same command stay; see `recorded`.

    Args:
        path: of the file.
        what: what writes it, e.g. ``mesh``.
        folder: whose record names it, one that holds the file; its own if None.
        made: of what.
        overwrite: replace whatever is there.
    """
    folder = path.parent if folder is None else folder
    inside = os.path.relpath(path, folder).replace(os.sep, "/")
    with recorded(folder, "", f"{what} {inside}", made, planned=[inside], overwrite=overwrite) as writing:
        yield writing


def refuse_to_replace(
    folder: str | Path, name: str, part: str, made: Made | None = None, *, planned: Collection[str] = ()
) -> None:
    """What `recorded` refuses before its block begins, and writes nothing.

    Arguments and errors are the same.
    """
    while True:
        before = read_part(folder, name, part)
        writing = _begun(Path(folder), name, part, made, (), False)
        try:
            return writing.check(planned)
        except BadFileError:
            # Nothing is locked here: another process may have written a file since the record was read.
            if read_part(folder, name, part) == before:
                raise


def remove_recorded(folder: str | Path, name: str, part: str) -> None:
    """Remove the files of a part that are as nisf wrote them, and the part; what else is there stays.

    Raises:
        BusyError: another process writes it.
        BadFileError: its record cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    with claimed(folder, name):
        record = read_record(folder, name)
        found = record.parts.pop(part, None)
        if found is None:
            return
        for file in found.files:
            if found.wrote(folder, file):
                (folder / file).unlink(missing_ok=True)
        with kept_by(None):
            record.write()


def _begun(
    folder: Path, name: str, part: str, made: Made | None, ours: Collection[str], overwrite: bool
) -> Writing:
    made = as_json(made or Made())
    try:
        record = read_record(folder, name)
    except BadFileError:
        if not overwrite:
            raise
        record = Record(folder, name)
    old = record.parts.get(part)
    writing = Writing(folder, record, part, made, ours=ours, overwrite=overwrite)
    writing.superseded = None if old is None else _superseded(old.made, made, name)
    if writing.superseded and not overwrite:
        raise BadFileError(
            f"{folder / (file_stem(name) if name else ENDING)}: {writing.superseded}, and would be replaced; "
            "choose another output folder, or overwrite it",
            options=["overwrite"],
        )
    return writing


def _superseded(old: Made, new: Made, name: str) -> str | None:
    """How a result differs from a new one in what makes it another's; None if it does not."""
    if other_places(old.inputs, new.inputs) and not same_content(old.inputs, new.inputs):
        return f"was made from another input of the name {name}"
    return f"was made with another prior ({old.prior})" if old.prior != new.prior else None


def _same_bytes(path: Path, draft: Path) -> bool:
    try:
        return (
            is_plain(path)
            and path.lstat().st_size == draft.lstat().st_size
            and mark_of(path)["sha256"] == mark_of(draft)["sha256"]
        )
    except (OSError, BadFileError):
        return False
