"""The measures as part of a case's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nisf.measures.case import CaseMeasures, Measuring
from nisf.measures.table import PART, case_path, write_case
from nisf.outputs import Made, claimed, file_stem, read_part, recorded
from nisf.quality.judgement import kept_judgement
from nisf.segmentation.request import PART as SEGMENTED
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject
from nisf.uncertainty.intervals import intervals_of, with_intervals
from nisf.uncertainty.spread import Spreading


class MeasureFiles:
    """Writes a case's measures; a `nisf.segmentation.request.CaseWriter`.

    Args:
        memory_mb: working memory, MiB.
    """

    part = PART

    def __init__(self, memory_mb: float = 512.0) -> None:
        self.memory_mb = memory_mb
        self._measuring: Measuring | None = None
        self._spreading: Spreading | None = None

    def options(self) -> Mapping[str, Any]:
        """Empty: nothing besides the subject affects them."""
        return {}

    def planned(self, case: str) -> list[str]:
        """``NAME.measures.json``."""
        return [case_path("", case).name]

    def answered(self, subject: Subject) -> Callable[[int], None]:
        """Measure each frame when it is finished, just after its slices have been encoded."""
        measuring = self._measuring = Measuring(subject, memory_mb=self.memory_mb)
        learnt = intervals_of(subject) if subject.stacks else None
        if learnt is None:
            self._spreading = None
            return measuring.frame
        spreading = Spreading(subject, draws=learnt.draws, memory_mb=self.memory_mb)
        self._spreading = spreading

        def frame(t: int) -> None:
            measuring.frame(t)
            spreading.frame(t)

        return frame

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write ``NAME.measures.json``."""
        measuring, spreading = self._measuring, self._spreading
        # Its summary may have grown meanwhile; the stacks are the same objects.
        if measuring is None or measuring.subject.stacks is not subject.stacks:
            measuring, spreading = Measuring(subject, memory_mb=self.memory_mb), None
        own = bool(subject.stacks) and rendering.grid is subject.stacks[0].grid
        measures = measuring.finish(rendering if own else None)
        measures = with_intervals(measures, subject, spreading=spreading, memory_mb=self.memory_mb)
        return [write_case(folder, with_quality(measures, subject))]


def with_quality(measures: CaseMeasures, subject: Subject) -> CaseMeasures:
    """Add the judgement of the segmentation's quality to the measures, if there is one."""
    judgement = kept_judgement(subject)
    if judgement is None:
        return measures
    return replace(
        measures,
        quality=judgement.light,
        predicted_dice=judgement.mean,
        reasons=judgement.reasons,
    )


def edited_segmentation(folder: str | Path, case: str) -> str | None:
    """A sentence for a case whose segmentation a person edited: its measures do not follow that file."""
    part = read_part(Path(folder), case, SEGMENTED)
    if part is None:
        return None
    names = [name for name in part.files if "_seg." in name]
    edited = [name for name in names if (Path(folder) / name).exists() and not part.wrote(Path(folder), name)]
    if not edited:
        return None
    return (
        f"{', '.join(edited)}: changed after nisf wrote it, but the measures are those of "
        f"{file_stem(case)}.nisf; correct the subject instead (nisf correct)"
    )


def write_measures(
    folder: str | Path, subject: Subject, measures: CaseMeasures, *, overwrite: bool = False
) -> Path:
    """Write the measures of a case that was segmented earlier; ``overwrite`` replaces any file.

    Raises:
        BusyError: another process is writing the case.
        BadFileError: a file is in the way, or cannot be written.
    """
    edited = edited_segmentation(folder, subject.name)
    if edited is not None:
        measures = replace(measures, notes=(*measures.notes, edited))
    with claimed(folder, subject.name):
        segmented = read_part(Path(folder), subject.name, SEGMENTED)
        made = Made(prior=subject.prior.fingerprint) if segmented is None else segmented.made
        with recorded(folder, subject.name, PART, made, overwrite=overwrite):
            return write_case(folder, measures)
