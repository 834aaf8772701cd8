"""``nisf segment``: fit new subjects and write their segmentations."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_missing, refuse_missing_prior, working_memory
from nisf.cli.progress import CohortProgress, outcome
from nisf.prior.bundled import DEFAULT, model_name

if TYPE_CHECKING:
    from nisf.data.case import Case
    from nisf.io.readers import CaseFiles, CaseReader, Cohort
    from nisf.prior.prior import Prior
    from nisf.segmentation import CaseWriter, Request
    from nisf.segmentation.measures import MeasureTables
    from nisf.stopwatch import Stopwatch
    from nisf.subject.subject import Subject

MOST_FRAMES = 10_000
"""More times of a cycle are a slip of the finger."""


@dataclass(frozen=True)
class Segment:
    """Segment images: NAME_seg.nii.gz, NAME_image.nii.gz, NAME.nisf, NAME.measures.json, measures.csv.

    NAME.run.json records what they were made from. A case that is done already, from the same input with the
    same options, is skipped. Files that nisf did not write are not replaced. Exit status 1: a case failed.
    """

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """Image files, case folders, cohort folders or manifest CSVs; patterns with * are matched."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write to."""
    prior: str = DEFAULT
    """Folder of a prior, or a model that comes with nisf (see nisf models)."""
    spacing: str | None = None
    """Spacing X,Y,Z in mm along the stack's axes, instead of the input's."""
    frames: int | None = None
    """Number of equally spaced frames of the cycle, instead of the input's."""
    probabilities: bool = False
    """Write the probability of each class too."""
    format: Literal["nii.gz", "nii", "hdr", "nrrd", "mha"] = "nii.gz"
    """What images are written as; hdr is a NIfTI pair, mha needs nisf[itk]."""
    region: Literal["auto", "finder", "motion", "centre", "whole"] = "auto"
    """How to find the region of interest."""
    centre: str | None = None
    """Centre X,Y,Z of the region in world mm, instead of finding it."""
    method: Literal["adam", "second-order"] | None = None
    """How to fit, instead of the prior's way; second-order ends by convergence."""
    steps: int | None = None
    """Fitting steps, instead of the count that was best on the prior's validation cases; iterations at most
    for second-order."""
    shifts: bool = False
    """Fit each slice's in-plane shift too (second-order)."""
    gains: bool = False
    """Fit each slice's gain and offset of intensity too (second-order)."""
    pose: bool = False
    """Fit a shift and rotation of the whole subject too (second-order)."""
    islands: Literal["keep", "remove"] | None = None
    """Parts of a structure that are apart from its largest part, instead of the prior's way."""
    only: Path | None = None
    """Text file with the names of the cases to segment, one a line."""
    layout: str = "auto"
    """How the cases lie in their folder; found out if auto."""
    series: str | None = None
    """Number or description of the DICOM series, instead of the short-axis stack (see nisf check)."""
    identifiers: bool = False
    """Show names, IDs and dates of DICOM studies, which are hidden otherwise, and write them to DICOM SEG."""
    dicom_seg: str | None = None
    """Write DICOM SEG too, NAME_ED_seg.dcm and so on: auto for the named phases or the largest and smallest
    volume, all, or names and frames from 0, with commas. Only with --identifiers has it the name, ID, dates
    and UIDs by which it is filed with the images; without, the case's name and fresh UIDs."""
    seg_nrrd: str | None = None
    """Write NAME_ED.seg.nrrd and so on for 3D Slicer too; which phases, as for --dicom-seg."""
    no_measures: bool = False
    """Write no measures.csv, measures.json, curves.csv and wall.csv."""
    memory_mb: float = 512
    """Working memory for queries, MiB."""
    seed: int | None = None
    """Seed of the points that a fit draws."""
    device: str = "cpu"
    """Where networks run: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """Threads of the processor; as many as there are idle cores if not given."""
    report: bool = False
    """Write pages to look at and print too: OUT/report/index.html (see nisf report)."""
    overwrite: bool = False
    """Do cases again that are done already, and replace files that are in the way, whoever wrote them."""
    verbose: bool = False
    """Say where each case's time went."""

    def run(self) -> int:
        refuse_missing_prior(self.prior)
        refuse_missing([*(self.inputs if len(self.inputs) == 1 else ()), self.only])
        from nisf.data.scratch import use_scratch
        from nisf.device import named_device, use_threads
        from nisf.errors import BadSettingError
        from nisf.files import check_writable
        from nisf.io.readers import CaseReader, only_named
        from nisf.io.readers.several import open_inputs
        from nisf.io.writers import check_format, refuse_other_labels
        from nisf.kinds.load import load_prior
        from nisf.outputs.lock import remove_stale as remove_stale_locks
        from nisf.segmentation import refuse_collisions
        from nisf.segmentation.measures import MeasureTables

        began = time.monotonic()
        request = self.request()
        prior = load_prior(self.prior)
        prior.check_options(request.fit)
        check_format(request.format, prior.config.field.channels)
        prior = prior.to(named_device(self.device))
        use_threads(self.threads)
        if name := model_name(prior.folder):
            print(f"model {name}: {prior.card['licence']}; not a medical device", file=sys.stderr)
        if os.path.realpath(self.output) in map(os.path.realpath, self.inputs):
            raise BadSettingError(f"{self.output}: is the input folder; choose another for the output")
        cohort = self.taken(open_inputs(self.inputs, prior.anatomy, self.layout, labels=False))
        self.check_dicom_seg(cohort)
        use_scratch(check_writable(self.output))
        remove_stale_locks(self.output)
        if not self.overwrite:
            refuse_other_labels(self.output, prior.anatomy.labels)
        failed: dict[str, str] = {
            problem.case or str(cohort.root): problem.message
            for problem in cohort.problems
            if problem.severity == "error"
        }
        reader = CaseReader(cohort, prior.anatomy, only_named(cohort.cases, self.only), labels=False)
        refuse_collisions({case.name: [stack.name for stack in case.stacks] for case in reader.files})
        for sentence in reader.errors:
            print(f"left out: {sentence}", file=sys.stderr)
        measured = nullcontext() if self.no_measures else MeasureTables(self.output, overwrite=self.overwrite)
        with CohortProgress(len(reader)) as progress, measured as tables:
            done = self.segment(reader, prior, request, failed, tables, progress)
        if self.report and done:
            self.write_pages([files.name for files in reader.files], prior, failed)
        for note in reader.notes:
            print(f"note: {note}", file=sys.stderr)
        took = f"{time.monotonic() - began:.1f} s{progress.slowest()}"
        print(f"{done} of {len(reader)} cases written to {self.output} in {took}")
        if failed:
            print(f"failed: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1 if failed else 0

    def segment(
        self,
        reader: CaseReader,
        prior: Prior[Subject],
        request: Request,
        failed: dict[str, str],
        tables: MeasureTables | None,
        progress: CohortProgress,
    ) -> int:
        """Segment and write the cases one by one; how many were done. Those that fail go to ``failed``."""
        from nisf.errors import NisfError, told, unexpected
        from nisf.interrupts import check
        from nisf.outputs import BusyError, claimed
        from nisf.stopwatch import Stopwatch, stage

        done, cases = 0, iter(reader)
        for number, files in enumerate(reader.files, start=1):
            check()
            progress.begin(f"[{number}/{len(reader)}] {files.name}")
            with Stopwatch(progress.tell) as watch:
                with stage("reading"):
                    name, case = next(cases)
                place = f"[{number}/{len(reader)}] {name}"
                try:
                    if isinstance(case, str):
                        raise NisfError(case)
                    with claimed(self.output, name):
                        self.segment_one(case, files, prior, request, place, watch, progress.say)
                    if tables is not None:
                        tables.note()
                    done += 1
                except BusyError:
                    progress.say(f"{place}: left to another process, which is writing it")
                except NisfError as error:
                    failed[name] = told(error)
                    progress.say(f"{place}: failed: {told(error)}", error=True)
                except BrokenPipeError:
                    raise  # nobody reads any more
                except Exception as error:
                    check()
                    # A fault of ours, on a case that nobody has met: it must not end a night's batch.
                    failed[name] = unexpected(error)
                    progress.say(f"{place}: failed: {failed[name]}", error=True)
            progress.end(watch.stages)
        return done

    def segment_one(
        self,
        case: Case,
        files: CaseFiles,
        prior: Prior[Subject],
        request: Request,
        place: str,
        watch: Stopwatch,
        tell: Callable[[str], None],
    ) -> None:
        """Segment and write a case, unless that was done already.

        Raises:
            NisfError: it cannot be done; the sentence says why.
        """
        from nisf.kinds.load import read_subject
        from nisf.outputs import file_stem
        from nisf.segmentation import (
            done_already,
            refuse_to_write,
            segment_case,
            write_more,
            write_segmentation,
            writers_to_run,
        )

        def say(sentence: str) -> None:
            tell(f"{place}: {sentence}")

        inputs, writers = files.without_labels().paths(), self.case_writers(case, files, prior)
        if not self.overwrite and done_already(case, prior, self.output, request, inputs):
            say("done already")
            if missing := writers_to_run(case, self.output, writers):
                subject = read_subject(self.output / f"{file_stem(case.name)}.nisf", prior)
                write_more(subject, self.output, request, memory_mb=self.memory_mb, writers=missing, say=say)
            return
        if not self.overwrite:
            refuse_to_write(case, prior, self.output, request, inputs, writers)
        subject = segment_case(case, prior, request, inputs=inputs)
        write_segmentation(
            subject,
            self.output,
            request,
            case=case,
            memory_mb=self.memory_mb,
            writers=writers,
            overwrite=self.overwrite,
            say=say,
        )
        say(outcome(subject.summary, watch.seconds))
        if self.verbose:
            say(watch.told())

    def write_pages(self, names: list[str], prior: Prior[Subject], failed: dict[str, str]) -> None:
        """Write the report of the cases that did not fail; those without a page are added to ``failed``."""
        from nisf.report.folder import ReportOptions, write_reports

        named = frozenset(name for name in names if name not in failed)
        pages = ReportOptions(self.identifiers, named, overwrite=self.overwrite, memory_mb=self.memory_mb)
        failed |= write_reports(self.output, prior, pages)

    def taken(self, cohort: Cohort) -> Cohort:
        """The cohort with the wishes that only DICOM knows.

        Raises:
            BadSettingError: a series is asked for, and the cohort is not DICOM.
        """
        from nisf.io.readers.dicom_cohort import people, with_identifiers, with_series

        if self.identifiers:
            cohort = with_identifiers(cohort)
            for name, person in people(cohort).items():
                print(f"{name}: " + ", ".join(f"{what} {value}" for what, value in person.items()))
        return cohort if self.series is None else with_series(cohort, self.series)

    def check_dicom_seg(self, cohort: Cohort) -> None:
        """Refuse DICOM SEG where it cannot be written, before anything is fitted.

        Raises:
            NisfError: the sentence says why.
        """
        if self.dicom_seg is None:
            return
        from nisf.errors import BadSettingError
        from nisf.io.dicom.seg_files import refuse_without_dicom

        for flag, value in (("--spacing", self.spacing), ("--frames", self.frames)):
            if value is not None:
                raise BadSettingError(f"--dicom-seg is on the images' own grid and frames; leave {flag} out")
        refuse_without_dicom(cohort.cases)

    def case_writers(self, case: Case, files: CaseFiles, prior: Prior[Subject]) -> list[CaseWriter]:
        """What writes the further files that are asked for.

        Raises:
            BadSettingError: a phase or frame is asked for that the case cannot have.
        """
        from nisf.io.dicom.seg_files import SegFiles
        from nisf.io.phases import check_wish
        from nisf.io.seg_nrrd import NrrdFiles
        from nisf.segmentation.measures import MeasureFiles

        found: list[CaseWriter] = [] if self.no_measures else [MeasureFiles(self.memory_mb)]
        study = files.stacks[0].series
        frames = self.frames or len(case.stacks[0].grid.times)
        for option, wish in (("dicom_seg", self.dicom_seg), ("seg_nrrd", self.seg_nrrd)):
            if wish is not None:
                check_wish(case.name, frames, prior.anatomy, case.phases, wish, option)
        if self.dicom_seg is not None and study is not None:
            found.append(SegFiles(study, self.dicom_seg, case.phases))
        if self.seg_nrrd is not None:
            found.append(NrrdFiles(self.seg_nrrd, case.phases))
        return found

    def request(self) -> Request:
        """The options as the library takes them.

        Raises:
            BadSettingError: one does not parse; the sentence names it.
        """
        from nisf.cli.parse import numbers
        from nisf.config.fit_options import FitOptions
        from nisf.errors import BadSettingError
        from nisf.segmentation import Request

        working_memory(self.memory_mb)
        spacing = centre = None
        if self.spacing is not None:
            x, y, z = numbers(self.spacing, 3, "--spacing", positive=True)
            spacing = (x, y, z)
        if self.centre is not None:
            x, y, z = numbers(self.centre, 3, "--centre")
            centre = (x, y, z)
        for flag, value in (("--frames", self.frames), ("--steps", self.steps)):
            if value is not None and value < 1:
                raise BadSettingError(f"{flag} {value}: give a number of at least 1")
        if self.frames is not None and self.frames > MOST_FRAMES:
            raise BadSettingError(f"--frames {self.frames}: give {MOST_FRAMES} at most")
        fit = FitOptions(
            steps=self.steps,
            seed=self.seed,
            method=self.method,
            shifts=self.shifts,
            gains=self.gains,
            pose=self.pose,
            islands=self.islands,
        )
        return Request(spacing, self.frames, self.probabilities, self.region, centre, fit, self.format)
