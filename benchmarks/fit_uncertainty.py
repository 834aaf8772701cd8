"""Fit calibrated probabilities and error bars on validation cases, and write them into a prior's folder.

    python benchmarks/fit_uncertainty.py PRIOR --data COHORT -o OUT [--fold PRIOR NAMES ...] [--also PRIOR]
        [--judge COHORT ...]

The cases are those whose number is divisible by five, or those of ``--only``; the prior must not have
been trained on them. ``--fold`` adds cases of the cohort for the error bars: those in the text file NAMES,
segmented by a prior of the same recipe that was not trained on them (`train_folds.py`).
``calibration.json`` and ``intervals.json`` are written into the prior's folder. ``--also`` writes the same
numbers into another prior of the same recipe that was trained on all cases, such as ``cardiac-sax``.
``--judge`` reports the coverage of the intervals in other cohorts. Run `fit_quality.py` first: the intervals
widen with the error that it predicts. ``--draws N`` includes N draws of the answer in the error bars.

OUT gets ``uncertainty.json``, ``calibration.csv``, ``intervals.csv``, ``reliability.png``, and the
results of each case, from which an interrupted run resumes. Reported numbers are cross-validated: no case
is evaluated with parameters that were fitted on it. With ``--fold``, the prior's own cases are evaluated once
more with intervals that were fitted on the folds' cases only (``own``).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import prior_parser, write_rows
from nisf.data.anatomy import Anatomy
from nisf.errors import BadSettingError, exit_status
from nisf.evaluation.calibration import Reliability
from nisf.files import write_json
from nisf.io.readers import only_named, open_cohort
from nisf.io.readers.listing import CaseFiles
from nisf.kinds.load import load_prior
from nisf.picture import STYLE, new_figure, save_figure
from nisf.prior.prior import Prior
from nisf.subject.calibrated import Calibration
from nisf.uncertainty.calibration import Voxels, calibrated, fit_calibration, reliabilities
from nisf.uncertainty.intervals import (
    Intervals,
    Scale,
    cross_fitted,
    fit_scale,
    measured_columns,
    widening,
)
from train_models import kept_out
from uncertainty_cases import WAYS, CaseCache

FOLDS = 5


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


def appendix(prior: Prior, fitted: Prior, entries: dict[str, Any]) -> dict[str, Any]:
    """Entries of an appendix of a prior, with the prior that they were fitted for if it is another one."""
    out = {"prior": prior.fingerprint, **entries}
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


def own_cases(cases: Sequence[CaseFiles], only: Path | None) -> list[CaseFiles]:
    """The cases that the prior was not trained on: those that a file names, or every fifth by number."""
    if only is not None:
        return only_named(cases, only)
    names = set(kept_out([case.name for case in cases]))
    return [case for case in cases if case.name in names]


def parser() -> ArgumentParser:
    """The parser of the command line."""
    out = prior_parser(__doc__)
    out.add_argument("--only", type=Path)
    out.add_argument("--fold", nargs=2, action="append", default=[], metavar=("PRIOR", "NAMES"))
    out.add_argument("--also", action="append", default=[])
    out.add_argument("--judge", type=Path, action="append", default=[])
    out.add_argument("--judge-cases", type=int, help="the first cases of each other cohort; by default all")
    out.add_argument("--draws", type=int, default=0)
    out.add_argument("--json", type=Path, help="also write the numbers of the report to this file")
    out.add_argument("--no-write", action="store_true", help="leave the priors' folders as they are")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, query the cases, fit, print and write."""
    chosen = parser().parse_args(arguments)
    # What was fitted before must not change what is asked now, except for the light, which is fitted first.
    whole = load_prior(chosen.prior)
    quality = {k: v for k, v in whole.appendices.items() if k == "quality"}
    prior = replace(whole, appendices={})
    others = [load_prior(other) for other in chosen.also]
    cache = CaseCache(chosen.output / "cases", chosen.draws, quality)
    cohort = open_cohort(chosen.data, prior.anatomy)
    own = cache.cases(cohort, own_cases(cohort.cases, chosen.only), prior, voxels=True)
    in_folds = dict[str, dict[str, np.ndarray]]()
    for folder, names in chosen.fold:
        trained = load_prior(folder)
        # The same rules for both: those that a training chooses, it chooses on the cases asked here.
        config = replace(trained.config, fit=prior.config.fit)
        trained = replace(trained, config=config, appendices={})
        in_folds |= cache.cases(cohort, only_named(cohort.cases, Path(names)), trained, voxels=False)
    if repeated := sorted(own.keys() & in_folds.keys()):
        raise BadSettingError(f"{repeated[0]} is in a fold, and a case of {chosen.prior} itself")
    report: dict[str, Any] = {"prior": prior.fingerprint}
    entries = {
        "calibration": calibration_entries(list(own.values()), chosen.output, report) | {"cases": list(own)},
        "intervals": interval_entries(own, in_folds, prior.anatomy, chosen, report)
        | {"cases": [*own, *in_folds]},
    }
    intervals = Intervals.from_json(entries["intervals"], "the fit")
    for data in chosen.judge:
        other = open_cohort(data, prior.anatomy)
        elsewhere = cache.cases(other, other.cases[: chosen.judge_cases], prior, voxels=False)
        rows = judged(list(elsewhere.values()), prior.anatomy, intervals)
        print_table(f"intervals in {data.name}", rows)
        report[data.name] = rounded(rows)
    for path in (chosen.output / "uncertainty.json", chosen.json):
        if path is not None:
            write_json(path, report)
    for target in () if chosen.no_write else (prior, *others):
        assert target.folder is not None
        for name, numbers in entries.items():
            write_json(target.folder / f"{name}.json", appendix(target, prior, numbers))
    return 0


def calibration_entries(
    cases: Sequence[dict[str, np.ndarray]], output: Path, report: dict[str, Any]
) -> dict[str, Any]:
    """Fit the calibration, write and report how good it is; entries of the appendix."""
    calibration, reliability = fit_probabilities(cases)
    table = rounded(
        [
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
    )
    print_table("expected calibration error within 10 mm of a border, cross-fitted", table)
    picture(reliability, output / "reliability.png")
    write_rows(output / "calibration.csv", table)
    report["calibration"] = table
    return calibration.to_json() | {"ece": table}


def interval_entries(
    own: dict[str, dict[str, np.ndarray]],
    in_folds: dict[str, dict[str, np.ndarray]],
    anatomy: Anatomy,
    chosen: Namespace,
    report: dict[str, Any],
) -> dict[str, Any]:
    """Fit the intervals, write and report their coverage; entries of the appendix."""
    if in_folds:
        others, _ = fit_intervals(list(in_folds.values()), anatomy, chosen.draws)
        rows = judged(list(own.values()), anatomy, others)
        print_table(f"{len(own)} cases of the prior, intervals fitted on {len(in_folds)} others", rows)
        report["own"] = rounded(rows)
    intervals, rows = fit_intervals([*own.values(), *in_folds.values()], anatomy, chosen.draws)
    print_table("intervals, cross-fitted", rows)
    write_rows(chosen.output / "intervals.csv", rounded(rows))
    report["intervals"] = rounded(rows)
    return intervals.to_json() | {"cross_fitted": rounded(rows)}


if __name__ == "__main__":
    raise SystemExit(exit_status("fit_uncertainty.py", main))
