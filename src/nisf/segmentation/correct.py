"""Correct a segmented case: write its files again, from the subject with strokes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from nisf.config.fit_options import FitOptions
from nisf.correction.file import strokes_of
from nisf.correction.stroke import Stroke
from nisf.errors import BadFileError, BadSettingError
from nisf.measures.table import PART as MEASURES
from nisf.outputs import read_part, read_record
from nisf.quality.judgement import summary_with_strokes
from nisf.segmentation.measures import MeasureFiles, kept_settings
from nisf.segmentation.request import PART, Request
from nisf.segmentation.segment import write_segmentation
from nisf.subject.subject import Subject


def correct(subject: Subject, strokes: Sequence[Stroke]) -> Subject:
    """Return the subject with these correction strokes; all its answers, measures and meshes follow them.

    Args:
        subject: a fitted subject; its existing strokes are replaced.
        strokes: strokes in order, the latest last; an empty list restores the uncorrected answer.

    Raises:
        BadSettingError: a class is unknown, or a stroke lies outside the region.
    """
    new = subject.corrected(strokes)
    summary = summary_with_strokes(new.summary, strokes=bool(new.strokes))
    request = summary.get("request")
    if isinstance(request, Mapping):
        same = {name: value for name, value in request.items() if name != "strokes"}
        own = Request(strokes=new.strokes).to_json() if new.strokes else {}
        summary["request"] = same | {name: own[name] for name in own if name == "strokes"}
    return new.noted(summary=summary)


def kept_strokes(folder: str | Path, name: str) -> tuple[Stroke, ...]:
    """The strokes that a case in an output folder was corrected with; empty if its record has none."""
    part = read_part(Path(folder), name, PART)
    try:
        return () if part is None else strokes_of(part.made.options.get("strokes", []))
    except BadSettingError:
        return ()


def request_of(subject: Subject) -> Request:
    """The request that a subject was made with, as far as its file says.

    Raises:
        BadFileError: the file describes it in a way unknown to this version.
    """
    said = subject.summary.get("request")
    if not isinstance(said, Mapping):
        return Request(strokes=subject.strokes)
    try:
        known = {field.name for field in fields(Request)} - {"fit", "strokes"}
        plain = {name: value for name, value in said.items() if name in known}
        for name in ("spacing", "centre"):
            if plain.get(name) is not None:
                x, y, z = plain[name]
                plain[name] = (float(x), float(y), float(z))
        return Request(**plain, fit=FitOptions(**said.get("fit", {})), strokes=subject.strokes)
    except (TypeError, ValueError) as error:
        raise BadFileError(
            f"{subject.name}: its file does not say how it was segmented; segment it again, giving the "
            "corrections"
        ) from error


def write_corrected(
    subject: Subject,
    folder: str | Path,
    *,
    memory_mb: float = 512.0,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write a case's files again: segmentation, subject, and measures if there are some.

    Args:
        subject: from `correct`.
        folder: the output folder of the case.
        memory_mb: working memory besides the result, MiB.
        overwrite: replace files that nisf did not write.
        say: called with sentences about what was replaced, and what was left unchanged.

    Returns:
        The files written.

    Raises:
        BadFileError: a file is in the way, or cannot be written.
        BusyError: another process is writing the case.
    """
    parts = read_record(folder, subject.name).parts
    written = write_segmentation(
        subject,
        folder,
        request_of(subject),
        memory_mb=memory_mb,
        writers=[MeasureFiles(memory_mb, kept_settings(folder, subject.name))] if MEASURES in parts else [],
        overwrite=overwrite,
        say=say,
    )
    stale = [name for part, entry in parts.items() if part not in (PART, MEASURES) for name in entry.files]
    if stale and say is not None:
        say(f"not corrected, make them again: {', '.join(sorted(stale))}")
    return written
