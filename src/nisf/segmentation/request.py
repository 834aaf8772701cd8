"""Requests: what to do with cases, which files result, and whether they exist already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nisf.config.fit_options import FitOptions
from nisf.correction.file import strokes_to_json
from nisf.correction.stroke import Stroke
from nisf.data.case import Case, Stack
from nisf.errors import BadFileError
from nisf.io.readers.itk import files_of
from nisf.measures.case import said_by
from nisf.outputs import (
    Made,
    as_json,
    collisions,
    file_stem,
    file_words,
    input_state,
    read_part,
    refuse_to_replace,
    same_inputs,
)
from nisf.prior.prior import Prior
from nisf.prior.region_search import Finding
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject

TABLES = "tables"
"""Entry of the options for a hash of what tables say of a case: phases, height and weight."""


@dataclass(frozen=True)
class Request:
    """Options of the segmentation of a case.

    Attributes:
        spacing: output spacing in mm along the stack's axes; None for the input's grid.
        frames: number of equally spaced output times; None for the input's.
        probabilities: whether to also write one probability file per class.
        find: method to find the region.
        centre: centre of the region in world mm; None searches for it.
        fit: options of the fit; by default the prior's.
        format: file format of images, one of `nisf.io.writers.FORMATS`.
        strokes: correction strokes.
        align: whether to correct breath-hold shifts of slices first; see `nisf.alignment`.
    """

    spacing: tuple[float, float, float] | None = None
    frames: int | None = None
    probabilities: bool = False
    find: Finding = "auto"
    centre: tuple[float, float, float] | None = None
    fit: FitOptions = field(default_factory=FitOptions)
    format: str = "nii.gz"
    strokes: tuple[Stroke, ...] = ()
    align: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON for a record; options that are not used are left out, as before they existed."""
        found = json.loads(json.dumps(asdict(replace(self, strokes=()))))
        del found["strokes"], found["align"]
        found |= {"align": True} if self.align else {}
        return found | ({"strokes": strokes_to_json(self.strokes)} if self.strokes else {})


@runtime_checkable
class CaseWriter(Protocol):
    """Writes further files of a case from its subject: measures, a mesh, files for other programs."""

    @property
    def part(self) -> str:
        """Name of the part in the case's record."""
        ...

    def options(self) -> Mapping[str, Any]:
        """Everything besides the subject and the request that affects its files, as JSON."""
        ...

    def write(self, folder: Path, subject: Subject, rendering: Rendering) -> list[Path]:
        """Write the files by means of `nisf.files`; returns them.

        Args:
            folder: the output folder.
            subject: subject of the case.
            rendering: rendering of its first stack, on the requested grid.
        """
        ...


@runtime_checkable
class AnsweredWriter(CaseWriter, Protocol):
    """A writer that makes further queries at each frame, which are cheapest when the frame is finished."""

    def answered(self, subject: Subject) -> Callable[[int], None]:
        """Return a function to call with the index of each finished frame of the first stack's own grid.

        Several threads may call it at once.
        """
        ...


@runtime_checkable
class PlannedWriter(CaseWriter, Protocol):
    """A writer that knows the names of its files before the case is fitted."""

    def planned(self, case: str) -> list[str]:
        """Names of the files, for a case of this name."""
        ...


PART = "segment"
"""Name of the segmentation's part in a case's record."""


def outputs(
    case: str,
    stacks: Sequence[str],
    labels: Sequence[str] = (),
    *,
    probabilities: bool = False,
    format: str = "nii.gz",  # noqa: A002
) -> list[str]:
    """Names of the files of a case's segmentation.

    Args:
        case: its name.
        stacks: names of its stacks.
        labels: names of the classes.
        probabilities: whether there is one more file per class.
        format: format of the images, one of `nisf.io.writers.FORMATS`.
    """
    out = [f"{file_stem(case)}.nisf"]
    for index, stack in enumerate(stacks):
        stem = output_stem(case, stack, index)
        out += [f"{stem}_seg.{format}", f"{stem}_image.{format}"]
        if probabilities:
            out += [f"{stem}_probability-{word}.{format}" for word in file_words(labels)]
    return out


def output_stem(case: str, stack: str, index: int) -> str:
    """Prefix of the names of a stack's files; that of the first stack is the case's name."""
    return file_stem(case) if index == 0 else file_stem(f"{file_stem(case)}_{stack}")


