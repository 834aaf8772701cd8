"""``nisf check``: check a cohort before training on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from nisf.cli.console import table_console

if TYPE_CHECKING:
    from nisf.io.readers.check import CaseReport, Report


@dataclass(frozen=True)
class Check:
    """Check a cohort for files that are missing, damaged, empty or inconsistent with each other.

    The exit status is 1 if there are errors; warnings do not count.
    """

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """Cohort folders, case folders, image files or manifest CSVs; patterns such as *.nii.gz are expanded."""
    anatomy: str = "cardiac-sax"
    """Anatomy: a name or a JSON file."""
    layout: str = "auto"
    """Folder layout of the cases; auto detects it."""
    json: bool = False
    """Print the report as JSON instead of a table."""
    identifiers: bool = False
    """Show the names, IDs and dates of DICOM studies; by default they are hidden."""

    def run(self) -> int:
        import json

        from nisf.data.anatomy import load_anatomy
        from nisf.io.readers.check import check_cohort

        report = check_cohort(
            self.inputs, load_anatomy(self.anatomy), self.layout, identifiers=self.identifiers
        )
        if self.json:
            print(json.dumps(report.to_dict(), indent=2))
        else:
            show(report)
        return 1 if report.errors else 0


def show(report: Report) -> None:
    """Print the report as a table of the cases, then problems and notes."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from nisf.data.wording import counted

    console = Console(soft_wrap=True, highlight=False, markup=False)
    if report.cases:
        table = Table(Column("case", overflow="fold"), "grid", "spacing mm", "frames", "labels", "problems")
        for case in report.cases:
            table.add_row(*(Text(cell) for cell in _row(case)))
        table_console().print(table)
    for case in report.cases:
        if case.person:
            console.print(
                f"{case.name}: " + ", ".join(f"{what} {value}" for what, value in case.person.items())
            )
        for one in case.series:
            name = f" '{one['description']}'" if one["description"] else ""
            taken = ", chosen" if one["taken"] else ""
            console.print(f"{case.name}: series {one['number']}{name}: {one['guess']} ({one['why']}){taken}")
    for problem in report.all_problems():
        subject = f"{problem.case}: " if problem.case and problem.case not in problem.message else ""
        style = "bold red" if problem.severity == "error" else "yellow"
        console.print(Text.assemble((problem.severity, style), f" {subject}{problem.message}"))
    for note in report.notes:
        console.print(f"note {note}")
    console.print(
        f"{counted(len(report.cases), 'case')}, layout {report.layout or 'unknown'}: "
        f"{counted(report.errors, 'error')}, {counted(report.warnings, 'warning')}"
    )


def _row(case: CaseReport) -> list[str]:
    from nisf.data.wording import counted

    def lines(texts: list[str]) -> str:
        return "\n".join(texts)

    severities = [problem.severity for problem in case.problems]
    counts = [counted(severities.count(kind), kind) for kind in ("error", "warning") if kind in severities]
    return [
        case.name,
        lines([f"{stack.name} " + " x ".join(map(str, stack.shape or ("?",))) for stack in case.stacks]),
        lines([" x ".join(f"{size:.3g}" for size in stack.spacing or ()) or "?" for stack in case.stacks]),
        lines([str(stack.frames or "?") for stack in case.stacks]),
        ", ".join(case.labels) or "none",
        ", ".join(counts) or "none",
    ]
