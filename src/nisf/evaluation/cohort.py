"""Score a prior: fit each case, part of it kept back if wanted, and compare with its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nisf.data.case import Case
from nisf.data.hiding import hide
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import Evaluation, evaluate_each, score_case
from nisf.io.readers import CaseFiles, only_named, open_cohort, read_case
from nisf.kinds.latent.fit import fit
from nisf.prior.prior import Prior


def score_prior(case: Case, prior: Prior, protocol: str = "none", *, steps: int | None = None) -> list[Score]:
    """Scores of one case: fitted on the seen slices' intensities, scored on the hidden slices' labels.

    Args:
        case: with labels.
        prior: the trained prior.
        protocol: what is kept back; see `nisf.data.hiding`.
        steps: fitting steps; the prior's if None.

    Raises:
        NisfError: the case cannot be fitted, or nothing would be left to see or score.
    """
    seen, hidden = hide(case, protocol)
    config = prior.config.fit if steps is None else replace(prior.config.fit, steps=steps)
    rendering = fit(seen, prior, config=config).render()
    part = {s.position for s in hidden.slices} != {s.position for s in case.slices}
    return score_case(rendering.label.astype(np.int16), hidden, outlines=part)


def evaluate_prior(
    references: str | Path,
    prior: Prior,
    protocol: str = "none",
    *,
    layout: str = "auto",
    only: Path | None = None,
    steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Evaluation:
    """Score every case of a cohort; one that fails costs itself.

    Args:
        references: the cohort.
        prior: the trained prior.
        protocol: what is kept back.
        layout: how the cohort lies in its folder.
        only: text file with the names of the cases to score.
        steps: fitting steps; the prior's if None.
        say: told each case's mean Dice as it comes.

    Raises:
        NisfError: the cohort or the list of names cannot be read.
    """
    cohort = open_cohort(references, prior.anatomy, layout)

    def score(files: CaseFiles) -> list[Score]:
        case = read_case(files, prior.anatomy, cohort.notes)
        scores = score_prior(case, prior, protocol, steps=steps)
        if scores:
            say(f"{files.name}: mean Dice {np.mean([s.dice for s in scores]):.3f}")
        return scores

    chosen = only_named(cohort.cases, only)
    evaluation = evaluate_each(((files.name, files) for files in chosen), score)
    evaluation.notes = tuple(cohort.notes.values())
    return evaluation
