"""``nisf segment``: fit new subjects and write their segmentations."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from nisf.cli.cohort import carry_out, left_out_of, notes_of
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
"""Upper limit of --frames; more is almost certainly a typing error."""


@dataclass(frozen=True)
class Segment(Corrections):
    """Segment images: NAME_seg.nii.gz, NAME_image.nii.gz, NAME.nisf, NAME.measures.json, measures.csv.

    NAME.run.json records the inputs and options. Cases that are already done with the same input and options
    are skipped. Files that nisf did not write are never replaced. The exit status is 1 if a case failed.
    """

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """Image files, case folders, cohort folders or manifest CSVs; patterns such as *.nii.gz are expanded."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write to."""
    prior: str = DEFAULT
    """Folder of a prior, or the name of a bundled model (see nisf models)."""
    spacing: str | None = None
    """Output spacing X,Y,Z in mm along the stack's axes; by default that of the input."""
    frames: int | None = None
    """Number of equally spaced output frames; by default those of the input."""
    probabilities: bool = False
    """Also write the probability of each class."""
    format: Literal["nii.gz", "nii", "hdr", "nrrd", "mha"] = "nii.gz"
    """File format of the output images; hdr is a NIfTI pair."""
    region: Literal["auto", "finder", "motion", "centre", "whole"] = "auto"
    """How to find the region of interest."""
    centre: str | None = None
    """Centre X,Y,Z of the region in world mm, instead of searching for it."""
    only: Path | None = None
    """Text file with the names of the cases to segment, one per line."""
    layout: str = "auto"
    """Folder layout of the cases; auto detects it."""
    series: str | None = None
    """Number or description of the DICOM series; by default the short-axis stack (see nisf check)."""
    identifiers: bool = False
    """Show names, IDs and dates of DICOM studies, hidden by default, and write them to DICOM SEG."""
    dicom_seg: str | None = None
    """Also write DICOM SEG files such as NAME_ED_seg.dcm, for these phases: auto (the named phases, or the
    largest and smallest volume), all, or a comma-separated list of names or frame numbers from 0. With
    --identifiers they carry the patient's name, ID, dates and UIDs; otherwise the case name and new UIDs."""
    seg_nrrd: str | None = None
    """Also write files such as NAME_ED.seg.nrrd for 3D Slicer, for these phases (as in --dicom-seg)."""
    bids: bool = False
    """Also write a BIDS derivative dataset: OUT/bids/sub-NAME/anat/sub-NAME_desc-nisf_dseg.nii.gz."""
    no_measures: bool = False
    """Do not write measures.csv, measures.json, curves.csv and wall.csv."""
    memory_mb: float | None = None
    """Working memory for queries in MiB, for all workers together; by default 512, or 128 per worker."""
    device: str = "cpu"
    """Device to run networks on: cpu, cuda or cuda:NUMBER."""
    threads: int | None = None
    """CPU threads, for all workers together; by default the number of idle cores."""
    workers: int | None = None
    """Worker processes; by default chosen from the number of idle cores and cases, on a GPU one."""
    engine: Literal["auto", "ray"] = "auto"
    """Where cases are run: auto uses processes on this machine, ray a Ray cluster (needs nisf[ray])."""
    address: str | None = None
    """Running Ray cluster to use, HOST:PORT or auto, whose nodes share the folders; by default a local
    one."""
    shard: str | None = None
    """Process only one part of the cases, e.g. 3/16 for the third of sixteen. Meant for job arrays: all parts
    can run at the same time and write to the same folder."""
    report: bool = False
    """Also write a report: OUT/report/index.html (see nisf report)."""
    overwrite: bool = False
    """Redo cases that are done, and replace existing files even if nisf did not write them."""
    estimate: bool = False
    """Segment one case as a trial, print the expected time, memory and disk space for all cases, and stop."""
    verbose: bool = False
    """Print how long each step of each case took."""
    fitting: Fitting = field(default_factory=Fitting)

    def run(self) -> int:
        refuse_missing_prior(self.prior)
        refuse_missing([*(self.inputs if len(self.inputs) == 1 else ()), self.only])

        from nisf.data.wording import counted
        from nisf.device import named_device
        from nisf.errors import BadSettingError
        from nisf.files import check_writable
        from nisf.io.readers.several import open_inputs
        from nisf.io.writers import check_format, refuse_other_labels
        from nisf.kinds.load import load_prior
        from nisf.measures.folder import Tables, has_tables
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
        tabled = work.measures or has_tables(self.output)
        measured = Tables(self.output, overwrite=self.overwrite) if tabled else nullcontext()
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
        kept = f" ({tally.kept} done already)" if tally.kept else ""
        written = f"{tally.done - tally.kept} of {counted(len(cases), 'case')} written to {self.output}"
        print(f"{written}{kept} in {took}")
        if failed:
            print(f"failed: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1 if left_out_of(tables) or failed else 0

    def say_estimate(
        self, cases: list[CaseFiles], prior: Prior[Subject], work: Work, given: Allotment
    ) -> int:
        """Print the estimated cost of the cases."""
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
        """What was wrong with the listing, by case or input; of several shards, only the first reports it."""
        from nisf.engines.shard import parsed

        if self.shard is not None and parsed(self.shard).number > 1:
            return {}
        return {
            problem.case or str(cohort.root): problem.message
            for problem in cohort.problems
            if problem.severity == "error"
        }

    def chosen(self, cohort: Cohort) -> list[CaseFiles]:
        """The cases of the cohort that this command runs.

        Raises:
            NisfError: two cases have conflicting file names; the shard or the list of names is invalid.
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
        """Workers, threads and memory; with Ray, those of one task, because Ray decides how many it can run.

        Raises:
            BadSettingError: the options contradict each other.
        """
        from nisf.engines.choice import MEMORY_MB, Allotment, allotted
        from nisf.errors import BadSettingError

        if self.engine == "ray":
            return Allotment(self.workers or 1, self.threads or 1, self.memory_mb or MEMORY_MB)
        if self.address is not None:
            raise BadSettingError("--address: belongs to a Ray cluster; give --engine ray too")
        return allotted(
            cases,
            workers=self.workers,
            threads=self.threads,
            memory_mb=self.memory_mb,
            device=self.device,
        )

    def work(self, request: Request, given: Allotment) -> Work:
        """What to do with each case."""
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
        """The engine that runs the cases."""
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
        """The cohort with the options that only DICOM has.

        Raises:
            BadSettingError: a series is requested, but the cohort is not DICOM.
        """
        from nisf.io.readers.dicom_cohort import people, with_identifiers, with_series

        if self.identifiers:
            cohort = with_identifiers(cohort)
            for name, person in people(cohort).items():
                print(f"{name}: " + ", ".join(f"{what} {value}" for what, value in person.items()))
        return cohort if self.series is None else with_series(cohort, self.series)

    def check_dicom_seg(self, cohort: Cohort) -> None:
        """Check before any fit whether DICOM SEG can be written.

        Raises:
            NisfError: it cannot; the message says why.
        """
        if self.dicom_seg is None:
            return
        from nisf.errors import BadSettingError
        from nisf.io.dicom.seg_files import refuse_without_dicom

        for flag, value in (("--spacing", self.spacing), ("--frames", self.frames)):
            if value is not None:
                raise BadSettingError(f"--dicom-seg uses the images' own grid and frames; leave {flag} out")
        refuse_without_dicom(cohort.cases)

    def request(self) -> Request:
        """The options as a request of the library.

        Raises:
            BadSettingError: an option is invalid; the message names it.
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
            raise BadSettingError(f"--frames {self.frames}: give at most {MOST_FRAMES}")
        fit = self.fitting.options()
        return Request(
            spacing,
            self.frames,
            self.probabilities,
            self.region,
            centre,
            fit,
            self.format,
            align=self.fitting.align,
        )
