"""Run the cases one after another in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from nisf.engines.work import Result, Tell, Work, do_case
from nisf.interrupts import check
from nisf.io.readers.listing import CaseFiles
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class InProcess:
    """An `nisf.engines.work.Engine` without other processes.

    Attributes:
        prior: the trained prior, on the device that computes.
        work: what to do with each case.
    """

    prior: Prior[Subject]
    work: Work

    def run(self, cases: Sequence[CaseFiles], tell: Tell) -> Generator[tuple[int, Result]]:
        """See `nisf.engines.work.Engine.run`."""
        for index, files in enumerate(cases):
            check()
            yield index, do_case(files, self.prior, self.work, partial(tell, index))
