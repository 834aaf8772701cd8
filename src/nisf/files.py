"""Atomic writing, and reading with clear error messages."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nisf.errors import BadFileError

if TYPE_CHECKING:
    from torch import Tensor, nn


DRAFT = ".writing-"
"""How temporary names begin."""
STALE_SECONDS = 7 * 24 * 3600.0
"""Age from which a temporary file of another machine is taken for forgotten."""
_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


class Keeper(ABC):
    """Decides whether a file may be replaced and records what is written; see `nisf.outputs.record`."""

    @abstractmethod
    def admit(self, path: Path, draft: Path) -> bool:
        """Whether ``draft`` should replace ``path``; False if they are equal.

        Raises:
            BadFileError: ``path`` must not be replaced.
        """


_keeper: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def kept_by(keeper: Keeper | None) -> Generator[None]:
    """Ask this keeper about every file written inside the block; None disables it."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)


def draft_prefix() -> str:
    """Prefix of this process's temporary names."""
    return f"{DRAFT}{_HERE}-{os.getpid()}-"


def remove_stale(folder: Path) -> None:
    """Remove temporary files and folders left behind by processes that no longer exist."""
    for path in folder.glob(f"{DRAFT}*"):
        here, _, rest = path.name.removeprefix(DRAFT).partition("-")
        number = rest.partition("-")[0]
        with suppress(OSError):
            if here == _HERE and number.isascii() and number.isdecimal() and os.name == "posix":
                gone = not _alive(int(number))
            else:
                gone = time.time() - path.stat().st_mtime > STALE_SECONDS
            if gone and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif gone:
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """Yield a temporary path in the same folder that is renamed to ``path`` if the block succeeds.

    The temporary name has the same ending as ``path``, for writers that look at it. Every file that nisf
    writes goes through this function, so that the `Keeper` is asked.

    Raises:
        BadFileError: the folder cannot be created or written, or the keeper refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=draft_prefix(), suffix=path.name[-24:], dir=path.parent)
    except OSError as error:
        raise BadFileError(
            f"{path.parent}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        keeper = _keeper.get()
        if keeper is None or keeper.admit(path, temporary):
            _to_disk(temporary)
            temporary.chmod(0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask of permissions for new files."""
    # Linux tells it. Elsewhere it can only be read by setting it, while other threads may create files.
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/status").read_text().split("Umask:")[1].split()[0], 8)
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _to_disk(path: Path) -> None:
    """Flush a file to disk: its name must not reach the disk before its content."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Raises:
        BadFileError: the file cannot be written.
    """
    with (
        replacing(path) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path: str | Path, data: Any, indent: int | None = 2) -> None:
    """Write ``data`` atomically as JSON, by default indented.

    Without indentation the standard library's fast encoder is used: right for long lists of numbers.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def parse_json(text: str) -> Any:
    """Parse JSON in which no object has an entry twice, of which one would be lost.

    Raises:
        ValueError: it is not JSON, or an entry is there twice.
        RecursionError: it is nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the entry {twice[:40]!r} is there twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        BadFileError: it is missing, not JSON, or has an entry twice.
    """
    path = Path(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: this file is missing") from error
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: cannot be read as JSON ({error})") from error
    except RecursionError as error:
        raise BadFileError(f"{path}: cannot be read as JSON (nested too deeply)") from error


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors atomically as safetensors."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing_safetensors(path) as temporary:
        save_file(contiguous, temporary, None if metadata is None else dict(metadata))


@contextmanager
def replacing_safetensors(path: str | Path) -> Generator[Path]:
    """`replacing` for the safetensors library, which raises its own error on a full disk.

    Raises:
        BadFileError: as `replacing`.
    """
    from safetensors import SafetensorError

    with replacing(path) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            raise BadFileError(f"{path}: cannot be written ({error})") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a safetensors file.

    Raises:
        BadFileError: it is missing, or not a safetensors file.
    """
    with _safetensors(path, "pt") as file:
        # Copied: they are mapped, and the program would end with a bus error if somebody cut the file.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        BadFileError: it is missing, or not a safetensors file.
    """
    with _safetensors(path, "numpy") as file:
        return dict(file.metadata() or {})


@contextmanager
def _safetensors(path: str | Path, framework: str) -> Generator[Any]:
    """Open a safetensors file; its tensors are those of ``framework``.

    Raises:
        BadFileError: it is missing, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise BadFileError(f"{path}: this file is missing")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{path}: not a whole safetensors file ({error})") from error


def load_part(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the tensors under ``prefix`` into a module, strictly.

    Raises:
        BadFileError: a tensor is missing, unexpected or has the wrong shape; the message names ``path``.
    """
    wanted = module.state_dict()
    have = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    missing, extra = sorted(set(wanted) - set(have)), sorted(set(have) - set(wanted))
    shapes = [n for n in wanted if n in have and wanted[n].shape != have[n].shape]
    if missing or extra or shapes:
        name = (missing or extra or shapes)[0]
        what = "is missing" if missing else "is not expected" if extra else "has another shape"
        raise BadFileError(
            f"{path}: tensor '{prefix}{name}' {what}; weights and settings do not belong together"
        )
    module.load_state_dict(have)


def check_writable(folder: str | Path) -> Path:
    """Create ``folder`` and check that it can be written, before any long computation.

    Raises:
        BadFileError: it cannot be created or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: another process may be trying the same.
        with tempfile.NamedTemporaryFile(prefix=draft_prefix(), suffix=".test", dir=folder) as file:
            file.write(b"x")
        remove_stale(folder)
    except OSError as error:
        raise BadFileError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    return folder
