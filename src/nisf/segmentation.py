"""From a case to the files of its segmentation: fit, render, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nisf.config.fit_options import FitOptions
from nisf.data.case import Case, Stack
from nisf.data.region import Region, reference_pose
from nisf.errors import BadFileError, BadSettingError, NisfError
from nisf.files import read_json
from nisf.io.input_state import from_elsewhere, input_state, same_inputs
from nisf.io.subject_file import read_record, write_subject
from nisf.io.writers import file_word, write_labels_json, write_rendering
from nisf.kinds.load import load_prior, read_subject
from nisf.measures.case import Measuring, said_by
from nisf.measures.table import Tables
from nisf.prior.bundled import DEFAULT
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.prior.region_search import Finding
from nisf.stopwatch import stage
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class Request:
    """What is wanted of each case.

    Attributes:
        spacing: mm along the stack's axes; None for the input's own grid.
        frames: equally spaced times of the cycle; None for the input's own.
        probabilities: whether to write one more file per class.
        find: how to find the region.
        centre: world mm of the region's centre, instead of finding it.
        fit: how to fit; the prior's way if it asks for nothing.
    """

    spacing: tuple[float, float, float] | None = None
    frames: int | None = None
    probabilities: bool = False
    find: Finding = "auto"
    centre: tuple[float, float, float] | None = None
    fit: FitOptions = field(default_factory=FitOptions)


@runtime_checkable
class FrameFiles(Protocol):
    """Files for other programs, one for each frame that was asked for, of a case's first stack."""

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write them; the files written."""
        ...


def outputs(
    case: str, stacks: int, names: list[str], labels: tuple[str, ...], probabilities: bool
) -> list[str]:
    """Names of the files that a case's segmentation consists of."""
    out = [f"{case}.nisf"]
    for index in range(stacks):
        stem = case if index == 0 else f"{case}_{names[index]}"
        out += [f"{stem}_seg.nii.gz", f"{stem}_image.nii.gz"]
        if probabilities:
            out += [f"{stem}_probability-{file_word(label)}.nii.gz" for label in labels]
    return out


def done_already(
    case: Case, prior: Prior[Subject], folder: Path, request: Request, inputs: Sequence[Path] = ()
) -> bool:
    """Whether the same request was carried out on the same input before, to the last file.

    Args:
        case: as read now.
        prior: the prior to fit it with.
        folder: the output folder.
        request: what is wanted.
        inputs: the files that the case was read from; the source of each stack if none are given.
    """
    names = [stack.name for stack in case.stacks]
    files = outputs(case.name, len(names), names, prior.anatomy.labels, request.probabilities)
    if not all((folder / file).is_file() for file in files):
        return False
    try:
        subject = read_subject(folder / f"{case.name}.nisf", prior)
    except NisfError:
        return False  # another prior's, or damaged: it is made anew
    asked = dict(subject.summary.get("request", {}))
    recorded = asked.pop("inputs", None)
    return (
        asked == _asked(case, request)
        and same_inputs(recorded, inputs or _sources(case))
        and _same_grids(subject.stacks, case.stacks)
    )


def refuse_to_replace(case: Case, folder: Path, inputs: Sequence[Path] = ()) -> None:
    """Two inputs of one name would be written to the same files.

    Args:
        case: to be written next.
        folder: the output folder.
        inputs: as for `done_already`.

    Raises:
        BadFileError: the subject of this name there was made from other files.
    """
    path, inputs = folder / f"{case.name}.nisf", inputs or _sources(case)
    try:
        asked = read_record(path).summary.get("request", {})
    except NisfError:
        return  # not there, or damaged: nothing is lost
    recorded = asked.get("inputs")
    if from_elsewhere(recorded, inputs) and not same_inputs(recorded, inputs):
        raise BadFileError(
            f"{path}: was made from another input of the name {case.name}, and would be replaced; choose "
            "another output folder, or overwrite it",
            options=["overwrite"],
        )


def refuse_other_labels(folder: Path, labels: Sequence[str]) -> None:
    """Segmentations with other numbers in one folder would be misread.

    Raises:
        BadFileError: the folder has a list of labels with other names, or one that cannot be read.
    """
    path = folder / "labels.json"
    if not path.exists():
        return
    found, ours = read_json(path), {str(number): name for number, name in enumerate(labels)}
    if not isinstance(found, dict) or {**found, "0": labels[0]} != ours:
        names = ", ".join(map(str, found.values())) if isinstance(found, dict) else "no list of labels"
        raise BadFileError(
            f"{path}: another list of labels ({names[:200]}) than that of this prior ({', '.join(labels)}); "
            "choose another output folder, or overwrite it",
            options=["overwrite"],
        )


def _asked(case: Case, request: Request) -> dict[str, object]:
    """The request, comparable after a round trip through JSON; of DICOM also which images are taken."""
    series = {key: case.attributes[key] for key in ("series",) if key in case.attributes}
    return json.loads(json.dumps({**asdict(request), **series}))


def _sources(case: Case) -> list[Path]:
    """The source files of the stacks that have one."""
    sources = [Path(stack.source) for stack in case.stacks if stack.source is not None]
    return [path for path in sources if path.is_file()]


