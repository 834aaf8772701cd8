"""Slices shifted by breathing, aligned to long-axis planes: are the shifts right, does the answer improve?

    python benchmarks/long_axis.py phantom PRIOR -o OUT [--cases N] [--seed S] [--shift MM]
    python benchmarks/long_axis.py cohort COHORT PRIOR -o OUT [--only NAMES.txt] [--shift MM]

``phantom``: a short-axis stack with a 4-chamber and a 2-chamber plane of unseen hearts, every slice
shifted by a random breath-hold (standard deviation MM along each axis). Reported are the errors of the
estimated shifts (in slices that show the heart, means removed), and Dice against the truth of the stack
alone, of stack and planes, and of both after alignment; also with every second slice of the stack hidden.
``cohort``: long-axis planes are rendered from each fitted case, then its slices are shifted and aligned
again. The unshifted case is aligned as well, to see how much it moves and how much that changes. OUT gets
``long_axis.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from common import cases_of, phantom_or_cohort_parser
from nisf.alignment import Shift, aligned, find_shifts
from nisf.data.case import Case, Stack, slices_of_volume
from nisf.data.geometry import Grid
from nisf.errors import exit_status
from nisf.evaluation.scores import score_case
from nisf.files import write_json
from nisf.kinds.load import load_prior
from nisf.phantom import Scanner, scan
from nisf.phantom.cohort import subject as phantom_of
from nisf.phantom.heart import Heart, pose, shape_at, ventricles
from nisf.phantom.scanner import Scan, long_axis, scan_plane
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject
from nisf.subject.views import view_plane

VIEWS = ("4ch", "2ch")
FRAMES = 4


def scanned(seed: int, index: int, *, frames: int, shift_mm: float) -> tuple[Scan, list[Case]]:
    """A short-axis stack of a random heart, and the long-axis planes of `VIEWS`, each with its own shift."""
    heart, scanner = phantom_of(seed, index, Scanner(frames=frames, shift_mm=shift_mm))
    scanner = replace(scanner, frames=frames, shift_mm=shift_mm)
    short = scan(heart, scanner, index, name=f"phantom{index:04d}")
    planes = [
        scan_plane(heart, long_axis(heart, view, frames=frames), scanner, 1000 + 10 * index + n, stack=view)
        for n, view in enumerate(VIEWS)
    ]
    return short, [plane.case for plane in planes]


def joined(case: Case, planes: Sequence[Case]) -> Case:
    """A case together with the stacks of other cases."""
    stacks, slices = list(case.stacks), list(case.slices)
    for plane in planes:
        slices += [replace(item, stack=len(stacks)) for item in plane.slices]
        stacks.append(plane.stacks[0])
    return replace(case, stacks=tuple(stacks), slices=tuple(slices))


def left_over(case: Case, true: np.ndarray, found: Sequence[Shift]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the estimated shifts, and the true ones, of slices with heart: mm, means removed."""
    drawn = {
        item.position
        for item in case.slices
        if item.stack == 0 and item.label is not None and (item.label > 0).any()
    }
    shifts = {shift.position: shift.mm for shift in found if shift.stack == 0}
    chosen = sorted(drawn & set(shifts))
    error, shift = np.array([shifts[k] for k in chosen]) - true[chosen], true[chosen]
    return error - error.mean(axis=0), shift - shift.mean(axis=0)


def summary(errors: Sequence[np.ndarray]) -> dict[str, float]:
    """Statistics of the absolute errors along each axis, mm."""
    mm = np.abs(np.concatenate(errors))
    return {
        "mean": round(float(mm.mean()), 3),
        "p95": round(float(np.percentile(mm, 95)), 3),
        "largest": round(float(mm.max()), 3),
        "within 0.7 mm": round(float((mm < 0.7).mean()), 3),
    }


def true_dice(label: np.ndarray, heart: Heart, grid: Grid) -> list[float]:
    """Dice of each structure against the heart itself, over all frames of a grid."""
    places = pose(heart)(grid.points().reshape(-1, 3))
    true = np.stack(
        [ventricles(shape_at(heart, float(t)), places).reshape(grid.shape) for t in grid.times], axis=-1
    )
    pairs = [(label == k, true == k) for k in (1, 2, 3)]
    return [round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 4) for a, b in pairs]


