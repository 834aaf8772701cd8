"""From a case to the files of its segmentation: fit, render, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nisf.alignment import aligned
from nisf.data.case import Case
from nisf.data.region import Region, reference_pose
from nisf.errors import BadFileError, BadSettingError
from nisf.io.label_tables import write_label_tables
from nisf.io.subject_file import write_subject
from nisf.io.writers import header_not_copied, write_rendering
from nisf.kinds.load import load_prior
from nisf.measures.case import said_by
from nisf.outputs import (
    as_json,
    claimed,
    file_stem,
    input_state,
    read_part,
    read_record,
    recorded,
    remove_recorded,
    same_content,
)
from nisf.prior.bundled import DEFAULT
from nisf.prior.fit import fit
from nisf.prior.fit_step import OnStep
from nisf.prior.prior import Prior
from nisf.quality.judge import judged
from nisf.quality.judgement import kept_judgement
from nisf.quality.sampling import keep_answers
from nisf.segmentation.request import (
    PART,
    AnsweredWriter,
    CaseWriter,
    Request,
    asked,
    made_of,
    made_with,
    output_stem,
    planned_files,
    read_from,
)
from nisf.stopwatch import stage
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


def segment_case(
    case: Case,
    prior: Prior[Subject],
    request: Request | None = None,
    *,
    inputs: Sequence[Path] = (),
    see: OnStep | None = None,
) -> Subject:
    """Fit a case as requested.

    Args:
        case: its intensities are used; its labels never.
        prior: the trained prior.
        request: options; None for the prior's defaults.
        inputs: files that the case was read from, for the record; by default the source of each stack.
        see: called with the steps of the fit, for display.

    Raises:
        BadSettingError: an option does not apply to this prior.
        CannotFitError: the case cannot be fitted.
    """
    request = request or Request()
    prior.check_options(request.fit)
    region = None
    if request.centre is not None:
        if prior.half is None:
            raise BadSettingError(
                f"{case.name}: this prior uses the whole field of view; leave the centre out",
                options=("centre",),
            )
        region = Region(reference_pose(case, np.array(request.centre)), prior.half)
    state = input_state(read_from(case, inputs))
    subject = fit(
        case,
        prior,
        region=region,
        find=request.find,
        config=request.fit.applied_to(prior.config.fit),
        seed=request.fit.seed or 0,
        align=request.align,
        see=see,
    )
    if request.strokes:
        subject = subject.corrected(request.strokes)
    more = {"request": {**asked(case, prior, request), "inputs": state}, "said": said_by(case)}
    return replace(subject, summary={**subject.summary, **more})


def write_segmentation(
    subject: Subject,
    folder: str | Path,
    request: Request | None = None,
    *,
    case: Case | None = None,
    memory_mb: float = 512.0,
    writers: Sequence[CaseWriter] = (),
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Render and write every stack of a subject, run further writers, and record everything.

    Args:
        subject: the subject to write.
        folder: output folder.
        request: the grid, and whether to write probabilities.
        case: the measured case, needed to assess the quality; None skips that.
        memory_mb: working memory besides the result, MiB.
        writers: writers of further files.
        overwrite: replace files that nisf did not write, and results of another input or prior.
        say: called with a message when something was replaced or removed.

    Returns:
        The files written.

    Raises:
        BadFileError: a file cannot be written or must not be replaced.
    """
    request, folder, say = request or Request(), Path(folder), say or _nobody
    labels = subject.prior.anatomy.labels
    own = request.spacing is None and request.frames is None
    written: list[Path] = []
    made, planned = made_of(subject, request), planned_files(subject, subject.prior, request)
    if case is not None and own and not subject.strokes and "quality" in subject.prior.appendices:
        keep_answers(subject)
    first = _answered(subject, 0, request, memory_mb, writers)
    told = subject if case is None else _judged(subject, case, first.label if own else None, say)
    with claimed(folder, subject.name):
        with recorded(folder, subject.name, PART, made, planned=planned, overwrite=overwrite) as part:
            if tables := write_label_tables(folder, subject.prior.anatomy, overwrite=overwrite):
                say(f"replaced {', '.join(tables)}, which listed other labels")
            for index, stack in enumerate(subject.stacks):
                rendering = _answered(subject, index, request, memory_mb) if index else first
                stem = output_stem(subject.name, stack.name, index)
                if own and (remark := header_not_copied(stack, request.format)):
                    say(remark)
                with stage("writing"):
                    written += write_rendering(
                        folder, stem, rendering, labels, stack=stack, own=own, format=request.format
                    )
            written.append(folder / f"{file_stem(subject.name)}.nisf")
            write_subject(written[-1], told)
        for remark in part.remarks():
            say(remark)
        return written + _write_more(told, folder, request, writers, first, overwrite, say)


