"""``nisf evaluate``: score segmentations against references."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.evaluate import Evaluation


@dataclass(frozen=True)
class Evaluate:
    """Score a folder of segmentations: Dice, HD95 and ASSD in mm, volumes in mL.

    Structures that a segmentation misses count with Dice 0 and the diagonal of the volume as distance.
    The exit status is 1 if any case could not be scored.
    """

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Folder with NAME_seg.nii.gz files and labels.json (label number to name)."""
    references: Annotated[Positional[Path], arg(metavar="REFERENCES")]
    """Folder of the cohort with the reference labels."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """CSV file for one row per case, frame and structure."""
    anatomy: str = "cardiac-sax"
    """Structures: a name, or a JSON file."""
    layout: str = "auto"
    """How the references lie in their folder; found out if auto."""

    def run(self) -> int:
        from nisf.evaluate import evaluate_folder

        return report(
            evaluate_folder(self.predictions, self.references, self.anatomy, self.layout), self.output
        )


def report(evaluation: Evaluation, output: Path | None) -> int:
    """Write the CSV, print the table and the failures; the exit status.

    Raises:
        NisfError: the CSV cannot be written.
    """
    from rich.console import Console

    from nisf.evaluate import summary_table, write_scores_csv

    failures = evaluation.failures
    if output is not None:
        write_scores_csv(output, evaluation.scores)
    if evaluation.scores:
        console = Console()
        if not console.is_terminal:
            console.width = 120  # files and pipes have room: nothing of the table is folded
        console.print(summary_table(evaluation.scores))
    for sentence in (*evaluation.notes, *failures.values()):
        print(sentence, file=sys.stderr)
    if failures:
        cases = "1 case" if len(failures) == 1 else f"{len(failures)} cases"
        print(f"{cases} could not be scored: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0