def phantoms(prior: Prior[Any], count: int, seed: int, shift_mm: float) -> Iterator[dict[str, Any]]:
    """Results on phantoms, one row per heart."""
    for index in range(count):
        short, planes = scanned(seed, index, frames=FRAMES, shift_mm=shift_mm)
        both = joined(short.case, planes)
        grid = short.case.stacks[0].grid
        error, shift = left_over(both, short.shifts_mm, fit(both, prior, align=True).shifts)
        dice = {}
        for name, case, align in (
            ("stack", short.case, False),
            ("stack and planes", both, False),
            ("in line", both, True),
        ):
            for words, seen in (
                (name, case),
                (
                    f"{name}, every second slice hidden",
                    case.keep(lambda s: s.stack > 0 or s.position % 2 == 0),
                ),
            ):
                answer = fit(seen, prior, align=align).render(grid)
                dice[words] = true_dice(answer.label, short.heart, grid)
        yield {"case": short.case.name, "error": error, "shift": shift, "dice": dice}


def rendered(found: Subject, case: Case) -> list[Case]:
    """Long-axis planes of a case, as its fitted subject shows them."""
    out = []
    for view in VIEWS:
        grid = view_plane(found, found.prior.anatomy.views[view], spacing_mm=1.4)
        grid = grid.at_times(case.stacks[0].grid.times)
        image = found.render(grid).image
        stack = Stack(view, grid, intensity_range=case.stacks[0].intensity_range)
        out.append(replace(case, stacks=(stack,), slices=slices_of_volume(image, None, grid)))
    return out


def shifted(case: Case, shifts: np.ndarray) -> Case:
    """The case with its slices shifted, as other breath-holds would have shown it."""
    moved = [Shift(0, k, (-x, -y)) for k, (x, y) in enumerate(shifts.tolist())]
    return aligned(case, moved)


def patients(prior: Prior[Any], cases: Iterator[Case], shift_mm: float) -> Iterator[dict[str, Any]]:
    """Results on real cases, one row per case."""
    rng = np.random.default_rng(0)
    for case in cases:
        subject = fit(case, prior)
        planes, box = rendered(subject, case), subject.region
        true = rng.normal(size=(case.stacks[0].grid.shape[2], 2)) * shift_mm
        error, shift = left_over(case, true, find_shifts(joined(shifted(case, true), planes), box))
        unmoved, _ = left_over(case, np.zeros_like(true), find_shifts(joined(case, planes), box))
        dice = {}
        for name, found in (("stack", subject), ("in line", fit(joined(case, planes), prior, align=True))):
            scores = score_case(found.render().label.astype(np.int16), case)
            dice[name] = [round(score.dice, 4) for score in scores]
        yield {"case": case.name, "error": error, "shift": shift, "unmoved": unmoved, "dice": dice}


def report(prior: Prior[Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report that is written: summaries and all rows."""
    found: dict[str, Any] = {
        "prior": prior.fingerprint,
        "cases": len(rows),
        "shifts, mm": summary([row["shift"] for row in rows]),
        "errors of the found shifts, mm": summary([row["error"] for row in rows]),
    }
    if "unmoved" in rows[0]:
        found["moved though nothing was shifted, mm"] = summary([row["unmoved"] for row in rows])
    found["mean Dice"] = {
        name: round(float(np.mean([row["dice"][name] for row in rows])), 4) for name in rows[0]["dice"]
    }
    found["rows"] = [{"case": row["case"], "dice": row["dice"]} for row in rows]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser, forms = phantom_or_cohort_parser(__doc__)
    for form in forms:
        form.add_argument("--cases", type=int, default=12)
        form.add_argument("--seed", type=int, default=3)
        form.add_argument("--shift", type=float, default=2.0, help="standard deviation of the shifts, mm")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    prior = load_prior(asked.prior)
    if asked.verb == "phantom":
        found = phantoms(prior, asked.cases, asked.seed, asked.shift)
    else:
        found = patients(prior, cases_of(asked.cohort, prior, asked.only, asked.cases), asked.shift)
    rows = []
    for row in found:
        error, shift = (float(np.abs(row[name]).mean()) for name in ("error", "shift"))
        dice = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in row["dice"].items())
        print(f"{row['case']}: shifts of {shift:.2f} mm found to {error:.2f} mm; Dice {dice}", flush=True)
        rows.append(row)
    written = report(prior, rows)
    print({name: value for name, value in written.items() if name != "rows"})
    asked.output.mkdir(parents=True, exist_ok=True)
    write_json(asked.output / "long_axis.json", written)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("long_axis.py", main))
