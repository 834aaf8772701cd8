"""Fit calibrated probabilities and error bars on validation cases, and write them into a prior's folder.

    python benchmarks/fit_uncertainty.py PRIOR --data COHORT -o OUT [--also PRIOR] [--judge COHORT ...]

The cases are those whose number is divisible by five, or those of ``--only``; the prior must not have
been trained on them. ``calibration.json`` and ``intervals.json`` are written into the prior's folder.
``--also`` writes the same numbers into another prior of the same recipe that was trained on all cases,
such as ``cardiac-sax``. ``--judge`` reports the coverage of the intervals in other cohorts. Run
`fit_quality.py` first: the intervals widen with the error that it predicts. ``--draws N`` includes N
draws of the answer in the error bars.

OUT gets ``uncertainty.json``, ``calibration.csv``, ``intervals.csv``, ``reliability.png``, and the
results of each case, from which an interrupted run resumes. Reported numbers are cross-validated: no case
is evaluated with parameters that were fitted on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import prior_parser, write_rows
from nisf.data.anatomy import Anatomy
from nisf.data.case import UNKNOWN, Case
from nisf.data.geometry import cycle_distance
from nisf.data.hiding import hide
from nisf.errors import BadSettingError, CannotFitError, NisfError, exit_status
from nisf.evaluation.calibration import Reliability
from nisf.evaluation.scores import label_volume
from nisf.files import write_json
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.kinds.load import load_prior
from nisf.measures.case import CaseMeasures, measure, said_by, slice_volumes_ml
from nisf.picture import STYLE, new_figure, save_figure
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.quality.judge import judge
from nisf.subject.calibrated import Calibration
from nisf.subject.subject import Subject
from nisf.uncertainty.calibration import Voxels, calibrated, fit_calibration, reliabilities, voxels_of
from nisf.uncertainty.intervals import (
    Intervals,
    Scale,
    cross_fitted,
    fit_scale,
    measured_columns,
    spreads_of,
    times_of,
    values_at,
    widening,
)
from nisf.uncertainty.spread import Spreading
from train_models import kept_out

FOLDS = 5
WAYS = {"given": "none", "hidden": "every-2nd-slice"}
"""What the field sees of a case, by the protocol that hides the rest."""


def true_volumes(case: Case, measures: CaseMeasures) -> np.ndarray:
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
    nearest = [int(drawn[cycle_distance(grid.times[drawn], time).argmin()]) for time in times_of(measures)]
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
    spread = spreads_of(anatomy, found, spreading.at(times_of(found)))
    truth = values_at(anatomy, found, true_volumes(case, found))
    out = {
        name: np.array([np.nan if source.get(c) is None else source[c] for c in columns], dtype=float)
        for name, source in (("value", found.values), ("truth", truth), ("spread", spread))
    }
    return out | {"predicted": np.array(predicted(subject, case, quality))}


def asked(
    case: Case, prior: Prior, folder: Path, draws: int, quality: dict[str, Any], *, voxels: bool
) -> dict[str, np.ndarray]:
    """The data needed of a case, from the folder if an earlier run computed it."""
    path = folder / prior.fingerprint / f"{case.name}-{draws}-{int(voxels)}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return dict(stored)
    out = measured(case, prior, draws, quality)
    for way, protocol in WAYS.items() if voxels else ():
        seen, scored = hide(case, protocol)
        for name, values in vars(voxels_of(fit(seen, prior), scored)).items():
            out[f"{way}-{name}"] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft.npz")
    np.savez_compressed(draft, **out)  # ty: ignore[invalid-argument-type]
    draft.replace(path)
    return out


def cases_asked(
    data: Path,
    only: Path | None,
    prior: Prior,
    folder: Path,
    draws: int,
    quality: dict[str, Any],
    *,
    validation: bool,
    count: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """The data needed of each case, by case name; cases that cannot be used are reported.

    Raises:
        NisfError: none can be used.
    """
    cohort = open_cohort(data, prior.anatomy)
    files = only_named(cohort.cases, only)
    if only is None and validation:
        names = set(kept_out([file.name for file in files]))
        files = [file for file in files if file.name in names]
    out = {}
    for name, case in CaseReader(cohort, prior.anatomy, files[:count]):
        try:
            if isinstance(case, str):
                raise NisfError(case)
            if not case.labelled():
                raise CannotFitError(f"{name}: has no labels to compare with")
            out[name] = asked(case, prior, folder / data.name, draws, quality, voxels=validation)
            print(f"{name}: asked", flush=True)
        except NisfError as error:
            print(f"left out: {error}", flush=True)
    if not out:
        raise BadSettingError(f"{data}: no case can be used")
    return out


def voxels_in(case: dict[str, np.ndarray], way: str) -> Voxels:
    """The voxels of one case."""
    return Voxels(**{n: case[f"{way}-{n}"] for n in Voxels.__dataclass_fields__})


def fit_probabilities(
    cases: Sequence[dict[str, np.ndarray]],
) -> tuple[Calibration, dict[tuple[str, str], dict[str, Reliability]]]:
    """The calibration of all cases; reliability before and after, cross-fitted, by way and place."""
    groups = {way: [voxels_in(case, way) for case in cases] for way in WAYS}
    fold = np.random.default_rng(0).permutation(len(cases)) % FOLDS
    found = {}
    after: dict[str, dict[int, np.ndarray]] = {way: {} for way in WAYS}
    for part in np.unique(fold):
        own = [i for i in range(len(cases)) if fold[i] == part]
        others = [i for i in range(len(cases)) if fold[i] != part] or own
        chosen = fit_calibration([Voxels.joined([groups[way][i] for i in others]) for way in WAYS])
        for way in WAYS:
            after[way] |= {i: calibrated(chosen, groups[way][i]) for i in own}
    for way in WAYS:
        joined = Voxels.joined(groups[way])
        found[way, "before"] = reliabilities(joined.shown, joined)
        cooled = np.concatenate([after[way][i] for i in range(len(cases))])
        found[way, "after"] = reliabilities(cooled, joined)
    return fit_calibration([Voxels.joined(groups[way]) for way in WAYS]), found


def fit_intervals(
    cases: Sequence[dict[str, np.ndarray]], anatomy: Anatomy, draws: int
) -> tuple[Intervals, list[dict[str, Any]]]:
    """The error bars of all cases, and a row of numbers for each measure, cross-fitted."""
    value, truth, spread = (np.array([case[name] for case in cases]) for name in ("value", "truth", "spread"))
    errors = 1 - np.array([float(case["predicted"]) for case in cases])
    usual = float(np.median(errors)) if np.isfinite(errors).all() else None
    wider = wider_than_usual(cases, usual)
    scales, rows = dict[str, Scale](), []
    for j, name in enumerate(measured_columns(anatomy)):
        known = np.isfinite(value[:, j] + truth[:, j] + spread[:, j])
        if known.sum() < FOLDS:
            continue
        error, width = (value - truth)[known, j], spread[known, j]
        scales[name] = fit_scale(error / wider[known], width)
        inside, half = cross_fitted(error / wider[known], width, FOLDS)
        plain, plain_half = cross_fitted(error, np.ones_like(width), FOLDS)
        rows.append(
            {
                "measure": name,
                "cases": int(known.sum()),
                "mean_error": error.mean(),
                "sd_error": error.std(ddof=1),
                "coverage": inside,
                "median_half_width": np.median(half * wider[known]),
                "coverage_one_width": plain,
                "half_width_one_width": np.median(plain_half),
                "half_width_all_cases": np.median(
                    [scales[name].half_width(w) * g for w, g in zip(width, wider[known], strict=True)]
                ),
            }
        )
    return Intervals(scales, draws, usual), rows


def wider_than_usual(cases: Sequence[dict[str, np.ndarray]], usual: float | None) -> np.ndarray:
    """Factor by which the intervals of each case widen (n,); 1 where there is no predicted Dice."""
    if usual is None:
        return np.ones(len(cases))
    return np.array([widening(float(case["predicted"]), usual) for case in cases])


def judged(
    cases: Sequence[dict[str, np.ndarray]], anatomy: Anatomy, intervals: Intervals
) -> list[dict[str, Any]]:
    """Coverage of the intervals in cases that nothing was fitted on."""
    rows, wider = [], wider_than_usual(cases, intervals.usual_error)
    for j, name in enumerate(measured_columns(anatomy)):
        scale = intervals.scales.get(name)
        found = np.array([[case[n][j] for n in ("value", "truth", "spread")] for case in cases])
        known = np.isfinite(found).all(1)
        found = found[known]
        if scale is None or not len(found):
            continue
        half = wider[known] * [scale.half_width(width) for width in found[:, 2]]
        error = found[:, 0] - found[:, 1]
        rows.append(
            {
                "measure": name,
                "cases": len(found),
                "mean_error": error.mean(),
                "sd_error": error.std(),
                "coverage": (np.abs(error) <= half).mean(),
                "median_half_width": np.median(half),
            }
        )
    return rows


def picture(found: dict[tuple[str, str], dict[str, Reliability]], path: Path) -> None:
    """Reliability diagrams of given and hidden slices: accuracy against confidence."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(8.0, 3.8)
        for axes, way in zip(figure.subplots(1, len(WAYS), sharey=True), WAYS, strict=True):
            axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
            for when, colour in (("before", "#777777"), ("after", "#d1495b")):
                one = found[way, when]["all"]
                shown = one.count >= 50
                label = f"{when} (ECE {one.expected_error:.3f})"
                axes.plot(one.confidence[shown], one.accuracy[shown], "o-", color=colour, label=label)
            axes.set(title=f"{way} slices", xlabel="confidence", xlim=(0.3, 1), ylim=(0.3, 1))
            axes.legend()
        figure.axes[0].set_ylabel("accuracy")
        save_figure(figure, path)


