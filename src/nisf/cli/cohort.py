"""Run a cohort with an engine, and report each case."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nisf.cli.progress import CohortProgress, outcome
from nisf.stopwatch import told

if TYPE_CHECKING:
    from nisf.engines import Engine, Result
    from nisf.io.readers import CaseFiles, Cohort
    from nisf.measures.folder import Tables


@dataclass
class Tally:
    """Results of the cases.

    Attributes:
        done: number of cases whose files are complete.
        kept: number of these that were done already.
        failed: errors of the failed cases, by name.
        notes: readers' remarks, each kind once, from the first case that had it.
    """

    done: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def carry_out(
    engine: Engine,
    cases: Sequence[CaseFiles],
    tables: Tables | None,
    progress: CohortProgress,
    *,
    verbose: bool = False,
) -> Tally:
    """Run all cases, printing lines that name the case they refer to.

    Args:
        engine: runs the cases.
        cases: the cohort, in order.
        tables: updated as cases are added; None for no tables.
        progress: shows the progress.
        verbose: print how long each stage of a case took.
    """
    tally = Tally()
    places = [f"[{number}/{len(cases)}] {files.name}" for number, files in enumerate(cases, start=1)]
    remarks: dict[int, dict[str, str]] = {}

    def tell(index: int, what: str) -> None:
        progress.tell(places[index], what)

    with closing(engine.run(cases, tell)) as results:
        for index, result in results:
            remarks[index] = dict(result.notes)
            tally.done += result.done
            tally.kept += result.state == "kept"
            if result.state == "failed":
                tally.failed[result.case] = result.error
            if tables is not None and result.done:
                tables.note()
            _say(result, places[index], progress.say, verbose=verbose)
            progress.end(result.stages, result.seconds)
    for index in sorted(remarks):
        for kind, note in remarks[index].items():
            tally.notes.setdefault(kind, note)
    return tally


def _say(result: Result, place: str, say: Callable[..., None], *, verbose: bool) -> None:
    """Print the lines of one case."""
    for remark in result.said:
        say(f"{place}: {remark}")
    if result.state == "failed":
        say(f"{place}: failed: {result.error}", error=True)
    elif result.state == "busy":
        say(f"{place}: left to another process, which is writing it")
    elif result.state == "kept":
        say(f"{place}: done already")
    else:
        say(f"{place}: {outcome(result.summary, result.seconds)}")
    if verbose and result.stages:
        say(f"{place}: {told(result.stages)}")


def left_out_of(tables: Tables | None) -> bool:
    """Print which cases' measures could not be read and are not in the tables; whether there are any."""
    damaged = () if tables is None else tables.damaged
    for sentence in damaged:
        print(f"left out of the tables: {sentence}", file=sys.stderr)
    return bool(damaged)


def notes_of(cohort: Cohort, tally: Tally) -> list[str]:
    """Notes on the cohort's listing and on its cases, each kind once."""
    warnings = [problem.message for problem in cohort.problems if problem.severity == "warning"]
    return list(dict.fromkeys([*warnings, *{**tally.notes, **cohort.notes}.values()]))
