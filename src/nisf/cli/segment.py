"""``nisf segment``: fit new subjects and write their segmentations."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from nisf.prior.bundled import DEFAULT, model_name

if TYPE_CHECKING:
    from nisf.segmentation import Request


@dataclass(frozen=True)
class Segment:
    """Segment images: writes NAME_seg.nii.gz, NAME_image.nii.gz, NAME.nisf and labels.json.

    A case whose files are there already, made from the same input with the same options, is skipped.
    The exit status is 1 if a case failed; the others are finished.
    """

    input: Annotated[Positional[Path], arg(metavar="INPUT")]
    """Image file, case folder, cohort folder or manifest CSV."""
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
    memory_mb: float = 512
    """Working memory for queries, MiB."""
    seed: int = 0
    """Seed of the points that are drawn."""
    device: str = "cpu"
    """Where networks run: cpu, cuda or cuda:NUMBER."""
    overwrite: bool = False
    """Do cases again that are done already."""

    def run(self) -> int:
        from nisf.device import device_of
        from nisf.errors import NisfError
        from nisf.files import check_writable
        from nisf.io.readers import only_named, open_cohort, read_case
        from nisf.prior.prior import load_prior
        from nisf.segmentation import done_already, segment_case, write_segmentation

        request = self.request()
        prior = load_prior(self.prior).to(device_of(self.device))
        if name := model_name(prior.folder):
            print(f"model {name}: {prior.card['licence']}; not a medical device", file=sys.stderr)
        if self.input.resolve() == self.output.resolve():
            raise NisfError(f"{self.output}: is the input folder; choose another for the output")
        cohort = open_cohort(self.input, prior.anatomy, self.layout)
        check_writable(self.output)
        failed: dict[str, str] = {
            problem.case or str(self.input): problem.message
            for problem in cohort.problems
            if problem.severity == "error"
        }
        cases = only_named(cohort.cases, self.only)
        for number, files in enumerate(cases, start=1):
            place = f"[{number}/{len(cases)}] {files.name}"
            try:
                case = read_case(files.without_labels(), prior.anatomy, cohort.notes)
                if not self.overwrite and done_already(case, prior, self.output, request):
                    print(f"{place}: done already")
                    continue
                fitted = segment_case(case, prior, request)
                write_segmentation(fitted, self.output, request, memory_mb=self.memory_mb)
                print(f"{place}: {outcome(fitted.summary)}", flush=True)
            except NisfError as error:
                failed[files.name] = str(error)
                print(f"{place}: failed: {error}", file=sys.stderr)
        for note in cohort.notes.values():
            print(f"note: {note}", file=sys.stderr)
        done = len(cases) - sum(files.name in failed for files in cases)
        print(f"{done} of {len(cases)} cases written to {self.output}")
        if failed:
            print(f"failed: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1 if failed else 0

    def request(self) -> Request:
        """The options as the library takes them.

        Raises:
            NisfError: one does not parse; the sentence names it.
        """
        from nisf.cli.parse import numbers
        from nisf.errors import NisfError
        from nisf.segmentation import Request

        spacing = centre = None
        if self.spacing is not None:
            x, y, z = numbers(self.spacing, 3, "--spacing", positive=True)
            spacing = (x, y, z)
        if self.centre is not None:
            x, y, z = numbers(self.centre, 3, "--centre")
            centre = (x, y, z)
        for flag, value in (("--frames", self.frames), ("--steps", self.steps)):
            if value is not None and value < 1:
                raise NisfError(f"{flag} {value}: give a number of at least 1")
        return Request(
            spacing,
            self.frames,
            self.probabilities,
            self.region,
            centre,
            self.steps,
            self.seed,
            self.method,
            self.shifts,
            self.gains,
            self.pose,
            self.islands,
        )


def outcome(summary: Mapping[str, Any]) -> str:
    """How a fit went, for one line."""
    seconds = f"in {summary['seconds']:.1f} s"
    if summary.get("intensity_bce") is None:
        return f"segmented {seconds}, region found by {summary['region']}"
    end = "" if summary.get("converged", True) else ", not converged: give more --steps"
    return f"fitted {seconds} (intensity loss {summary['intensity_bce']:.4f}){end}"
