"""Score a prior: fit each case, optionally with a part of it hidden, and compare with its labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nisf.config.fit_options import FitOptions
from nisf.data.case import Case
from nisf.data.hiding import hide
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import Evaluation, evaluate_cases, score_case
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject


def score_prior(
    case: Case, prior: Prior[Subject], protocol: str = "none", options: FitOptions | None = None
) -> list[Score]:
    """Fit a case to the intensities of its seen slices and score it on the labels of its hidden slices.

    Args:
        case: a labelled case.
        prior: the trained prior.
        protocol: what is hidden; see `nisf.data.hiding`.
        options: options of the fit; the prior's defaults if None.

    Raises:
        BadSettingError: the prior does not support an option.
        CannotFitError: the case cannot be fitted, or its seen or hidden part is empty.
    """
    seen, hidden = hide(case, protocol)
    options = options or FitOptions()
    prior.check_options(options)
    config = options.applied_to(prior.config.fit)
    rendering = fit(seen, prior, config=config, seed=options.seed or 0).render()
    part = {s.position for s in hidden.slices} != {s.position for s in case.slices}
    return score_case(rendering.label.astype(np.int16), hidden, outlines=part)


def evaluate_prior(
    references: str | Path,
    prior: Prior[Subject],
    protocol: str = "none",
    *,
    options: FitOptions | None = None,
    layout: str = "auto",
    only: Path | None = None,
    say: Callable[[str], None] = print,
) -> Evaluation:
    """Fit and score every case of a cohort. A case that fails does not stop the others.

    Args:
        references: the cohort.
        prior: the trained prior.
        protocol: what is hidden.
        options: options of the fits; the prior's defaults if None.
        layout: folder layout of the cohort.
        only: text file with the names of the cases to score.
        say: called with each case's mean Dice.

    Raises:
        NisfError: the cohort or the list of names cannot be read.
    """
    if options is not None:
        prior.check_options(options)  # before anything is read
    cohort = open_cohort(references, prior.anatomy, layout)

    def score(case: Case) -> list[Score]:
        scores = score_prior(case, prior, protocol, options)
        if scores:
            say(f"{case.name}: mean Dice {np.mean([s.dice for s in scores]):.3f}")
        return scores

    return evaluate_cases(CaseReader(cohort, prior.anatomy, only_named(cohort.cases, only)), score)