def _same_grids(ours: Sequence[Stack], others: Sequence[Stack]) -> bool:
    """Whether stacks have the same voxels at the same times: a table beside the images may say others now."""
    return len(ours) == len(others) and all(
        a.name == b.name
        and a.grid.shape == b.grid.shape
        and np.allclose(a.grid.affine.matrix, b.grid.affine.matrix)
        and a.grid.times.shape == b.grid.times.shape
        and np.allclose(a.grid.times, b.grid.times)
        for a, b in zip(ours, others, strict=True)
    )


def segment_case(
    case: Case, prior: Prior[Subject], request: Request | None = None, *, inputs: Sequence[Path] = ()
) -> Subject:
    """Fit a case as requested.

    Args:
        case: its intensities are used; its labels never.
        prior: the trained prior.
        request: wishes; the prior's own way if None.
        inputs: the files that the case was read from, whose state is recorded; the source of each stack if
            none are given.

    Raises:
        BadSettingError: an option means nothing to this prior.
        CannotFitError: the case cannot be fitted.
    """
    request = request or Request()
    prior.check_options(request.fit)
    region = None
    if request.centre is not None:
        if prior.half is None:
            raise BadSettingError(
                f"{case.name}: this prior looks at the whole field of view; leave the centre out",
                options=("centre",),
            )
        region = Region(reference_pose(case, np.array(request.centre)), prior.half)
    state = input_state(inputs or _sources(case))
    subject = fit(
        case,
        prior,
        region=region,
        find=request.find,
        config=request.fit.applied_to(prior.config.fit),
        seed=request.fit.seed or 0,
    )
    return replace(
        subject,
        summary={
            **subject.summary,
            "request": {**_asked(case, request), "inputs": state},
            "said": said_by(case),
        },
    )


def write_segmentation(
    subject: Subject,
    folder: str | Path,
    request: Request | None = None,
    *,
    memory_mb: float = 512.0,
    frame_files: Sequence[FrameFiles] = (),
    tables: Tables | None = None,
) -> list[Path]:
    """Render every stack of a subject and write it; only files for other programs come after the ``.nisf``.

    Args:
        subject: to be written.
        folder: to write to.
        request: the grid, and whether to write probabilities.
        memory_mb: working memory beside the result, MiB.
        frame_files: files for other programs to write too.
        tables: to add the subject's measures to; none are made if None.

    Returns:
        The files written.

    Raises:
        BadFileError: a file cannot be written.
    """
    request = request or Request()
    folder = Path(folder)
    labels = subject.prior.anatomy.labels
    write_labels_json(folder, labels)
    written: list[Path] = []
    own = request.spacing is None and request.frames is None
    measuring = None if tables is None else Measuring(subject, memory_mb=memory_mb)
    first = _answered(subject, 0, request, memory_mb, measuring)
    for index, stack in enumerate(subject.stacks):
        rendering = _answered(subject, index, request, memory_mb) if index else first
        stem = subject.name if index == 0 else f"{subject.name}_{stack.name}"
        with stage("writing"):
            written += write_rendering(folder, stem, rendering, labels, stack=stack, own=own)
    path = folder / f"{subject.name}.nisf"
    write_subject(path, subject)
    others = [file for files in frame_files for file in files.write(folder, subject, first)]
    if measuring is not None and tables is not None:
        others.append(tables.add(measuring.finish(first if own else None)))
    return [*written, *others, path]


def write_frame_files(
    subject: Subject,
    folder: str | Path,
    frame_files: Sequence[FrameFiles],
    request: Request | None = None,
    *,
    memory_mb: float = 512.0,
) -> list[Path]:
    """Write the files for other programs alone; arguments, errors and result as `write_segmentation`."""
    if not frame_files:
        return []
    rendering = _answered(subject, 0, replace(request or Request(), probabilities=False), memory_mb)
    return [file for files in frame_files for file in files.write(Path(folder), subject, rendering)]


def _answered(
    subject: Subject, index: int, request: Request, memory_mb: float, measuring: Measuring | None = None
) -> Rendering:
    """The answers for one stack, on the grid that is asked for; measured too where the frames are its own."""
    grid = None
    if request.spacing is not None or request.frames is not None:
        grid = subject.stacks[index].grid
        grid = grid if request.spacing is None else grid.at_spacing(request.spacing)
        grid = grid if request.frames is None else grid.with_frames(request.frames)
    with stage("answering"):
        return subject.render(
            grid,
            probabilities=request.probabilities,
            memory_mb=memory_mb,
            stack=index,
            after_frame=measuring.frame if measuring is not None and request.frames is None else None,
        )


def segment(
    path: str | Path, prior: Prior[Subject] | str | Path = DEFAULT, request: Request | None = None
) -> Subject:
    """Fit one image file or case folder.

    Args:
        path: a NIfTI file, or a case folder of a known layout.
        prior: a prior, its folder, or the name of a model that comes with the package.
        request: other wishes.

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
            f"{path}: holds {len(cohort.cases)} cases; give one, or use 'nisf segment' for a cohort"
        )
    files = cohort.cases[0].without_labels()
    refuse_dead_links(files.paths())
    return segment_case(read_case(files, prior.anatomy), prior, request, inputs=files.paths())
