"""What `fit_uncertainty.py` needs of each case: its measures, their errors and spread, and sampled voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.data.case import UNKNOWN, Case
from nisf.data.geometry import cycle_distance
from nisf.data.hiding import hide
from nisf.errors import BadSettingError, CannotFitError, NisfError
from nisf.evaluation.scores import label_volume
from nisf.io.readers import CaseReader, Cohort
from nisf.io.readers.listing import CaseFiles
from nisf.measures.case import CaseMeasures, measure, said_by, slice_volumes_ml
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.quality.judge import judge
from nisf.subject.subject import Subject
from nisf.uncertainty.calibration import voxels_of
from nisf.uncertainty.intervals import measured_columns, spreads_of, times_of, values_at
from nisf.uncertainty.spread import Spreading

WAYS = {"given": "none", "hidden": "every-2nd-slice"}
"""What the field sees of a case, by the protocol that hides the rest."""


def true_volumes(case: Case, anatomy: Anatomy, measures: CaseMeasures) -> np.ndarray:
    """Volumes of the labels in the frames nearest to the measures' phases, mL (t, s); NaN without labels."""
    truth, grid = label_volume(case), case.stacks[0].grid
    out = slice_volumes_ml(np.maximum(truth, 0), grid, len(case.labels) - 1).astype(float)
    out[(truth == UNKNOWN).all((0, 1, 2))] = np.nan
    for k, name in enumerate(case.labels[1:]):
        if name not in case.known:
            out[:, k] = np.nan
    # A structure that nobody drew in a labelled frame is not known to be empty there.
    out[out == 0] = np.nan
    # Readers need not have drawn at the very frame where the curve turns.
    drawn = np.flatnonzero(np.isfinite(out).any(1))
    times = times_of(anatomy, measures)
    nearest = [int(drawn[cycle_distance(grid.times[drawn], time).argmin()]) for time in times]
    return out[nearest]


def predicted(subject: Subject, case: Case, quality: dict[str, Any]) -> float:
    """Dice that the warning light predicts; NaN if the prior has none."""
    seen = replace(subject, prior=replace(subject.prior, appendices=quality))
    judgement = judge(seen, case, labels=seen.render().label)
    return float("nan") if judgement is None else judgement.mean


def measured(case: Case, prior: Prior, draws: int, quality: dict[str, Any]) -> dict[str, np.ndarray]:
    """Measures of a case and of its labels, their spread, and the predicted Dice; NaN where unknown."""
    subject = fit(case, prior)
    subject = replace(subject, summary={**subject.summary, "said": said_by(case)})
    spreading, found = Spreading(subject, draws=draws), measure(subject)
    columns, anatomy = measured_columns(prior.anatomy), prior.anatomy
    spread = spreads_of(anatomy, found, spreading.at(times_of(anatomy, found)))
    truth = values_at(anatomy, found, true_volumes(case, anatomy, found))
    out = {
        name: np.array([np.nan if source.get(c) is None else source[c] for c in columns], dtype=float)
        for name, source in (("value", found.values), ("truth", truth), ("spread", spread))
    }
    return out | {"predicted": np.array(predicted(subject, case, quality))}


@dataclass(frozen=True)
class CaseCache:
    """Computes what is needed of cases, and keeps it for an interrupted or later run.

    Attributes:
        folder: results are kept here, by cohort, prior and case.
        draws: number of draws of the answer that the spread includes.
        quality: the appendix of the prior whose warning light judges the cases.
    """

    folder: Path
    draws: int
    quality: dict[str, Any]

    def case(self, case: Case, prior: Prior, cohort: str, *, voxels: bool) -> dict[str, np.ndarray]:
        """Measures of a case, their errors and spread and, with ``voxels``, voxels by way of hiding."""
        path = self.folder / cohort / prior.fingerprint / f"{case.name}-{self.draws}-{int(voxels)}.npz"
        if path.is_file():
            with np.load(path) as stored:
                return dict(stored)
        out = measured(case, prior, self.draws, self.quality)
        for way, protocol in WAYS.items() if voxels else ():
            seen, scored = hide(case, protocol)
            for name, values in vars(voxels_of(fit(seen, prior), scored)).items():
                out[f"{way}-{name}"] = values
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft.npz")
        np.savez_compressed(draft, **out)  # ty: ignore[invalid-argument-type]
        draft.replace(path)
        return out

    def cases(
        self,
        cohort: Cohort,
        files: Sequence[CaseFiles],
        prior: Prior,
        *,
        voxels: bool,
    ) -> dict[str, dict[str, np.ndarray]]:
        """The same of some cases of a cohort, by case name; cases that cannot be used are reported.

        Args:
            cohort: the cohort.
            files: the cases.
            prior: has not been trained on them.
            voxels: see `case`.

        Raises:
            NisfError: none can be used.
        """
        out = {}
        for name, case in CaseReader(cohort, prior.anatomy, files):
            try:
                if isinstance(case, str):
                    raise NisfError(case)
                if not case.labelled():
                    raise CannotFitError(f"{name}: has no labels to compare with")
                out[name] = self.case(case, prior, cohort.root.name, voxels=voxels)
                print(f"{name}: asked", flush=True)
            except NisfError as error:
                print(f"left out: {error}", flush=True)
        if not out:
            raise BadSettingError(f"{cohort.root}: no case can be used")
        return out
