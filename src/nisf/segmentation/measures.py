"""The measures of a case among its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nisf.measures.case import CaseMeasures, Measuring
from nisf.measures.table import PART, write_case
from nisf.measures.table import Tables as MeasureTables
from nisf.outputs import Made, claimed, read_part, recorded
from nisf.segmentation.request import PART as SEGMENTED
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject

__all__ = ["MeasureFiles", "MeasureTables", "write_measures"]


class MeasureFiles:
    """Writes a case's measures; a `nisf.segmentation.request.CaseWriter`.

    Args:
        memory_mb: working memory, MiB.
    """

    part = PART

    def __init__(self, memory_mb: float = 512.0) -> None:
        self.memory_mb = memory_mb
        self._measuring: Measuring | None = None

    def options(self) -> Mapping[str, Any]:
        """Nothing decides them beside the subject."""
        return {}

    def answered(self, subject: Subject) -> Callable[[int], None]:
        """Measures each frame when it is answered: its slices have just been encoded."""
        self._measuring = Measuring(subject, memory_mb=self.memory_mb)
        return self._measuring.frame

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write ``NAME.measures.json``."""
        measuring = self._measuring
        if measuring is None or measuring.subject is not subject:
            measuring = Measuring(subject, memory_mb=self.memory_mb)
        own = bool(subject.stacks) and rendering.grid is subject.stacks[0].grid
        return [write_case(folder, measuring.finish(rendering if own else None))]


def write_measures(folder: str | Path, subject: Subject, measures: CaseMeasures) -> Path:
    """Write the measures of a case that was segmented before.

    Raises:
        BusyError: another process writes the case.
        BadFileError: a file is in the way, or cannot be written.
    """
    with claimed(folder, subject.name):
        segmented = read_part(Path(folder), subject.name, SEGMENTED)
        made = Made(prior=subject.prior.fingerprint) if segmented is None else segmented.made
        with recorded(folder, subject.name, PART, made):
            return write_case(folder, measures)
