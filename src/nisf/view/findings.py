"""The findings of a case in the viewer: measures with intervals, bands around volumes, and the warning light.

They equal those of `nisf measure`: read from its file if there is one, otherwise computed in the background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nisf.alignment import aligned
from nisf.data.case import Case
from nisf.errors import CannotFitError, NisfError, sentence
from nisf.measures.case import CaseMeasures, Measuring
from nisf.measures.table import ENDING, read_case
from nisf.quality.judge import judged
from nisf.quality.judgement import Judgement, judgement_for_intervals, kept_judgement
from nisf.report.words import LIGHTS, rows_of
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject
from nisf.uncertainty.intervals import intervals_of, with_intervals
from nisf.uncertainty.spread import Spreading
from nisf.view.background import Background
from nisf.view.worker import Step, Work

MEMORY_MB = 256.0


def kept_measures(subject: Subject, path: Path) -> CaseMeasures | None:
    """The measures beside a subject's file, if they belong to its present state.

    Args:
        subject: read from the file.
        path: path of the file.
    """
    beside = path.with_name(path.stem + ENDING)
    try:
        if beside.stat().st_mtime < path.stat().st_mtime:
            return None
        measures = read_case(beside)
    except (OSError, NisfError):
        return None
    times = np.sort(subject.stacks[0].grid.times) if subject.stacks else np.zeros(1)
    known = np.zeros(0) if measures.curve is None else measures.curve.times
    same = measures.case == subject.name and known.shape == times.shape
    return measures if same and np.allclose(known, times, atol=1e-4) else None


class Findings:
    """Findings of one case, computed step by step.

    Args:
        subject: to be measured.
        case: as measured; without it, the quality is known only if it was judged before.
        background: fills the reference stack.
        known: its measures, if they are known already.
    """

    def __init__(
        self, subject: Subject, case: Case | None, background: Background, known: CaseMeasures | None = None
    ) -> None:
        self.subject, self.case, self.background, self.measures = subject, case, background, known
        self.judgement = kept_judgement(subject)
        self.problem: str | None = None
        self.complete = not subject.stacks

    def work(self) -> Work:
        """Measure, judge and find the bands; one step does one frame."""
        if self.complete:
            return
        try:
            yield from self._find()
        except Exception as error:  # the page waits until they are complete
            self.problem = sentence(error)
        self.complete = True
        yield Step.WORKED

    def _find(self) -> Work:
        if self.background.problem:
            raise CannotFitError(f"Volumes and islands could not be found: {self.background.problem}")
        fresh = self.measures is None
        if fresh:
            yield from self._measure()
        told = self.subject
        if judgement_for_intervals(told) is None and self.case is not None:
            with torch.inference_mode():
                case = aligned(self.case, told.shifts)
                told = judged(told, case, labels=self.background.labels())
            self.judgement = kept_judgement(told)
            yield Step.WORKED
        # Intervals and bands widen with the error that the judgement predicts.
        yield from self._bands(told, fresh=fresh)

    def _measure(self) -> Work:
        measuring = Measuring(self.subject, memory_mb=MEMORY_MB)
        for t in range(len(measuring.times)):
            measuring.frame(t)
            yield Step.WORKED
        label, grid = self.background.labels(), self.subject.stacks[0].grid
        # Summation of slices needs the labels only.
        rendering = Rendering(grid, np.zeros((*label.shape, 0), dtype=np.float32), label)
        self.measures = measuring.finish(rendering)
        yield Step.WORKED

    def _bands(self, told: Subject, *, fresh: bool) -> Work:
        """Add intervals, if the measures were made here, and bands, if they have none."""
        intervals, measures = intervals_of(told), self.measures
        if intervals is None or measures is None or measures.band_ml:
            return
        spreading = Spreading(told, draws=intervals.draws, memory_mb=MEMORY_MB)
        for t in range(len(spreading.times)):
            spreading.frame(t)
            yield Step.WORKED
        found = with_intervals(measures, told, spreading=spreading, memory_mb=MEMORY_MB)
        self.measures = found if fresh else replace(measures, band_ml=found.band_ml)
        yield Step.WORKED

    def header(self) -> dict[str, Any]:
        """What is known so far, in the page's format."""
        measures, problem = self.measures, [self.problem] if self.problem else []
        out: dict[str, Any] = {
            "complete": self.complete,
            "quality": self._quality(),
            "groups": [],
            "notes": problem,
        }
        if measures is None:
            return out
        out["notes"] = [*measures.notes, *problem]
        out["groups"] = [
            {
                "title": title,
                "rows": [
                    {"title": row.title, "value": row.value, "interval": row.interval, "unit": row.unit}
                    for row in rows
                ],
            }
            for title, rows in rows_of(measures).items()
        ]
        curve, band = measures.curve, measures.band_ml
        if curve is not None and self.subject.stacks:
            names = self.subject.prior.anatomy.labels[1:]
            frames = [curve.nearest(float(time)) for time in self.subject.stacks[0].grid.times]
            out["volumes"] = [[round(float(curve.ml[name][t]), 3) for name in names] for t in frames]
            out["halves"] = [
                [_rounded(float(band[name][t])) if name in band else None for name in names] if band else None
                for t in frames
            ]
            out["phases"] = {name: round(float(t), 6) for name, t in measures.phases.items()}
        return out

    def _quality(self) -> Mapping[str, Any] | None:
        judgement = self.judgement or _judged(self.measures)
        if judgement is None:
            return None
        meaning, shape = LIGHTS[judgement.light]
        out = {"light": judgement.light, "meaning": meaning, "shape": shape}
        return out | {"dice": round(judgement.mean, 3), "reasons": list(judgement.reasons)}


def _judged(measures: CaseMeasures | None) -> Judgement | None:
    """The quality stored with measures."""
    if measures is None or measures.quality not in LIGHTS or measures.predicted_dice is None:
        return None
    light: Any = measures.quality
    return Judgement(light, {}, measures.predicted_dice, measures.reasons)


def _rounded(value: float) -> float | None:
    """A number for the page, which takes no NaN: None if a structure has no interval."""
    return None if math.isnan(value) else round(value, 3)
