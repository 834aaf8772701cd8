"""What a cohort will cost, before it is begun: headers of many cases, and one case that is done for a trial.

The trial is measured on this machine, with this prior and these options: its time, memory and files, scaled
by the voxels of all frames. A table of constants would be another machine's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nisf.engines.work import Result, Work
from nisf.engines.worker import Begin
from nisf.engines.workers import Workers
from nisf.errors import CannotFitError, NisfError, gigabytes
from nisf.io.readers.header import read_header
from nisf.io.readers.listing import CaseFiles

SAMPLE = 200
"""Cases whose headers are read; beyond, every so many."""
TRIES = 3
"""Cases that are tried before it is given up."""


@dataclass(frozen=True)
class Estimate:
    """What a cohort costs.

    Attributes:
        cases: their number.
        trial: the case that was done for a trial.
        seconds: of one processor, for all cases.
        disk_bytes: of all files.
        memory_bytes: at most, of one worker with the largest case of which the header was read.
    """

    cases: int
    trial: Result
    seconds: float
    disk_bytes: float
    memory_bytes: float

    def told(self, workers: int) -> list[str]:
        """Lines for a person, for so many workers at a time."""
        hours = self.seconds / 3600
        wall = hours / max(1, min(workers, self.cases))
        return [
            f"{self.cases} cases; {self.trial.case} was done for a trial in {self.trial.seconds:.1f} s",
            f"time: {_hours(wall)} with {workers} at a time ({_hours(hours)} of one processor)",
            f"memory: {gigabytes(self.memory_bytes)} for each of them at most",
            f"disk: {gigabytes(self.disk_bytes)}",
        ]


def estimated(cases: Sequence[CaseFiles], begin: Begin, work: Work) -> Estimate:
    """Do one case for a trial, in a process and a folder of its own, and scale what it took.

    Args:
        cases: of the cohort, or of a shard.
        begin: what a worker needs.
        work: what is wanted; nothing is written to its folder.

    Raises:
        CannotFitError: no case, or none of those that were tried can be done.
    """
    step = max(1, len(cases) // SAMPLE)
    sizes = {index: size for index in range(0, len(cases), step) if (size := voxels(cases[index]))}
    if not sizes:
        raise CannotFitError("no case whose size can be told; look at them with 'nisf check'")
    middle = float(np.median(list(sizes.values())))
    tried = sorted(sizes, key=lambda index: abs(sizes[index] - middle))[:TRIES]
    for index in tried:
        with tempfile.TemporaryDirectory(prefix="nisf-estimate-") as name:
            trial = replace(work, folder=Path(name), overwrite=True)
            ((_, result),) = Workers(begin, trial, 1).run([cases[index]], lambda *_: None)
            written = sum(path.stat().st_size for path in Path(name).iterdir())
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
    raise CannotFitError(f"none of {len(tried)} cases could be done for a trial: {result.error}")


def voxels(files: CaseFiles) -> int:
    """Voxels of all frames of a case, by its headers; 0 if they cannot be read."""
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
