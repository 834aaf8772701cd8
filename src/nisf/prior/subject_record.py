"""A subject's file as read from disk, before its prior makes a subject of it."""

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
    """What all kinds of subject store, and what their kind adds.

    Attributes:
        path: the file, for messages.
        name: the case's name.
        fingerprint: fingerprint of the prior that it belongs to.
        source: that prior's folder or name; None if the file does not say.
        region: the region in which the field gives answers.
        stacks: the grids of the measured stacks.
        summary: summary of the fit.
        islands: whether islands are kept.
        certain: minimum certainty of a section of each structure.
        enclosed: minimum fraction of a cavity's outline that its wall must surround in a basal slice.
        entries: JSON entries of the kind.
        tensors: tensors of the kind.
        strokes: strokes that a person has drawn.
        shifts: shifts of slices that were aligned before the fit.
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
        """The arguments that the subjects of all kinds share, except the prior."""
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