def writers_to_run(case: Case, folder: Path, writers: Sequence[CaseWriter]) -> list[CaseWriter]:
    """The writers whose files are missing, changed, or made with other options in a finished case."""
    part = read_part(folder, case.name, PART)
    if part is None:
        return list(writers)

    def done(writer: CaseWriter) -> bool:
        other = read_part(folder, case.name, writer.part)
        return (
            other is not None
            and other.made == made_with(part.made, writer.part, writer.options())
            and other.whole(folder)
        )

    return [writer for writer in writers if not done(writer)]


def write_more(
    subject: Subject,
    folder: str | Path,
    request: Request | None = None,
    *,
    memory_mb: float = 512.0,
    writers: Sequence[CaseWriter] = (),
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write only the further files; arguments, errors and result as for `write_segmentation`."""
    if not writers:
        return []
    request, folder = request or Request(), Path(folder)
    rendering = _answered(subject, 0, replace(request, probabilities=False), memory_mb, writers)
    with claimed(folder, subject.name):
        return _write_more(subject, folder, request, writers, rendering, overwrite, say or _nobody)


def remove_outdated(subject: Subject, folder: str | Path, request: Request | None = None) -> list[str]:
    """Remove further files of a case that belong to an earlier segmentation, e.g. measures of another input.

    Edited files, and files that other commands made from the subject, stay.

    Args:
        subject: as it has just been written.
        folder: the output folder.
        request: that it was written with.

    Returns:
        Names of the files removed.
    """
    now, removed = as_json(made_of(subject, request or Request())), []
    for name, part in read_record(folder, subject.name).parts.items():
        if name == PART or not part.made.inputs:
            continue
        options = {key: value for key, value in part.made.options.items() if key != name}
        same = part.made.prior == now.prior and options == now.options
        if not (same and same_content(part.made.inputs, now.inputs)):
            removed += [file for file in part.files if part.wrote(Path(folder), file)]
            remove_recorded(folder, subject.name, name)
    return removed


def _write_more(
    subject: Subject,
    folder: Path,
    request: Request,
    writers: Sequence[CaseWriter],
    rendering: Rendering,
    overwrite: bool,
    say: Callable[[str], None],
) -> list[Path]:
    """Write each writer's files as a part of its own, so that a failing writer does not affect the others."""
    written: list[Path] = []
    for writer in writers:
        made = made_with(made_of(subject, request), writer.part, writer.options())
        with recorded(folder, subject.name, writer.part, made, overwrite=overwrite) as part:
            written += writer.write(folder, subject, rendering)
        for remark in part.remarks():
            say(remark)
    return written


def _judged(subject: Subject, case: Case, labels: np.ndarray | None, say: Callable[[str], None]) -> Subject:
    """Judge the subject's quality and add it to its summary; a red light is reported at once."""
    with stage("judging"):
        told = judged(subject, aligned(case, subject.shifts), labels=labels)
    judgement = kept_judgement(told)
    if judgement is not None and judgement.light == "red":
        say(f"quality {judgement.words()}")
    return told


def _nobody(sentence: str) -> None:
    """Ignore a message."""


def _answered(
    subject: Subject, index: int, request: Request, memory_mb: float, writers: Sequence[CaseWriter] = ()
) -> Rendering:
    """The rendering of one stack on the requested grid; writers may make further queries at each frame."""
    grid, more = None, []
    if request.frames is None:
        more = [writer.answered(subject) for writer in writers if isinstance(writer, AnsweredWriter)]

    def after_frame(t: int) -> None:
        for ask in more:
            ask(t)

    if request.spacing is not None or request.frames is not None:
        grid = subject.stacks[index].grid
        grid = grid if request.spacing is None else grid.at_spacing(request.spacing)
        grid = grid if request.frames is None else grid.with_frames(request.frames)
    with stage("rendering"):
        return subject.render(
            grid,
            probabilities=request.probabilities,
            memory_mb=memory_mb,
            stack=index,
            after_frame=after_frame,
        )


def segment(
    path: str | Path, prior: Prior[Subject] | str | Path = DEFAULT, request: Request | None = None
) -> Subject:
    """Fit one image file or case folder, and judge the result (`nisf.quality`) if the prior can.

    Args:
        path: a NIfTI file, or a case folder of a known layout.
        prior: a prior, its folder, or the name of a bundled model.
        request: options.

    Raises:
        BadFileError: the input cannot be read, or there is more than one case.
        NoSuchModelError: there is no such prior.
        CannotFitError: the case cannot be fitted.
    """
    from nisf.io.readers import open_cohort, read_case
    from nisf.io.readers.listing import refuse_dead_links

    prior = prior if isinstance(prior, Prior) else load_prior(prior)
    cohort = open_cohort(path, prior.anatomy, labels=False)
    if len(cohort.cases) != 1:
        raise BadFileError(
            f"{path}: contains {len(cohort.cases)} cases; give one, or use 'nisf segment' for a cohort"
        )
    files = cohort.cases[0].without_labels()
    refuse_dead_links(files.paths())
    case = read_case(files, prior.anatomy)
    return _judged(segment_case(case, prior, request, inputs=files.paths()), case, None, _nobody)