def refuse_collisions(cases: Mapping[str, Sequence[str]]) -> None:
    """Reject cases with conflicting file names, before anything is computed.

    Args:
        cases: names of the stacks of each case, by its name.

    Raises:
        BadFileError: two cases, or two stacks, would be written to the same file.
    """
    for file, (one, other) in collisions(
        {name: outputs(name, stacks) for name, stacks in cases.items()}
    ).items():
        both = f"{one} and {other}" if one != other else f"two stacks of {one}"
        raise BadFileError(f"{both} would both be written to {file}; rename one, or run them separately")


def done_already(
    case: Case, prior: Prior[Subject], folder: Path, request: Request, inputs: Sequence[Path] = ()
) -> bool:
    """Whether the same request was carried out on the same input before, and all its files exist.

    Args:
        case: as read now.
        prior: the prior to fit it with.
        folder: the output folder.
        request: the request.
        inputs: the files that the case was read from; by default the source of each stack.
    """
    part = read_part(folder, case.name, PART)
    if part is None or part.made.prior != prior.fingerprint:
        return False
    wanted = asked(case, prior, request)
    if TABLES not in part.made.options:  # written by an earlier version
        del wanted[TABLES]
    if part.made.options != wanted:
        return False
    return same_inputs(part.made.inputs, read_from(case, inputs)) and part.whole(folder)


def refuse_to_write(
    case: Case,
    prior: Prior[Subject],
    folder: Path,
    request: Request,
    inputs: Sequence[Path] = (),
    writers: Sequence[CaseWriter] = (),
) -> None:
    """Do the checks of `write_segmentation` before a case is fitted.

    Args:
        case: as read now.
        prior: the prior to fit it with.
        folder: the output folder.
        request: the request.
        inputs: as for `done_already`.
        writers: writers of further files.

    Raises:
        BadFileError: a file is in the way that nisf did not write, or that belongs to another input or prior.
    """
    made = Made(input_state(read_from(case, inputs)), prior.fingerprint, asked(case, prior, request))
    refuse_to_replace(folder, case.name, PART, made, planned=planned_files(case, prior, request))
    for writer in writers:
        planned = writer.planned(case.name) if isinstance(writer, PlannedWriter) else []
        refuse_to_replace(folder, case.name, writer.part, made, planned=planned)


def planned_files(case: Case | Subject, prior: Prior[Subject], request: Request) -> list[str]:
    """Names of the files that a case's segmentation will have."""
    stacks, labels = [stack.name for stack in case.stacks], prior.anatomy.labels
    wanted = {"probabilities": request.probabilities, "format": request.format}
    return outputs(case.name, stacks, labels, **wanted)


def asked(case: Case, prior: Prior[Subject], request: Request) -> dict[str, Any]:
    """Everything besides files and weights that affects a segmentation, in JSON that can be compared.

    It includes the series used from a DICOM study, and what comes from tables: positions, times, phases,
    height and weight.
    """
    series = {key: case.attributes[key] for key in ("series",) if key in case.attributes}
    said = json.dumps(said_by(case), sort_keys=True)
    told = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    more = {"model": prior.digest, "grids": _grids(case.stacks), TABLES: told, **series}
    return json.loads(json.dumps({**request.to_json(), **more}))


def made_of(subject: Subject, request: Request) -> Made:
    """What a subject's segmentation was made from, according to its summary."""
    wanted = dict(subject.summary.get("request", {}))
    inputs = wanted.pop("inputs", None) or ()
    if wanted:
        wanted.pop("strokes", None)
        wanted |= request.to_json()
    return Made(inputs, subject.prior.fingerprint, wanted)


def made_with(made: Made, part: str, options: Mapping[str, Any]) -> Made:
    """What the files of a further part are made from: everything that the segmentation is, and own options.

    Args:
        made: what the segmentation was made from.
        part: name of the part.
        options: everything else that affects its files, as JSON.
    """
    return as_json(replace(made, options={**made.options, part: dict(options)}))


def read_from(case: Case, inputs: Sequence[Path] = ()) -> list[Path]:
    """The files that a case was read from, including separate files with voxels.

    Args:
        case: the sources of its stacks are used if ``inputs`` is empty.
        inputs: the known files.
    """
    sources = [Path(stack.source) for stack in case.stacks if stack.source is not None]
    named = inputs or [path for path in sources if path.is_file()]
    return [file for path in named for file in files_of(path)]


def _grids(stacks: Sequence[Stack]) -> str:
    """A hash of the positions and times of the voxels of all stacks."""
    digest = hashlib.sha256()
    for stack in stacks:
        digest.update(f"{stack.name} {stack.grid.shape}".encode("utf-8", "surrogatepass"))
        for array in (stack.grid.affine.matrix, stack.grid.times):
            digest.update((np.round(np.asarray(array, dtype=np.float64), 6) + 0.0).tobytes())
    return digest.hexdigest()[:16]
