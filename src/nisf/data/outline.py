"""Summary of a case that training needs before reading it: counts, spacing, location of the structures."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.case import Case
from nisf.data.geometry import Affine
from nisf.data.region import Region, labelled_pose, labelled_positions, reference_pose
from nisf.types import Vector, Vector3


@dataclass(frozen=True, eq=False)
class Outline:
    """A case without its pixels.

    Attributes:
        name: name of the case.
        channels: number of channels of its images.
        slices: number of measured slices.
        labelled_slices: number of slices with a known label.
        spacing: spacing of each stack, mm (s, 3).
        half: half the extent of the labelled structures along the reference pose's axes, mm (3,); None
            without labels.
        pose: world to model, centred on the structures; see `nisf.data.region.labelled_pose`. None without
            labels.
        content: see `content_of`; empty for cases in memory.
    """

    name: str
    channels: int
    slices: int
    labelled_slices: int
    spacing: np.ndarray
    half: Vector3 | None
    pose: Affine | None
    content: str = ""

    def region(self, half: Vector) -> Region | None:
        """`nisf.data.region.region_from_labels`: a box around the labelled structures, or None without."""
        if self.pose is None:
            return None
        return Region(self.pose, np.asarray(half, dtype=np.float64))

    def to_json(self) -> dict[str, Any]:
        """JSON from which floats are restored exactly."""
        return {
            "name": self.name,
            "channels": self.channels,
            "slices": self.slices,
            "labelled_slices": self.labelled_slices,
            "spacing": self.spacing.tolist(),
            "half": None if self.half is None else self.half.tolist(),
            "pose": None if self.pose is None else self.pose.matrix.tolist(),
            "content": self.content,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outline:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the data are something else.
        """
        counts = (int(data[name]) for name in ("channels", "slices", "labelled_slices"))
        half, pose = data["half"], data["pose"]
        return cls(
            str(data["name"]),
            *counts,
            np.array(data["spacing"], dtype=np.float64).reshape(-1, 3),
            None if half is None else np.array(half, dtype=np.float64).reshape(3),
            None if pose is None else Affine(np.array(pose, dtype=np.float64).reshape(4, 4)),
            str(data["content"]),
        )


def outline(case: Case, *, order: bool) -> Outline:
    """Make the outline of a case.

    Args:
        case: any case.
        order: see `nisf.data.region.labelled_pose`.
    """
    places, half = labelled_positions(case), None
    if len(places):
        model = reference_pose(case, (0.0, 0.0, 0.0))(places)
        half = (model.max(0) - model.min(0)) / 2
    pose = labelled_pose(case, order=order)
    spacing = np.array([stack.grid.spacing for stack in case.stacks]).reshape(-1, 3)
    labelled = len(case.labelled())
    return Outline(case.name, case.channels, len(case.slices), labelled, spacing, half, pose)


def content_of(case: Case) -> str:
    """Sixteen hexadecimal digits that change with any pixel, label or pose of a case, not with its files."""
    digest = hashlib.blake2b(digest_size=8)
    for item in case.slices:
        digest.update(np.array([item.time, item.stack, item.thickness], dtype=np.float64).tobytes())
        digest.update(item.affine.matrix.tobytes())
        for array in (item.image, item.label):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(array.tobytes())
    return digest.hexdigest()


def contents_of(cases: Sequence[Case]) -> list[str]:
    """`content_of` each of many cases; stored cases are not read for it."""
    if isinstance(cases, StoredCases):
        return [one.content for one in cases.outlines]
    return [content_of(case) for case in cases]


def content_of_all(cases: Sequence[Case]) -> str:
    """`content_of` for many cases in order, as one hash."""
    return hashlib.blake2b("\n".join(contents_of(cases)).encode(), digest_size=8).hexdigest()


def box_of(outlines: Sequence[Outline], margin_mm: float) -> Vector3:
    """Half lengths (mm) of the box that holds the structures of 95 % of the cases, plus a margin.

    The margin covers the rest; the largest case would make the box too big for all others. Both in-plane axes
    get the same length, because the in-plane orientation is not always known. Structures in a single slice
    have no extent across it: the box is then at least 1 mm thick.

    Raises:
        ValueError: no case has labels.
    """
    halves = [one.half for one in outlines if one.half is not None]
    if not halves:
        raise ValueError("no case has labels to find the region from")
    half = np.maximum(np.percentile(halves, 95, axis=0) + margin_mm, 0.5)
    return np.array([max(half[:2]), max(half[:2]), half[2]])


class StoredCases(Sequence[Case]):
    """Cases that are read on demand, with outlines that are always available."""

    @property
    @abstractmethod
    def outlines(self) -> Sequence[Outline]:
        """Of each case."""

    @abstractmethod
    def folder(self, index: int) -> Path:
        """Folder for data derived from a case; changes if its files or the way of reading them change."""

    @abstractmethod
    def only(self, indices: Sequence[int]) -> StoredCases:
        """The cases with these indices."""


def outlines_of(cases: Sequence[Case], *, order: bool) -> Sequence[Outline]:
    """The outline of each case, stored or computed.

    Args:
        cases: outlines of stored cases use the order of their own anatomy.
        order: see `nisf.data.region.labelled_pose`.
    """
    if isinstance(cases, StoredCases):
        return cases.outlines
    return [outline(case, order=order) for case in cases]


def names_of(cases: Sequence[Case]) -> list[str]:
    """The names of the cases; stored cases are not read for it."""
    if isinstance(cases, StoredCases):
        return [one.name for one in cases.outlines]
    return [case.name for case in cases]


def chosen(cases: Sequence[Case], indices: Sequence[int]) -> Sequence[Case]:
    """The cases with these indices."""
    if len(indices) == len(cases):
        return cases
    return cases.only(indices) if isinstance(cases, StoredCases) else [cases[i] for i in indices]
