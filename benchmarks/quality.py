"""Is the warning light right? Predicted against true Dice of a cohort, and the light of wrong inputs.

    python benchmarks/quality.py cohort COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]
    python benchmarks/quality.py wrong ACDC PRIOR -o OUT [--other COHORT ...]

``cohort`` segments cases as `nisf segment` does, judges them (`nisf.quality.judge`), and scores them
against their labels at all labelled pixels. ``wrong`` corrupts four patients whom `fit_quality.py` leaves
out, and two phantoms, in all ways of `wrong_inputs.WRONG`; ``--other`` names cohorts of another anatomy,
of which one case each is tested. OUT gets ``cohort.csv`` or ``wrong.csv``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import cases_of, new_parser, write_rows
from corrupted import Picture, picture_of
from fit_quality import JUDGED
from nisf.data.anatomy import anatomy_names, load_anatomy
from nisf.data.case import Case
from nisf.errors import BadFileError, BadSettingError, CannotFitError, exit_status
from nisf.evaluation.scores import score_case
from nisf.io.readers import open_cohort, read_case
from nisf.kinds.load import load_prior
from nisf.phantom import cohort as phantoms
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.quality.judge import judge
from nisf.quality.judgement import Judgement
from nisf.subject.subject import Subject
from wrong_inputs import WRONG

FINE, BAD = 0.85, 0.7
"""True mean Dice from which a light should be green, and below which it must not be."""


def judged(case: Case, prior: Prior[Subject], *, scored: bool) -> tuple[Judgement, dict[str, float], float]:
    """The judgement of a case, its true Dice by structure (if ``scored``), and CPU seconds per frame.

    Raises:
        CannotFitError: the prior refuses the case.
        BadSettingError: the prior has no ``quality.json``.
    """
    subject = fit(case, prior)
    rendering = subject.render() if scored else None
    began = time.process_time()
    said = judge(subject, case, labels=None if rendering is None else rendering.label)
    seconds = time.process_time() - began
    if said is None:
        raise BadSettingError(f"{prior.source}: has no quality.json; run fit_quality.py")
    dice: dict[str, list[float]] = {}
    for score in [] if rendering is None else score_case(rendering.label, case):
        dice.setdefault(score.label, []).append(0.0 if np.isnan(score.dice) else score.dice)
    true = {name: float(np.mean(values)) for name, values in dice.items()}
    return said, true, seconds / min(2, len(case.stacks[0].grid.times))


def cohort_table(options: argparse.Namespace, prior: Prior[Subject]) -> None:
    """Predicted and true Dice of each case."""
    rows: list[dict[str, Any]] = []
    for case in cases_of(options.cohort, prior, options.only, options.cases):
        try:
            said, true, seconds = judged(case, prior, scored=True)
        except CannotFitError as error:
            print(f"refused: {error}")
            continue
        row = {"case": case.name, "light": said.light, "predicted": round(said.mean, 4)}
        row["true"] = round(float(np.mean(list(true.values()))), 4)
        for name in said.predicted_dice:
            row[f"predicted {name}"] = round(said.predicted_dice[name], 4)
            row[f"true {name}"] = round(true[name], 4) if name in true else ""
        rows.append({**row, "seconds": round(seconds, 3), "reasons": "; ".join(said.reasons)})
        print(f"{case.name}: {row['true']:.3f}, {said.words()}", flush=True)
        write_rows(options.output / "cohort.csv", rows)
    say_agreement(rows)


def say_agreement(rows: Sequence[dict[str, Any]]) -> None:
    """Print correlations, and the lights by true Dice."""
    names = [key.removeprefix("true ") for key in rows[0] if key.startswith("true ")]
    for name, a, b in [("mean", "true", "predicted"), *((n, f"true {n}", f"predicted {n}") for n in names)]:
        pairs = np.array([[row[a], row[b]] for row in rows if row[a] != ""], dtype=np.float64)
        if len(pairs) > 2:
            r, error = np.corrcoef(pairs.T)[0, 1], np.abs(pairs[:, 0] - pairs[:, 1]).mean()
            bias = (pairs[:, 1] - pairs[:, 0]).mean()
            print(f"{name}: r = {r:.3f}, mean error {error:.3f}, bias {bias:+.3f} ({len(pairs)} cases)")
    groups = [
        (f"below {BAD}", [r for r in rows if r["true"] < BAD]),
        (f"{BAD} to {FINE}", [r for r in rows if BAD <= r["true"] < FINE]),
        (f"from {FINE}", [r for r in rows if r["true"] >= FINE]),
    ]
    for title, chosen in groups:
        counts = [sum(row["light"] == light for row in chosen) for light in ("green", "amber", "red")]
        print(f"true Dice {title}: {counts[0]} green, {counts[1]} amber, {counts[2]} red")
    print(f"{np.median([row['seconds'] for row in rows]):.2f} CPU seconds a frame")


def good_pictures(options: argparse.Namespace, prior: Prior[Subject]) -> Iterator[Picture]:
    """The patients that `fit_quality.py` leaves out, and two phantoms with two frames each."""
    files = [f for f in open_cohort(options.cohort, prior.anatomy).cases if f.name in JUDGED]
    for one in files:
        yield picture_of(read_case(one, prior.anatomy))
    if tuple(prior.anatomy.labels) == tuple(load_anatomy("cardiac-sax").labels):
        for scan in phantoms(2, seed=7):
            frames = {s.frame for s in scan.case.slices}
            kept = [0, max(frames) // 3]
            yield _two_frames(picture_of(scan.case), kept)


def _two_frames(picture: Picture, frames: list[int]) -> Picture:
    image, label = picture.image[..., frames], picture.label[..., frames]
    return Picture(picture.name, image, label, picture.spacing, picture.times[frames], {})


def wrong_cases(options: argparse.Namespace, prior: Prior[Subject]) -> Iterator[tuple[str, str, Case | None]]:
    """Yield name, source and case of each wrong input; the case is None if readers refuse it as blank."""
    for picture in good_pictures(options, prior):
        yield "nothing", picture.name, picture.case(prior.anatomy)
        for kind, spoil in WRONG.items():
            rng = np.random.default_rng([7, *f"{picture.name} {kind}".encode()])
            yield kind, picture.name, spoil(picture, rng).case(prior.anatomy)
    for folder in options.other:
        for anatomy in map(load_anatomy, anatomy_names()):
            try:
                files = open_cohort(folder, anatomy).cases[:1]
            except BadFileError:
                continue
            for one in files:
                other = picture_of(read_case(one.without_labels(), anatomy))
                yield "another organ", one.name, other.case(prior.anatomy)
            break


def wrong_table(options: argparse.Namespace, prior: Prior[Subject]) -> None:
    """The light of each wrong input."""
    rows: list[dict[str, Any]] = []
    for kind, name, case in wrong_cases(options, prior):
        light, mean, reasons = "refused", "", ""
        if case is not None:
            try:
                said, _, _ = judged(case, prior, scored=False)
                light, mean, reasons = said.light, round(said.mean, 3), "; ".join(said.reasons)
            except CannotFitError as error:
                reasons = str(error)
        rows.append({"wrong": kind, "case": name, "light": light, "predicted": mean, "reasons": reasons})
        print(f"{kind}, {name}: {light} {mean} {reasons[:110]}", flush=True)
        write_rows(options.output / "wrong.csv", rows)
    lights = ("refused", "red", "amber", "green")
    print(f"{'':36}" + "".join(f"{light:>9}" for light in lights))
    for kind in dict.fromkeys(row["wrong"] for row in rows):
        counts = [sum(r["light"] == light and r["wrong"] == kind for r in rows) for light in lights]
        print(f"{kind:36}" + "".join(f"{count:9}" for count in counts))
    wrong = [row for row in rows if row["wrong"] != "nothing"]
    caught = sum(row["light"] in ("refused", "red") for row in wrong)
    print(f"red or refused: {caught} of {len(wrong)}")


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, judge, print and write."""
    parser = new_parser(__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    for way in ("cohort", "wrong"):
        sub = ways.add_parser(way)
        sub.add_argument("cohort", type=Path)
        sub.add_argument("prior", help="folder, or name of a model that comes with nisf")
        sub.add_argument("-o", "--output", type=Path, required=True)
        if way == "cohort":
            sub.add_argument("--only", type=Path)
            sub.add_argument("--cases", type=int)
        else:
            sub.add_argument("--other", type=Path, nargs="*", default=[])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    prior = load_prior(options.prior)
    (cohort_table if options.way == "cohort" else wrong_table)(options, prior)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("quality.py", main))
