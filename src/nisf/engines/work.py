"""One case from its files to what is written of it, the same whichever process does it."""

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
    segment_case,
    write_more,
    write_segmentation,
    writers_to_run,
)
from nisf.segmentation.correct import kept_strokes
from nisf.segmentation.measures import MeasureFiles
from nisf.stopwatch import Stopwatch, stage
from nisf.subject.subject import Subject

Tell = Callable[[int, str], None]
"""Told the index of a case and what is being done to it now."""


@dataclass(frozen=True)
class Work:
    """What is done to every case of a cohort; all of it can be sent to another process.

    Attributes:
        folder: to write to.
        request: what is wanted of each case.
        measures: whether cases are measured.
        dicom_seg: phases of which DICOM SEG is written, as `nisf.io.phases.check_wish` takes them, or None.
        seg_nrrd: likewise, for 3D Slicer.
        bids: whether a BIDS derivative data set is written too.
        corrections: file of strokes that the case is to follow; None keeps those that its output has.
        overwrite: do again what is done, and replace what is in the way.
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
        """What is wanted of a case, with the strokes that it is to follow.

        Args:
            case: whose frames and cycle the file of strokes may speak of.
            say: told that strokes are kept.

        Raises:
            BadFileError: the file of strokes is wrong.
        """
        if self.corrections is not None:
            stack = case.stacks[0] if case.stacks else None
            return replace(self.request, strokes=read_strokes(self.corrections, stack))
        kept = () if self.overwrite else kept_strokes(self.folder, case.name)
        if kept:
            say(f"keeps its {counted(len(kept), 'stroke')}; they are dropped where it is overwritten")
        return replace(self.request, strokes=kept)

    def writers(self, case: Case, files: CaseFiles, prior: Prior[Subject]) -> list[CaseWriter]:
        """What writes the further files that are wanted of a case.

        Raises:
            BadSettingError: a phase or frame is wanted that the case cannot have.
        """
        found: list[CaseWriter] = [MeasureFiles(self.memory_mb)] if self.measures else []
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
    """What became of a case: errors are values here, so that one case never costs another.

    Attributes:
        case: its name.
        state: ``written`` now; ``kept``, as it was done already; ``busy``, left to another process that
            writes it; ``failed``.
        error: the sentence that says why it failed; empty if it did not.
        said: remarks on this case, e.g. what was replaced.
        notes: readers' remarks by kind, of which a cohort shows one each.
        summary: how the fit went; empty unless it was written now.
        seconds: wall-clock time that the case took.
        cpu_s: time of the processor, all threads together.
        peak_bytes: the most memory that the process that did it has ever had; 0 where nobody says.
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
        """Whether the case's files are there now, and whole."""
        return self.state in ("written", "kept")


class Engine(Protocol):
    """Has cases done, wherever that is."""

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """Do every case once; the index and the result of each as it ends, in any order.

        Close the iterator to stop: what was begun is then given up, and leaves nothing half written.

        Raises:
            NisfError: nothing can be done at all.
        """
        ...


def do_case(
    files: CaseFiles, prior: Prior[Subject], work: Work, tell: Callable[[str], None] | None = None
) -> Result:
    """Read, segment and write one case, unless that was done already.

    Only an interrupt is raised; whatever else goes wrong is in the result.

    Args:
        files: of the case; its labels are never read.
        prior: the trained prior, on the device that computes.
        work: what is wanted.
        tell: told the stages.
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
            check()  # an interrupt that came out of a library as something else
            # A fault of ours, on a case that nobody has met: it must not end a night's batch.
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
    """Segment and write a case; the fit's summary, or None if it was done already.

    Raises:
        NisfError: it cannot be done.
        BusyError: another process writes it.
    """
    with stage("reading"):
        case = read_or_why(files, prior.anatomy, notes)
    if isinstance(case, str):
        raise NisfError(case)
    folder, memory_mb = work.folder, work.memory_mb
    with claimed(folder, case.name):
        request = work.request_of(case, say)
        inputs, writers = files.paths(), work.writers(case, files, prior)
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
        if "turned" in subject.summary:
            notes["turned"] = (
                f"{case.name} (and maybe others) does not say how it lies in the patient; by what it shows, "
                f"it was {subject.summary['turned']} to lie like the training images, and its segmentation "
                "is turned back"
            )
        told_of = ("region", "turned", "intensity_bce", "converged", "quality", "moved_mm")
        return {key: subject.summary[key] for key in told_of if key in subject.summary}
