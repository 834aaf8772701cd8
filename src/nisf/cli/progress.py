"""Progress on a terminal: a bar with remaining time and losses; plain lines in files and pipes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any


class TrainingProgress:
    """Shows the records of a training run; use it as a context manager.

    Args:
        steps: number of steps of the whole run.
        minutes: time limit of the run, by which it may end before its last step; 0 for none.
        seconds: time between plain lines if there is no terminal.
        silent: show nothing, because another rank does.
    """

    def __init__(
        self, steps: int, minutes: float = 0.0, *, seconds: float = 15.0, silent: bool = False
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.steps = steps
        self.limit = 60 * minutes or math.inf
        self.seconds = seconds
        self.console = Console(highlight=False, quiet=silent)
        self.bar = None
        self.last = self.began = time.monotonic()
        self.first_step: int | None = None
        self.unsaid = ""
        self.preparing: tuple[str, int, float] | None = None
        if self.console.is_terminal and not silent:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, TextColumn("{task.fields[losses]}"), console=self.console)
            self.task = self.bar.add_task("training", total=steps, losses="", start=False)
            self.before: Any = None

    def __enter__(self) -> TrainingProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        if error is None:
            self._say_latest()  # a time limit may have ended the run at this step

    def say(self, sentence: str) -> None:
        """Print a line above the bar; before it, the latest step if it was not shown."""
        self._say_latest()
        self.console.print(sentence, markup=False)

    def _say_latest(self) -> None:
        latest, self.unsaid = self.unsaid, ""
        if latest:
            self.console.print(latest, markup=False)

    def prepare(self, what: str, done: int, count: int) -> None:
        """Show the progress of something needed before the first step, e.g. the finder."""
        now = time.monotonic()
        if self.preparing is None or self.preparing[0] != what:
            self.preparing, self.last = (what, done, now), now
            self.say(f"{what}: trained first, {count - done + 1} steps")
        if self.bar:
            if self.before is None:
                self.before = self.bar.add_task(what, total=count, losses="")
            self.bar.update(self.before, completed=done, visible=done < count)
        elif now - self.last > self.seconds or done == count:
            self.last = now
            left = remaining(count - done, done - self.preparing[1], now - self.preparing[2])
            self.say(f"{what}: step {done} of {count}{left}")

    def report(self, record: Mapping[str, Any]) -> None:
        """Show a record of the log."""
        step = record["step"]
        if "loss" not in record:
            return
        losses = (
            f"class {record['class_bce'] + record['dice_loss']:.3f} intensity {record['intensity_bce']:.3f}"
        )
        now, line = time.monotonic(), f"step {step} of {self.steps}: {losses}"
        if self.first_step is None:
            self.first_step, self.began = step, now
        passed = now - self.began
        if self.bar:
            self.bar.start_task(self.task)
            place = max(step, self.steps * passed / self.limit)
            self.bar.update(self.task, completed=min(round(place), self.steps), losses=losses)
        elif now - self.last > self.seconds or step == self.steps:
            left = remaining(self.steps - step, step - self.first_step, passed, at_most=self.limit - passed)
            self.last, self.unsaid = now, ""
            self.say(f"{line}{left}")
        else:
            self.unsaid = line


def remaining(steps: int, done: int, seconds: float, *, at_most: float = math.inf) -> str:
    """The time for ``steps`` more steps, if ``done`` took this many seconds, for a line of output."""
    if done <= 0 or steps <= 0:
        return ""
    return f", {max(0.0, min(steps * seconds / done, at_most)) / 60:.1f} min left"


def track(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
    """Iterate over ``count`` items, with a bar on a terminal and silently elsewhere."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if not console.is_terminal or count < 2:
        return items
    return rich_track(items, what, count, console=console)


class CohortProgress:
    """Shows the progress of a cohort: a bar on a terminal, occasional lines elsewhere; a context manager.

    Args:
        cases: number of cases.
        seconds: time between lines if there is no terminal.
    """

    def __init__(self, cases: int, *, seconds: float = 30.0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.seconds, self.last, self.cases_s = seconds, time.monotonic(), 0.0
        self.stages: dict[str, float] = {}
        console = Console(stderr=True)
        self.bar = None
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            text = TextColumn("{task.description}", markup=False)
            self.bar = Progress(*columns, text, console=console, transient=True, redirect_stdout=False)
            self.task = self.bar.add_task("", total=cases)

    def __enter__(self) -> CohortProgress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, case: str, what: str) -> None:
        """Note that a stage of a case begins, or its progress."""
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.task, description=f"{case}: {what}")
        elif now - self.last > self.seconds:
            self.last = now
            print(f"{case}: {what}", file=sys.stderr, flush=True)

    def end(self, stages: Mapping[str, float], seconds: float) -> None:
        """Note the end of a case, and its total time and time per stage."""
        self.cases_s += seconds
        for name, own in stages.items():
            self.stages[name] = self.stages.get(name, 0.0) + own
        if self.bar:
            self.bar.advance(self.task)

    def say(self, sentence: str, *, error: bool = False) -> None:
        """Print a permanent line above the bar."""
        self.last = time.monotonic()
        if self.bar:
            self.bar.stop()
        print(sentence, file=sys.stderr if error else sys.stdout, flush=True)
        if self.bar:
            self.bar.start()

    def slowest(self, engine: str = "") -> str:
        """The slowest stage in words; empty if there was none.

        Args:
            engine: description of a parallel engine, e.g. ``with 2 workers``, whose times overlap.
        """
        if not self.stages:
            return ""
        name = max(self.stages, key=self.stages.__getitem__)
        if not engine:
            return f" (slowest step: {name}, {self.stages[name]:.1f} s)"
        part = self.stages[name] / max(self.cases_s, 1e-9)
        return f" {engine} (slowest step: {name}, {100 * part:.0f} % of the cases' time)"


FOUND = {
    "finder": "anatomy found by the finder",
    "motion": "anatomy found by its motion",
    "centre": "anatomy assumed in the centre of the image",
    "whole": "anatomy assumed anywhere in the image",
    "given": "anatomy at the given centre",
}
"""How the region was found, in words."""


def outcome(summary: Mapping[str, Any], seconds: float) -> str:
    """The result of a case in one line; ``seconds`` is its total time."""
    took, moved = f"in {seconds:.1f} s", alignment(summary.get("moved_mm"))
    if summary.get("intensity_bce") is None:
        turned = f", {summary['turned']}" if "turned" in summary else ""
        return f"segmented {took}, {FOUND[summary['region']]}{turned}{moved}"
    end = "" if summary.get("converged", True) else ", not converged: give more --steps"
    return f"segmented {took} (intensity loss {summary['intensity_bce']:.4f}){moved}{end}"


def alignment(moved_mm: Sequence[float] | None) -> str:
    """How far slices were moved by alignment, for the end of a line; empty if it was not requested."""
    if moved_mm is None:
        return ""
    if not moved_mm:
        return ", no slice moved (no planes in other directions intersect them)"
    from nisf.data.wording import counted

    mean = sum(moved_mm) / len(moved_mm)
    count = counted(len(moved_mm), "slice")
    return f", {count} moved by {mean:.1f} mm on average, {max(moved_mm):.1f} mm at most"
