"""Snapshots: a prior's weights at some steps of its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from nisf.errors import BadFileError
from nisf.files import read_tensors, write_tensors
from nisf.prior.prior import Prior

SubjectType = TypeVar("SubjectType")


def _path(folder: Path, step: int) -> Path:
    return folder / "snapshots" / f"step-{step}.safetensors"


def write_snapshot(folder: Path, step: int, weights: Mapping[str, Tensor]) -> None:
    """Write the weights as they are after ``step`` steps.

    Args:
        folder: the prior's.
        step: optimiser steps done.
        weights: named as in `Prior.weights`.
    """
    write_tensors(_path(folder, step), weights)


def snapshot_steps(folder: Path) -> list[int]:
    """The steps at which snapshots were written, ascending."""
    return sorted(
        int(path.stem.removeprefix("step-"))
        for path in (folder / "snapshots").glob("step-*.safetensors")
        if path.stem.removeprefix("step-").isdecimal()
    )


def prior_at(prior: Prior[SubjectType], step: int) -> Prior[SubjectType]:
    """The prior with its weights after ``step`` steps; finder and settings are the final ones.

    Raises:
        BadFileError: there is no such snapshot, or it is damaged or belongs to another prior.
    """
    if prior.folder is None or step not in snapshot_steps(prior.folder):
        raise BadFileError(f"{prior.folder}: there is no snapshot of its training after {step} steps")
    path = _path(prior.folder, step)
    return prior.with_weights(read_tensors(path)[0], path)
