"""Parse option values, with one-sentence errors."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from pathlib import Path

from nisf.errors import BadFileError, BadSettingError, NoSuchModelError
from nisf.prior.bundled import model_names


def refuse_missing(paths: Sequence[Path | None]) -> None:
    """Reject missing paths, before slow imports.

    Patterns, dead links, and one of several paths are left to the readers.

    Raises:
        BadFileError: a path does not exist; the message names it.
    """
    for path in paths:
        if path is None:
            continue
        if not os.path.lexists(path):
            if not glob.has_magic(str(path)):
                raise BadFileError(f"{path}: no such file or folder; check the path")
        elif os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise BadFileError(f"{path}: neither a file nor a folder; give one")


def refuse_other_than_folder(path: Path) -> None:
    """Reject a path at which there is no folder of results.

    Raises:
        BadFileError: nothing is there, or a file.
    """
    refuse_missing([path])
    if not path.is_dir():
        raise BadFileError(
            f"{path}: not a folder; give the folder that 'nisf segment' wrote, and with --only the names of "
            "the cases that you mean"
        )


def working_memory(megabytes: float) -> float:
    """Check ``--memory-mb``.

    Raises:
        BadSettingError: it is too small.
    """
    if not 1 <= megabytes <= 1e9:
        raise BadSettingError(f"--memory-mb {megabytes:g}: give 1 or more")
    return megabytes


def refuse_missing_prior(folder: str | Path) -> None:
    """Reject a prior that is neither a folder nor a bundled model.

    Raises:
        NoSuchModelError: it is neither.
    """
    if str(folder) not in model_names() and not Path(folder).is_dir():
        raise NoSuchModelError(
            f"{folder}: no such folder; give the folder that 'nisf train' wrote, or a model: "
            f"{', '.join(model_names())}"
        )


def numbers(text: str, count: int | None, flag: str, *, positive: bool = False) -> list[float]:
    """Parse ``"1,2,3"`` to a list of ``count`` finite numbers, or of any length if that is None.

    Raises:
        BadSettingError: it is something else; the message names ``flag``.
    """
    values = _floats(text)
    finite = all(map(math.isfinite, values))
    wrong = not values if count is None else len(values) != count
    if wrong or not finite or (positive and min(values) <= 0):
        kind = " ".join(["finite"] * (not finite) + ["positive"] * positive + ["number"])
        many = f"{kind}s" if count is None else f"{count} {kind}s"
        what = f"one {kind}" if count == 1 else f"{many} separated by commas, without spaces"
        raise BadSettingError(f"{flag} {text}: give {what}")
    return values


def cycle_fractions(text: str, flag: str) -> list[float]:
    """Parse ``"0,0.35"`` to times as fractions of the cycle.

    Raises:
        BadSettingError: a part is not a number from 0 to 1, e.g. a frame or milliseconds.
    """
    values = _floats(text)
    if not values or not all(0 <= value <= 1 for value in values):
        raise BadSettingError(
            f"{flag} {text}: give fractions of the cycle from 0 to 1, separated by commas, without spaces"
        )
    return values


def _floats(text: str) -> list[float]:
    """The numbers between commas; empty if one of the parts is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []


def words(text: str, flag: str) -> list[str]:
    """Split ``"a, b"`` into its parts.

    Raises:
        BadSettingError: a part is empty or repeated; the message names ``flag``.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise BadSettingError(f"{flag} {text}: give different names separated by commas")
    return parts
