"""``nisf segment``: fit new subjects and write their segmentations."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from nisf.cli.cohort import carry_out, notes_of
from nisf.cli.correct import Corrections
from nisf.cli.fitting import Fitting
from nisf.cli.parse import refuse_missing, refuse_missing_prior, working_memory
from nisf.cli.progress import CohortProgress
from nisf.prior.bundled import DEFAULT, model_name

if TYPE_CHECKING:
    from nisf.engines import Begin, Engine, Work
    from nisf.engines.choice import Allotment
    from nisf.io.readers import CaseFiles, Cohort
    from nisf.prior.prior import Prior
    from nisf.segmentation import Request
    from nisf.subject.subject import Subject

MOST_FRAMES = 10_000
"""More times of a cycle are a slip of the finger."""


@dataclass(frozen=True)
class Segment(Corrections, Fitting):
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
    """What images are written as; hdr is a NIfTI pair."""
    region: Literal["auto", "finder", "motion", "centre", "whole"] = "auto"
    """How to find the region of interest."""
    centre: str | None = None
    """Centre X,Y,Z of the region in world mm, instead of finding it."""
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
    bids: bool = False
    """Write a BIDS derivative data set too: OUT/bids/sub-NAME/anat/sub-NAME_desc-nisf_dseg.nii.gz."""
    no_measures: bool = False
    """Write no measures.csv, measures.json, curves.csv and wall.csv."""
    memory_mb: float | None = None
    """Working memory for queries, MiB, of all workers together; 512, or 128 a worker, if not given."""
    device: str = "cpu"
    """Where networks run: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """Threads of the processor, all workers together; as many as there are idle cores if not given."""
    workers: int | None = None
    """Processes that share the cases; as many as cores are idle and cases are worth it if not given."""
    engine: Literal["auto", "ray"] = "auto"
    """What runs the cases: processes of this machine, or Ray (needs nisf[ray])."""
    address: str | None = None
    """Ray cluster that runs, HOST:PORT or auto, instead of one of this machine; its nodes share folders."""
    shard: str | None = None
    """Do one of several parts of the cases, e.g. 3/16 for the third of sixteen: for job arrays. All parts
    may run at the same time and write to one folder."""
    report: bool = False
    """Write pages to look at and print too: OUT/report/index.html (see nisf report)."""
    overwrite: bool = False
    """Do cases again that are done already, and replace files that are in the way, whoever wrote them."""
    estimate: bool = False
    """Do one case for a trial, say how long all will take and how much memory and disk, and end."""
    verbose: bool = False
    """Say where each case's time went."""

    def run(self) -> int:
        refuse_missing_prior(self.prior)
        refuse_missing([*(self.inputs if len(self.inputs) == 1 else ()), self.only])

        from nisf.device import named_device
        from nisf.errors import BadSettingError
        from nisf.files import check_writable
        from nisf.io.readers.several import open_inputs
        from nisf.io.writers import check_format, refuse_other_labels
        from nisf.kinds.load import load_prior
        from nisf.measures.folder import Tables
        from nisf.outputs.lock import remove_stale as remove_stale_locks

        began = time.monotonic()
        request = self.request()
        named_device(self.device)
        prior = load_prior(self.prior)
        prior.check_options(request.fit)
        check_format(request.format, prior.config.field.channels)
        if name := model_name(prior.folder):
            print(f"model {name}: {prior.card['licence']}; not a medical device", file=sys.stderr)
        if os.path.realpath(self.output) in map(os.path.realpath, self.inputs):
            raise BadSettingError(f"{self.output}: is the input folder; choose another for the output")
        cohort = self.taken(open_inputs(self.inputs, prior.anatomy, self.layout, labels=False))
        self.check_dicom_seg(cohort)
        cases = self.chosen(cohort)
        self.refuse_several(len(cases))
        given = self.allotment(len(cases))
        work = self.work(request, given)
        if self.estimate:
            return self.say_estimate(cases, prior, work, given)
        check_writable(self.output)
        remove_stale_locks(self.output)
        if not self.overwrite:
            refuse_other_labels(self.output, prior.anatomy.labels)
        errors = self.listing_errors(cohort)
        for sentence in dict.fromkeys(errors.values()):
            print(f"left out: {sentence}", file=sys.stderr)
        measured = Tables(self.output, overwrite=self.overwrite) if work.measures else nullcontext()
        with CohortProgress(len(cases)) as progress, measured as tables:
            engine = self.chosen_engine(prior, work, given)
            tally = carry_out(engine, cases, tables, progress, verbose=self.verbose)
        failed = errors | tally.failed
        if self.report and tally.done:
            self.write_pages([files.name for files in cases], prior.to(named_device(self.device)), failed)
        for note in notes_of(cohort, tally):
            print(f"note: {note}", file=sys.stderr)
        several = "on Ray" if self.engine == "ray" else f"with {given.workers} workers"
        slowest = progress.slowest("" if self.engine == "auto" and given.workers == 1 else several)
        took = f"{time.monotonic() - began:.1f} s{slowest}"
        print(f"{tally.done} of {len(cases)} cases written to {self.output} in {took}")
        if failed:
            print(f"failed: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1 if failed else 0

    def say_estimate(
        self, cases: list[CaseFiles], prior: Prior[Subject], work: Work, given: Allotment
    ) -> int:
        """Say what the cases will cost."""
        from nisf.engines.estimate import estimated

        for line in estimated(cases, self.begin(prior, given), work).told(given.workers):
            print(line)
        return 0

    def begin(self, prior: Prior[Subject], given: Allotment) -> Begin:
        """What a worker needs before its first case."""
        from nisf.engines import Begin
        from nisf.outputs.provenance import COMMAND

        return Begin(str(prior.source), prior.digest, self.device, given.threads, COMMAND.get())

    def listing_errors(self, cohort: Cohort) -> dict[str, str]:
        """Case, or what was opened, to what was wrong with it; only the first of several shards tells it."""
        from nisf.engines.shard import parsed

        if self.shard is not None and parsed(self.shard).number > 1:
            return {}
        return {
            problem.case or str(cohort.root): problem.message
            for problem in cohort.problems
            if problem.severity == "error"
        }

    def chosen(self, cohort: Cohort) -> list[CaseFiles]:
        """The cases of the cohort that this command does.

        Raises:
            NisfError: the files of two would have one name; the shard or the list of names is wrong.
        """
        from nisf.engines.shard import parsed
        from nisf.errors import BadSettingError
        from nisf.io.readers import only_named
        from nisf.segmentation import refuse_collisions

        cases = only_named(cohort.cases, self.only)
        refuse_collisions({case.name: [stack.name for stack in case.stacks] for case in cases})
        if self.shard is None:
            return cases
        if self.report:
            raise BadSettingError(
                "--report: leave it out of shards; nisf report OUT writes all pages at the end"
            )
        return parsed(self.shard).cases(cases)

    def allotment(self, cases: int) -> Allotment:
        """Workers, threads and memory; those of one task of Ray, which finds out itself how many it can run.

        Raises:
            BadSettingError: they do not go together.
        """
        from nisf.engines.choice import MEMORY_MB, Allotment, allotted
        from nisf.errors import BadSettingError

        if self.engine == "ray":
            return Allotment(self.workers or 1, self.threads or 1, self.memory_mb or MEMORY_MB)
        if self.address is not None:
            raise BadSettingError("--address: is of a Ray cluster; give --engine ray too")
        return allotted(
            cases,
            workers=self.workers,
            threads=self.threads,
            memory_mb=self.memory_mb,
            device=self.device,
        )

    def work(self, request: Request, given: Allotment) -> Work:
        """What is done to each case."""
        from nisf.engines import Work

        return Work(
            folder=self.output,
            request=request,
            measures=not self.no_measures,
            dicom_seg=self.dicom_seg,
            seg_nrrd=self.seg_nrrd,
            bids=self.bids,
            corrections=self.corrections,
            overwrite=self.overwrite,
            memory_mb=given.memory_mb,
        )

    def chosen_engine(self, prior: Prior[Subject], work: Work, given: Allotment) -> Engine:
        """What has the cases done."""
        from nisf.device import named_device
        from nisf.engines import InProcess, Workers

        device, begin = named_device(self.device), self.begin(prior, given)
        if self.engine == "ray":
            from nisf.engines.on_ray import OnRay

            return OnRay(prior, begin, work, self.address, self.workers)
        if given.workers == 1:
            return InProcess(prior.to(device), work)
        return Workers(begin, work, given.workers)

    def write_pages(self, names: list[str], prior: Prior[Subject], failed: dict[str, str]) -> None:
        """Write the report of the cases that did not fail; those without a page are added to ``failed``."""
        from nisf.report.folder import ReportOptions, write_reports

        named = frozenset(name for name in names if name not in failed)
        pages = ReportOptions(self.identifiers, named, overwrite=self.overwrite)
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

    def request(self) -> Request:
        """The options as the library takes them.

        Raises:
            BadSettingError: one does not parse; the sentence names it.
        """
        from nisf.cli.parse import numbers
        from nisf.errors import BadSettingError
        from nisf.segmentation import Request

        if self.memory_mb is not None:
            working_memory(self.memory_mb)
        spacing = centre = None
        if self.spacing is not None:
            x, y, z = numbers(self.spacing, 3, "--spacing", positive=True)
            spacing = (x, y, z)
        if self.centre is not None:
            x, y, z = numbers(self.centre, 3, "--centre")
            centre = (x, y, z)
        if self.frames is not None and self.frames < 1:
            raise BadSettingError(f"--frames {self.frames}: give a number of at least 1")
        if self.frames is not None and self.frames > MOST_FRAMES:
            raise BadSettingError(f"--frames {self.frames}: give {MOST_FRAMES} at most")
        fit = self.fit_options()
        return Request(
            spacing, self.frames, self.probabilities, self.region, centre, fit, self.format, align=self.align
        )
