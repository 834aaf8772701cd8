"""Run one case from its files to its outputs, in any kind of process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from nisf.correction.file import read_strokes
from nisf.data.case import Case
from nisf.data.scratch import use_scratch
from nisf.data.wording import counted
from nisf.device import peak_bytes
from nisf.errors import NisfError, told, unexpected
from nisf.interrupts import check
from nisf.io.bids import BidsFiles
from nisf.io.dicom.seg_files import SegFiles
from nisf.io.phases import check_wish
from nisf.io.readers.cases import read_or_why
from nisf.io.readers.listing import CaseFiles
from nisf.io.seg_nrrd import NrrdFiles
from nisf.kinds.load import read_subject
from nisf.outputs import BusyError, claimed, file_stem
from nisf.prior.prior import Prior
from nisf.segmentation import (
    CaseWriter,
    Request,
    done_already,
    refuse_to_write,
    remove_outdated,
    segment_case,
    write_more,
    write_segmentation,
    writers_to_run,
)
from nisf.segmentation.correct import kept_strokes
from nisf.segmentation.measures import MeasureFiles, kept_settings, settings_in_words
from nisf.stopwatch import Stopwatch, stage
from nisf.subject.subject import Subject

Tell = Callable[[int, str], None]
"""Called with the index of a case and its current stage."""


@dataclass(frozen=True)
class Work:
    """What to do with every case of a cohort; can be sent to another process.

    Attributes:
        folder: output folder.
        request: what is requested for each case.
        measures: whether to measure cases.
        dicom_seg: phases of which DICOM SEG is written, as `nisf.io.phases.check_wish` takes them, or None.
        seg_nrrd: likewise, for 3D Slicer.
        bids: whether to write a BIDS derivative data set too.
        corrections: file of strokes for the cases; None keeps the strokes of earlier outputs.
        overwrite: repeat finished cases, and replace files that are in the way.
        memory_mb: working memory of one case, MiB.
    """

    folder: Path
    request: Request = field(default_factory=Request)
    measures: bool = True
    dicom_seg: str | None = None
    seg_nrrd: str | None = None
    bids: bool = False
    corrections: Path | None = None
    overwrite: bool = False
    memory_mb: float = 512.0

    def request_of(self, case: Case, say: Callable[[str], None]) -> Request:
        """The request for a case, with its strokes.

        Args:
            case: defines the frames and the cycle for the file of strokes.
            say: called when strokes of an earlier output are kept.

        Raises:
            BadFileError: the file of strokes is invalid.
        """
        if self.corrections is not None:
            return replace(self.request, strokes=read_strokes(self.corrections, case.reference_stack))
        kept = () if self.overwrite else kept_strokes(self.folder, case.name)
        if kept:
            say(f"keeps its {counted(len(kept), 'stroke')}; overwriting the case drops them")
        return replace(self.request, strokes=kept)

    def writers(
        self, case: Case, files: CaseFiles, prior: Prior[Subject], say: Callable[[str], None]
    ) -> list[CaseWriter]:
        """The writers of the additional files requested for a case; settings of its measures are kept.

        Raises:
            BadSettingError: a requested phase or frame does not exist in the case.
        """
        found: list[CaseWriter] = []
        if self.measures:
            settings = None if self.overwrite else kept_settings(self.folder, case.name)
            if settings and (kept := settings_in_words(settings)):
                say(f"keeps {kept} for its measures; overwriting the case drops them")
            found.append(MeasureFiles(self.memory_mb, settings))
        frames = self.request.frames or len(case.stacks[0].grid.times)
        for option, wish in (("dicom_seg", self.dicom_seg), ("seg_nrrd", self.seg_nrrd)):
            if wish is not None:
                check_wish(case.name, frames, prior.anatomy, case.phases, wish, option)
        study = files.stacks[0].series
        if self.dicom_seg is not None and study is not None:
            found.append(SegFiles(study, self.dicom_seg, case.phases))
        if self.seg_nrrd is not None:
            found.append(NrrdFiles(self.seg_nrrd, case.phases))
        if self.bids:
            found.append(BidsFiles())
        return found


@dataclass(frozen=True)
class Result:
    """The result of a case. Errors are values here, so that one case cannot stop the others.

    Attributes:
        case: its name.
        state: ``written``; ``kept`` if it was done already; ``busy`` if another process is writing it;
            ``failed``.
        error: the sentence that says why it failed; otherwise empty.
        said: remarks on this case, e.g. what was replaced.
        notes: readers' remarks by kind; a cohort shows one of each kind.
        summary: summary of the fit; empty unless the case was written now.
        seconds: wall-clock time of the case.
        cpu_s: CPU time of all threads together.
        peak_bytes: peak memory of the process that ran the case, so far; 0 if unknown.
        stages: seconds by stage.
    """

    case: str
    state: Literal["written", "kept", "busy", "failed"]
    error: str = ""
    said: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the case's files are complete now."""
        return self.state in ("written", "kept")


