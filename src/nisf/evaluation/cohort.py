"""Score a prior: fit each case, optionally with a part of it hidden, and compare with its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nisf.config.fit_options import FitOptions
from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import Case
from nisf.data.hiding import hide
from nisf.errors import BadSettingError
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
    anatomy: str | Path | None = None,
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
        anatomy: name or JSON file of an anatomy with the prior's labels, whose label numbers are those of the
            references; by default, the prior's.
        layout: folder layout of the cohort.
        only: text file with the names of the cases to score.
        say: called with each case's mean Dice.

    Raises:
        BadSettingError: the anatomy has other labels than the prior.
        NisfError: the cohort or the list of names cannot be read.
    """
    if options is not None:
        prior.check_options(options)  # before anything is read
    structures = prior.anatomy if anatomy is None else _numbered(prior.anatomy, anatomy)
    cohort = open_cohort(references, structures, layout)

    def score(case: Case) -> list[Score]:
        scores = score_prior(case, prior, protocol, options)
        if scores:
            say(f"{case.name}: mean Dice {np.mean([s.dice for s in scores]):.3f}")
        return scores

    return evaluate_cases(CaseReader(cohort, structures, only_named(cohort.cases, only)), score)


def _numbered(own: Anatomy, name: str | Path) -> Anatomy:
    """A prior's anatomy with the label numbers of another one.

    Raises:
        BadSettingError: there is no such anatomy, or it has other labels.
    """
    given = load_anatomy(name)
    if set(given.labels) != set(own.labels):
        raise BadSettingError(
            f"{name}: its labels are {', '.join(given.labels)}, those of the prior {', '.join(own.labels)}; "
            "give an anatomy with the prior's labels, or none",
            options=["anatomy"],
        )
    return replace(own, numbers=given.numbers)
