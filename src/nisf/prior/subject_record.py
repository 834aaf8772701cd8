"""A subject's file as it is on the disk, before its prior makes a subject of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nisf.alignment import Shift
from nisf.config.schema import Islands
from nisf.correction.stroke import Stroke
from nisf.data.case import Stack
from nisf.data.region import Region


@dataclass(frozen=True, eq=False)
class SubjectRecord:
    """What every kind of subject keeps, and what its own kind adds.

    Attributes:
        path: the file, for messages.
        name: the case's name.
        fingerprint: of the prior that it belongs to.
        source: that prior's folder or name; None if the file does not say.
        region: where the field answers.
        stacks: the grids that were measured.
        summary: how the fit went.
        islands: whether islands are kept.
        certain: how sure a section of each structure has to be.
        enclosed: how much of a cavity has to be surrounded by its wall in a basal slice.
        entries: JSON of the kind itself.
        tensors: of the kind itself.
        strokes: what a person has said of it.
        shifts: how far slices lie off that were put in line before the fit.
    """

    path: Path
    name: str
    fingerprint: str
    source: str | None
    region: Region
    stacks: tuple[Stack, ...]
    summary: Mapping[str, Any]
    islands: Islands
    certain: tuple[float, ...]
    enclosed: float
    entries: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    strokes: tuple[Stroke, ...] = ()
    shifts: tuple[Shift, ...] = ()

    def common(self) -> dict[str, Any]:
        """The arguments of any kind of subject, its prior and what is its own left out."""
        return {
            "name": self.name,
            "region": self.region,
            "stacks": self.stacks,
            "summary": self.summary,
            "islands": self.islands,
            "certain": self.certain,
            "enclosed": self.enclosed,
            "strokes": self.strokes,
            "shifts": self.shifts,
        }
