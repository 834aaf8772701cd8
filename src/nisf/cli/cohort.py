"""Have an engine do a cohort, and say what becomes of each case while it does."""

from __future__ import annotations

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
    """What became of the cases.

    Attributes:
        done: number of cases whose files are there now.
        failed: name to sentence of those that failed.
        notes: what readers remarked, each kind once: of the first case in the cohort's order that had it.
    """

    done: int = 0
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
    """Have all cases done; what is said of each stands on a line that names it.

    Args:
        engine: that does them.
        cases: the cohort, in its order.
        tables: made anew as cases are added; None for no tables.
        progress: shows how far it is.
        verbose: say where each case's time went.
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
    """The lines of one case."""
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


def notes_of(cohort: Cohort, tally: Tally) -> list[str]:
    """What is worth a note of the cohort's listing and of its cases, each kind once."""
    warnings = [problem.message for problem in cohort.problems if problem.severity == "warning"]
    return list(dict.fromkeys([*warnings, *{**tally.notes, **cohort.notes}.values()]))
