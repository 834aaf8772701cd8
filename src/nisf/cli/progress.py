"""Progress on a terminal: a bar with ETA and live losses; plain lines in files and pipes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any


class TrainingProgress:
    """Shows the records of a training run; use it as a context manager.

    Args:
        steps: steps of the whole run.
        seconds: time between plain lines where there is no terminal.
    """

    def __init__(self, steps: int, *, seconds: float = 15.0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.steps = steps
        self.seconds = seconds
        self.console = Console(highlight=False)
        self.bar = None
        self.last = self.began = time.monotonic()
        self.first_step: int | None = None
        if self.console.is_terminal:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[losses]}"), console=self.console)
            self.task = self.bar.add_task("training", total=steps, losses="")

    def __enter__(self) -> TrainingProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        self.console.print(sentence, markup=False)

    def report(self, record: Mapping[str, Any]) -> None:
        """A record of the log."""
        step = record["step"]
        if "loss" not in record:
            return
        losses = (
            f"class {record['class_bce'] + record['dice_loss']:.3f} intensity {record['intensity_bce']:.3f}"
        )
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=step, losses=losses)
        elif now - self.last > self.seconds or step == self.steps:
            if self.first_step is None:
                self.first_step, self.began = step, now
                left = ""
            else:
                rate = (step - self.first_step) / max(now - self.began, 1e-9)
                left = f", {(self.steps - step) / max(rate, 1e-9) / 60:.1f} min left"
            self.last = now
            self.say(f"step {step} of {self.steps}: {losses}{left}")


def track(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    """Iterate over ``count`` items with a bar on a terminal, silently elsewhere."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if not console.is_terminal or count < 2:
        return items
    return rich_track(items, what, count, console=console)
