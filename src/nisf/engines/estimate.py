"""Estimate the cost of a cohort before it is run: from the headers of many cases and a trial run of one.

The trial is run on this machine, with this prior and these options. Its time, memory and files are scaled by
the number of voxels of all frames. A table of constants would only apply to the machine it was made on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nisf.data.wording import counted
from nisf.engines.work import Result, Work
from nisf.engines.worker import Begin
from nisf.engines.workers import Workers
from nisf.errors import CannotFitError, NisfError, gigabytes
from nisf.io.readers.header import read_header
from nisf.io.readers.listing import CaseFiles

SAMPLE = 200
"""Maximum number of cases whose headers are read, evenly spread."""
TRIES = 3
"""Number of cases to try before giving up."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a cohort.

    Attributes:
        cases: number of cases.
        trial: the case of the trial run.
        seconds: CPU seconds for all cases.
        disk_bytes: size of all files.
        memory_bytes: maximum of one worker, for the largest case whose header was read.
    """

    cases: int
    trial: Result
    seconds: float
    disk_bytes: float
    memory_bytes: float

    def told(self, workers: int) -> list[str]:
        """Lines for the user, given the number of workers."""
        trial, hours = self.trial, self.seconds / 3600
        wall = hours / max(1, min(workers, self.cases))
        return [
            f"{counted(self.cases, 'case')}; the trial run on {trial.case} took {trial.seconds:.1f} s",
            f"time: about {_hours(wall)} with {counted(workers, 'worker')} ({_hours(hours)} of one core)",
            f"memory: at most {gigabytes(self.memory_bytes)} for each worker",
            f"disk: {gigabytes(self.disk_bytes)} for all results",
        ]


def estimated(cases: Sequence[CaseFiles], begin: Begin, work: Work) -> Estimate:
    """Run one case in a process and a folder of its own, and scale its cost.

    Args:
        cases: the cases of the cohort, or of a shard.
        begin: what a worker needs.
        work: what to do with each case; nothing is written to its folder.

    Raises:
        CannotFitError: there is no case, or none of the tried cases could be run.
    """
    step = max(1, -(-len(cases) // SAMPLE))
    sizes = {index: size for index in range(0, len(cases), step) if (size := voxels(cases[index]))}
    if not sizes:
        raise CannotFitError("no case has a readable size; look at them with 'nisf check'")
    middle = float(np.median(list(sizes.values())))
    tried = sorted(sizes, key=lambda index: abs(sizes[index] - middle))[:TRIES]
    for index in tried:
        with tempfile.TemporaryDirectory(prefix="nisf-estimate-") as name:
            trial = replace(work, folder=Path(name), overwrite=True)
            ((_, result),) = Workers(begin, trial, 1).run([cases[index]], lambda *_: None)
            written = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
        if result.done:
            scale = float(np.mean(list(sizes.values()))) / sizes[index] * len(cases)
            largest = max(1.0, max(sizes.values()) / sizes[index])
            return Estimate(
                len(cases),
                result,
                result.cpu_s * scale,
                written * scale,
                result.peak_bytes * largest,
            )
    raise CannotFitError(f"the trial run failed for {len(tried)} cases: {result.error}")


def voxels(files: CaseFiles) -> int:
    """Number of voxels in all frames of a case, from its headers; 0 if they cannot be read."""
    total = 0
    for stack in files.stacks:
        try:
            if stack.series is not None:
                total += sum(one.columns * one.rows for one in stack.series.chosen().instances)
                continue
            header = read_header(stack.images[0][0])
        except NisfError:
            return 0
        total += int(np.prod(header.shape)) * len(stack.images)
    return total


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
