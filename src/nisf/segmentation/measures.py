"""The measures as part of a case's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nisf.data.wording import listed
from nisf.errors import MALFORMED
from nisf.measures.case import CaseMeasures, MeasureOptions, Measuring
from nisf.measures.case import measure as without_intervals
from nisf.measures.table import PART, case_path, write_case
from nisf.outputs import Made, claimed, file_stem, read_part, recorded
from nisf.quality.judgement import kept_judgement
from nisf.segmentation.request import PART as SEGMENTED
from nisf.segmentation.request import made_with
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject
from nisf.uncertainty.intervals import intervals_of, with_intervals
from nisf.uncertainty.spread import Spreading


class MeasureFiles:
    """Writes a case's measures; a `nisf.segmentation.request.CaseWriter`.

    Args:
        memory_mb: working memory, MiB.
        settings: phases and body surface area that the user gave, e.g. those that `kept_settings` returns.
    """

    part = PART

    def __init__(self, memory_mb: float = 512.0, settings: MeasureOptions | None = None) -> None:
        self.memory_mb, self.settings = memory_mb, settings or MeasureOptions()
        self._measuring: Measuring | None = None
        self._spreading: Spreading | None = None

    def options(self) -> Mapping[str, Any]:
        """The user's settings; nothing else besides the subject affects the measures."""
        return settings_to_json(self.settings)

    def planned(self, case: str) -> list[str]:
        """``NAME.measures.json``."""
        return [case_path("", case).name]

    def answered(self, subject: Subject) -> Callable[[int], None]:
        """Measure each frame when it is finished, just after its slices have been encoded."""
        measuring = self._measuring = Measuring(subject, self.settings, memory_mb=self.memory_mb)
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
            measuring, spreading = Measuring(subject, self.settings, memory_mb=self.memory_mb), None
        own = bool(subject.stacks) and rendering.grid is subject.stacks[0].grid
        measures = measuring.finish(rendering if own else None)
        measures = with_intervals(measures, subject, spreading=spreading, memory_mb=self.memory_mb)
        return [write_case(folder, with_quality(measures, subject))]


def settings_to_json(settings: MeasureOptions) -> dict[str, Any]:
    """The user's settings as a record stores them; empty if none were given."""
    out: dict[str, Any] = {"frames": dict(settings.frames)} if settings.frames else {}
    return out if settings.body_m2 is None else out | {"body_m2": settings.body_m2}


def settings_in_words(settings: MeasureOptions) -> str:
    """E.g. ``ED in frame 3 and a body surface area of 1.9 m2``; empty if none were given."""
    words = [f"{name} in frame {frame}" for name, frame in settings.frames.items()]
    body = settings.body_m2
    return listed([*words, *([] if body is None else [f"a body surface area of {body:.3g} m2"])])


def kept_settings(folder: str | Path, case: str) -> MeasureOptions:
    """The phases and body surface area with which a case in an output folder was measured, if any."""
    part = read_part(Path(folder), case, PART)
    said = {} if part is None else part.made.options.get(PART, {})
    try:
        frames = {str(name): int(frame) for name, frame in said.get("frames", {}).items()}
        body = said.get("body_m2")
        return MeasureOptions(frames, None if body is None else float(body))
    except MALFORMED:
        return MeasureOptions()


def measure(
    subject: Subject, options: MeasureOptions | None = None, *, memory_mb: float = 512.0
) -> CaseMeasures:
    """Measure a subject as ``nisf measure`` does: everything that its anatomy declares.

    Args:
        subject: the subject to measure.
        options: the user's settings.
        memory_mb: working memory, MiB.

    Returns:
        The measures, with 90 % intervals if the prior has scales for them, and with the quality if the
        subject was judged.

    Raises:
        BadSettingError: an option does not fit the case.
        BadFileError: an appendix of the prior is damaged.
    """
    measures = without_intervals(subject, options, memory_mb=memory_mb)
    return with_quality(with_intervals(measures, subject, memory_mb=memory_mb), subject)


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
    folder: str | Path,
    subject: Subject,
    measures: CaseMeasures,
    settings: MeasureOptions | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the measures of a case that was segmented earlier.

    Args:
        folder: the output folder.
        subject: the segmented case.
        measures: its measures.
        settings: the user's settings for them; they are kept when the case is measured again.
        overwrite: replace files that nisf did not write.

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
        made = made_with(made, PART, settings_to_json(settings or MeasureOptions()))
        with recorded(folder, subject.name, PART, made, overwrite=overwrite):
            return write_case(folder, measures)