def appendix(prior: Prior, fitted: Prior, entries: dict[str, Any], cases: Sequence[str]) -> dict[str, Any]:
    """Entries of an appendix of a prior, with the fitted numbers and the cases they come from."""
    out = {"prior": prior.fingerprint, **entries, "cases": list(cases)}
    if prior.fingerprint != fitted.fingerprint:
        out["fitted_for"] = fitted.fingerprint
        out["note"] = "this prior has seen the cases; fitted with another one of its recipe that has not"
    return out


def rounded(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their numbers rounded to five digits."""
    return [{k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def print_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print a table."""
    print(title)
    for row in rows:
        print("  " + ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, query the cases, fit, print and write."""
    parser = prior_parser(__doc__)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--also", action="append", default=[])
    parser.add_argument("--judge", type=Path, action="append", default=[])
    parser.add_argument(
        "--judge-cases", type=int, help="the first cases of each other cohort; by default all"
    )
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the numbers of the report to this file")
    parser.add_argument("--no-write", action="store_true", help="leave the priors' folders as they are")
    chosen = parser.parse_args(arguments)
    # What was fitted before must not change what is asked now, except for the light, which is fitted first.
    whole = load_prior(chosen.prior)
    prior, quality = (
        replace(whole, appendices={}),
        {k: v for k, v in whole.appendices.items() if k == "quality"},
    )
    others = [load_prior(other) for other in chosen.also]
    folder = chosen.output / "cases"
    found = cases_asked(chosen.data, chosen.only, prior, folder, chosen.draws, quality, validation=True)
    cases = list(found.values())
    calibration, reliability = fit_probabilities(cases)
    table = [
        {
            "slices": way,
            "when": when,
            "place": place,
            "ece": one.expected_error,
            "voxels": int(one.count.sum()),
        }
        for (way, when), places in reliability.items()
        for place, one in places.items()
    ]
    print_table("expected calibration error within 10 mm of a border, cross-fitted", table)
    entries = {"calibration": calibration.to_json() | {"ece": rounded(table)}}
    report: dict[str, Any] = {"prior": prior.fingerprint, "calibration": rounded(table)}
    picture(reliability, chosen.output / "reliability.png")
    write_rows(chosen.output / "calibration.csv", rounded(table))
    intervals, rows = fit_intervals(cases, prior.anatomy, chosen.draws)
    print_table("intervals, cross-fitted", rows)
    entries["intervals"] = intervals.to_json() | {"cross_fitted": rounded(rows)}
    report["intervals"] = rounded(rows)
    write_rows(chosen.output / "intervals.csv", rounded(rows))
    for data in chosen.judge:
        elsewhere = cases_asked(
            data, None, prior, folder, chosen.draws, quality, validation=False, count=chosen.judge_cases
        )
        rows = judged(list(elsewhere.values()), prior.anatomy, intervals)
        print_table(f"intervals in {data.name}", rows)
        report[data.name] = rounded(rows)
    for path in (chosen.output / "uncertainty.json", chosen.json):
        if path is not None:
            write_json(path, report)
    for target in () if chosen.no_write else (prior, *others):
        assert target.folder is not None
        for name, numbers in entries.items():
            write_json(target.folder / f"{name}.json", appendix(target, prior, numbers, list(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_uncertainty.py", main))
