"""The checkpoint of a training: one file that is replaced atomically and identifies its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nisf.config.migration import todays_settings
from nisf.config.overrides import from_dict
from nisf.config.schema import Config
from nisf.errors import MALFORMED, BadFileError
from nisf.files import read_metadata, read_tensors, write_tensors
from nisf.optimisation.state import State

CHECKPOINT = "checkpoint.safetensors"

OF_ANATOMY = ("labels", "reorder", "turn", "orientation")
"""Entries of an anatomy that affect the weights; others, such as colours and measures, may change."""

_WRONG = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError)


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], identity: Mapping[str, Any], step: int | None = None
) -> None:
    """Write a checkpoint.

    Args:
        path: path of the file.
        tensors: all tensors to save.
        identity: settings, cases and initial prior, as JSON.
        step: number of steps done; None before training has begun.
    """
    begun = {} if step is None else {"step": str(step)}
    write_tensors(path, tensors, {"identity": json.dumps(identity), **begun})


def has_begun(path: Path) -> bool:
    """Whether there is a checkpoint of a training that has begun; it may hold a finder only.

    Raises:
        BadFileError: it is damaged.
    """
    return path.is_file() and "step" in read_metadata(path)


def load_checkpoint(path: Path, state: State, identity: Mapping[str, Any]) -> None:
    """Restore the state of a checkpoint.

    Raises:
        BadFileError: it is damaged, or belongs to other settings, cases or start.
    """
    tensors, metadata = read_tensors(path)
    refuse_other(path, metadata, identity)
    try:
        state.load(tensors, int(metadata["step"]))
    except _WRONG as error:
        raise _not_ours(path, error) from error


def refuse_other(path: Path, metadata: Mapping[str, str], identity: Mapping[str, Any]) -> None:
    """Reject a checkpoint of another training.

    Raises:
        BadFileError: it belongs to other settings, structures, cases or start; the message names them.
    """
    try:
        before, now = _decisive(json.loads(metadata["identity"])), _decisive(identity)
        for part in ("data", "anatomy"):
            if part not in before:  # written by a version that did not store it
                now.pop(part, None)
        differences = "" if before == now else _differences(before, now)
    except _WRONG as error:
        raise _not_ours(path, error) from error
    if differences:
        raise BadFileError(f"{path}: was made with other {differences}; give the same, or train elsewhere")


def _not_ours(path: Path, error: Exception) -> BadFileError:
    return BadFileError(
        f"{path}: not a checkpoint of this training ({type(error).__name__}); train elsewhere"
    )


def stored_settings(path: Path) -> Config:
    """The settings of a checkpoint.

    Raises:
        BadFileError: it is damaged.
    """
    metadata = read_metadata(path)
    try:
        settings = todays_settings(json.loads(metadata["identity"])["config"])
    except MALFORMED as error:
        raise BadFileError(f"{path}: does not contain the settings that it was made with") from error
    return from_dict(Config, settings, f"{path}: config")


def stored_anatomy(path: Path) -> Any:
    """The JSON of the anatomy of a checkpoint; None if a version wrote it that did not store it.

    Raises:
        BadFileError: it is damaged.
    """
    metadata = read_metadata(path)
    try:
        return json.loads(metadata["identity"]).get("anatomy")
    except MALFORMED as error:
        raise BadFileError(f"{path}: does not say what it was made from; train elsewhere") from error


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings, by name, and other parts in which two identities differ."""
    found = []
    for part, settings in now["config"].items():
        old = before["config"].get(part)
        if isinstance(settings, dict) and isinstance(old, dict):
            found += [
                f"{part}.{name} ({old.get(name)}, now {value})"
                for name, value in settings.items()
                if old.get(name) != value
            ]
        elif old != settings:
            found.append(f"{part} ({old}, now {settings})")
    words = {
        "anatomy": "anatomy",
        "cases": "cases",
        "data": "images or labels of the cases",
        "start": "start",
    }
    if before.get("cases") != now.get("cases"):
        del words["data"]  # implied by other cases
    found += [word for name, word in words.items() if before.get(name) != now.get(name)]
    return ", ".join(found[:8]) or "settings"


def _decisive(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an identity that affects the weights. Settings of fits and colours may change."""
    config = {name: part for name, part in todays_settings(identity["config"]).items() if name != "fit"}
    found = {**identity, "config": config}
    if "anatomy" in identity:
        found["anatomy"] = {name: identity["anatomy"].get(name) for name in OF_ANATOMY}
    return found
