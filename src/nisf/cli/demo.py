"""``nisf demo``: the whole workflow on phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class Demo:
    """Train a small prior on beating-heart phantoms, segment an unseen heart from every other slice, and
    show the result.

    Takes about two minutes on two cores and needs no data.
    """

    output: Annotated[Path, arg(aliases=["-o"])] = Path("nisf-demo")
    """Folder to write to; what an earlier demo left there is replaced."""

    def run(self) -> int:
        from rich.console import Console

        from nisf.cli.progress import TrainingProgress
        from nisf.config.presets import preset
        from nisf.demo import run_demo
        from nisf.evaluation.scores import summary_table

        with TrainingProgress(preset("demo").train.steps) as progress:
            outcome = run_demo(self.output, report=progress.report, say=progress.say)
        console = Console()
        phases = ("ED", "ES")
        for title, scores in (("given slices", outcome.seen), ("hidden slices", outcome.hidden)):
            console.print(summary_table([s for s in scores if s.phase in phases], title=title))
        found, true = outcome.ejection
        trained, fitted = outcome.seconds
        print(f"LV ejection fraction {found:.1f} %, truth {true:.1f} %")
        print(f"trained in {trained:.0f} s, fitted in {fitted:.1f} s")
        print(f"wrote {self.output}: report/index.html, demo.png, unseen_seg.nii.gz, ...")
        return 0
