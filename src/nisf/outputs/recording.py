"""Write the files of a part: foreign files are never replaced, and everything is recorded."""

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
    """A part while its files are written; `nisf.files.replacing` consults it.

    Attributes:
        files: relative paths of the files written so far.
        replaced: those that nisf had not written before, or that belonged to another part or input.
        removed: files of the part's earlier version that the new one does not have.
        superseded: how the earlier version differs, if its input or prior differs; else None.
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
        """Reject files that are in the way.

        Raises:
            BadFileError: a file was not written by nisf for this part.
        """
        for name in names:
            self._check(name)

    def plan(self, names: Collection[str]) -> None:
        """Reject files that are in the way, and record the others as being written.

        Raises:
            BadFileError: a file was not written by nisf for this part.
        """
        self.check(names)
        self.now.files |= {name: {} for name in names}
        self._save(self.now)

    def admit(self, path: Path, draft: Path) -> bool:
        """Whether ``draft`` may replace ``path``; recorded before it does.

        Raises:
            BadFileError: the path is outside the folder, or not a file of this part.
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
        """Hash the files, remove files of the earlier version that are obsolete, and mark the part as done.

        Args:
            goes_on: keep the files of the earlier version, which still belong to the part.
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
        """Sentences about files that were replaced or removed and could matter to someone."""
        out = [] if self.superseded is None else [f"replaced a result that {self.superseded}"]
        if self.replaced:
            out.append(f"replaced {', '.join(self.replaced)}, not written by nisf for this output")
        if self.removed:
            out.append(f"removed {', '.join(self.removed)} of the earlier result")
        return out

    def _save(self, part: Part | None) -> None:
        # Read again, because a part inside this one may have been written meanwhile.
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
            raise BadFileError(f"{path}: is outside the output folder {self._folder}; nothing is written")
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
    """Keep other processes away from a case (or the folder's own files) while several parts are written.

    Raises:
        BusyError: another process has it.
        BadFileError: the folder cannot be created.
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
            with suppress(OSError):  # removes a folder that stayed empty
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
    """Everything written inside this context becomes a part of a record; foreign files are never replaced.

    Args:
        folder: contains all files.
        name: name of the case; empty for the folder's own files.
        part: what writes, e.g. ``measures``.
        made: what the files are made from.
        planned: known file names, which are checked before the block begins.
        ours: files known to be written by nisf although no record lists them.
        goes_on: keep the part's earlier files; otherwise those not written again are removed.
        overwrite: replace any file; `Writing.replaced` lists them.
        wait: seconds to wait for another process that writes the same part.

    Raises:
        BadFileError: a file is in the way, or a result of another input or prior.
        BusyError: another process is writing the same.
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
    """Write one file as a part of its own, so that other files of the same command stay; see `recorded`.

    Args:
        path: path of the file.
        what: what writes it, e.g. ``mesh``.
        folder: the folder whose record lists the file, which contains it; by default, the file's own.
        made: what the file is made from.
        overwrite: replace any file.
    """
    folder = path.parent if folder is None else folder
    inside = os.path.relpath(path, folder).replace(os.sep, "/")
    with recorded(folder, "", f"{what} {inside}", made, planned=[inside], overwrite=overwrite) as writing:
        yield writing


def refuse_to_replace(
    folder: str | Path, name: str, part: str, made: Made | None = None, *, planned: Collection[str] = ()
) -> None:
    """Do the checks of `recorded` without writing anything.

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
    """Remove a part, and those of its files that are unchanged; edited files stay.

    Raises:
        BusyError: another process is writing it.
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
    """How a result differs from a new one in input or prior; None if it does not."""
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