class Engine(Protocol):
    """Runs cases, here or elsewhere."""

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """Run every case once; yields the index and the result of each as it ends, in any order.

        Close the iterator to stop: running cases are then cancelled and leave nothing half written.

        Raises:
            NisfError: no case can be run at all.
        """
        ...


def do_case(
    files: CaseFiles, prior: Prior[Subject], work: Work, tell: Callable[[str], None] | None = None
) -> Result:
    """Read, segment and write one case, unless it is done already.

    Only interrupts are raised; any other error is in the result.

    Args:
        files: files of the case; its labels are never read.
        prior: the trained prior, on the device that computes.
        work: what to do.
        tell: called with the stages.
    """
    said: list[str] = []
    notes: dict[str, str] = {}
    state: Literal["written", "kept", "busy", "failed"] = "failed"
    error, summary = "", {}
    use_scratch(work.folder, work.memory_mb)
    began = time.process_time()
    with Stopwatch(tell) as clock:
        try:
            summary = _written(files.without_labels(), prior, work, said.append, notes)
            state = "kept" if summary is None else "written"
        except BusyError:
            state = "busy"
        except NisfError as found:
            error = told(found)
        except Exception as found:
            check()  # an interrupt that a library turned into another exception
            # A bug on an unforeseen case must not end a night's batch.
            error = unexpected(found)
        finally:
            use_scratch(None)
    return Result(
        case=files.name,
        state=state,
        error=error,
        said=tuple(said),
        notes=notes,
        summary=summary or {},
        seconds=clock.seconds,
        cpu_s=time.process_time() - began,
        peak_bytes=peak_bytes(),
        stages=dict(clock.stages),
    )


def _written(
    files: CaseFiles,
    prior: Prior[Subject],
    work: Work,
    say: Callable[[str], None],
    notes: dict[str, str],
) -> dict[str, Any] | None:
    """Segment and write a case; the summary of the fit, or None if it was done already.

    Raises:
        NisfError: it cannot be done.
        BusyError: another process is writing it.
    """
    with stage("reading"):
        case = read_or_why(files, prior.anatomy, notes)
    if isinstance(case, str):
        raise NisfError(case)
    folder, memory_mb = work.folder, work.memory_mb
    with claimed(folder, case.name):
        request = work.request_of(case, say)
        inputs, writers = files.paths(), work.writers(case, files, prior, say)
        if not work.overwrite and done_already(case, prior, folder, request, inputs):
            if missing := writers_to_run(case, folder, writers):
                subject = read_subject(folder / f"{file_stem(case.name)}.nisf", prior)
                write_more(subject, folder, request, memory_mb=memory_mb, writers=missing, say=say)
            return None
        if not work.overwrite:
            refuse_to_write(case, prior, folder, request, inputs, writers)
        subject = segment_case(case, prior, request, inputs=inputs)
        write_segmentation(
            subject,
            folder,
            request,
            case=case,
            memory_mb=memory_mb,
            writers=writers,
            overwrite=work.overwrite,
            say=say,
        )
        if outdated := remove_outdated(subject, folder, request):
            say(f"removed {', '.join(outdated)} of the earlier result")
        if "turned" in subject.summary:
            notes["turned"] = (
                f"{case.name} (and maybe others) has no orientation in the patient; judging by its images, "
                f"it was {subject.summary['turned']} to match the training images, and its segmentation "
                "is turned back"
            )
        told_of = ("region", "turned", "intensity_bce", "converged", "moved_mm")
        return {key: subject.summary[key] for key in told_of if key in subject.summary}
