"""Correct a case that was segmented: its files again, from the subject with strokes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from nisf.config.fit_options import FitOptions
from nisf.correction.file import strokes_of
from nisf.correction.stroke import Stroke
from nisf.errors import BadFileError, BadSettingError
from nisf.measures.table import PART as MEASURES
from nisf.outputs import read_part, read_record
from nisf.segmentation.measures import MeasureFiles
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
    summary = dict(new.summary)
    # Nobody has judged the new answer.
    summary.pop("quality", None)
    request = summary.get("request")
    if isinstance(request, Mapping):
        same = {name: value for name, value in request.items() if name != "strokes"}
        own = Request(strokes=new.strokes).to_json() if new.strokes else {}
        summary["request"] = same | {name: own[name] for name in own if name == "strokes"}
    return replace(new, summary=summary)


def kept_strokes(folder: str | Path, name: str) -> tuple[Stroke, ...]:
    """The strokes that a case in an output folder was corrected by; none if its record does not say so."""
    part = read_part(Path(folder), name, PART)
    try:
        return () if part is None else strokes_of(part.made.options.get("strokes", []))
    except BadSettingError:
        return ()


def request_of(subject: Subject) -> Request:
    """What was asked of a subject, as far as its file says.

    Raises:
        BadFileError: the file says it in a way that this nisf does not know.
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
            f"{subject.name}: its file does not say how it was segmented; segment it again with the "
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
    """Write a case's files again: segmentation, subject, and measures where there are some.

    Args:
        subject: from `correct`.
        folder: where it was segmented to.
        memory_mb: working memory beside the result, MiB.
        overwrite: replace what nisf did not write.
        say: told in a sentence what was replaced, and what was left as it was.

    Returns:
        The files written.

    Raises:
        BadFileError: a file is in the way, or cannot be written.
        BusyError: another process writes the case.
    """
    parts = read_record(folder, subject.name).parts
    written = write_segmentation(
        subject,
        folder,
        request_of(subject),
        memory_mb=memory_mb,
        writers=[MeasureFiles(memory_mb)] if MEASURES in parts else [],
        overwrite=overwrite,
        say=say,
    )
    stale = [name for part, entry in parts.items() if part not in (PART, MEASURES) for name in entry.files]
    if stale and say is not None:
        say(f"not corrected, make again: {', '.join(sorted(stale))}")
    return written
