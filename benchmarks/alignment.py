"""Slices shifted by breathing: are the shifts found, and does the segmentation improve?

    python benchmarks/alignment.py phantom PRIOR -o OUT [--cases N] [--seed S]
    python benchmarks/alignment.py cohort COHORT PRIOR -o OUT [--only NAMES.txt] [--cases N]

``phantom`` shifts the slices of phantoms by known offsets of up to 6 to 8 mm and compares the estimated
shifts with them (means removed, because a shift of all slices is part of the pose). ``cohort`` fits real
cases with and without shifts. Both print Dice of the measured volumes before and after alignment. OUT
gets ``alignment.json`` and, for each case, a picture of a long-axis cut through the images before and
after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from common import cases_of, phantom_or_cohort_parser
from nisf.data.case import Case
from nisf.errors import exit_status
from nisf.evaluation.scores import score_case
from nisf.files import write_json
from nisf.kinds.latent.model import LatentPrior, LatentSubject
from nisf.phantom import Scanner, scan
from nisf.phantom.cohort import subject
from nisf.picture import Panel, montage
from nisf.prior.fit import fit
from nisf.subject.subject import Subject
from workloads import prior_of_kind

SHIFT_MM = 4.0
LARGEST = (6.0, 8.0)
"""The largest shift of a phantom's slices, mm."""


def phantoms(count: int, seed: int) -> Iterator[tuple[Case, np.ndarray | None]]:
    """Scans of phantoms whose largest slice shift lies between 6 and 8 mm, and the shifts (z, 2) in mm."""
    for index in range(count):
        heart, scanner = subject(seed, index, Scanner(shift_mm=SHIFT_MM))
        for attempt in range(1000):
            one = scan(heart, replace(scanner, matrix=(8, 8), frames=1), attempt, name=f"phantom{index:04d}")
            if LARGEST[0] <= np.abs(one.shifts_mm).max() <= LARGEST[1]:
                break
        one = scan(heart, scanner, attempt, name=f"phantom{index:04d}")
        labelled = one.case.keep(lambda s, c=one.case: s.time in c.phases.values())
        yield labelled, one.shifts_mm


def dice(subject: Subject, case: Case) -> float:
    """Mean Dice over structures and phases, on the measured grid."""
    scores = score_case(subject.render().label.astype(np.int16), case)
    return float(np.mean([s.dice for s in scores]))


def shifts_of(subject: LatentSubject) -> dict[int, np.ndarray]:
    """Estimated in-plane shift (mm) of each slice of the reference stack, by slice index."""
    return {h.position: np.array(h.shift_mm) for h in subject.breath_holds if h.stack == 0}


def errors(subject: LatentSubject, case: Case, truth: np.ndarray) -> dict[str, Any]:
    """Distance (mm) between estimated and true shifts over the slices that show the anatomy.

    The mean is removed, because a shift of all slices is part of the pose. ``upright`` removes the linear
    trend along the stack too, a shear that images of one stack can hardly tell from a tilt of the anatomy.
    """
    shown = sorted(
        {s.position for s in case.slices if s.stack == 0 and s.label is not None and (s.label > 0).any()}
    )
    found = shifts_of(subject)
    difference = np.array([found[k] - truth[k] for k in shown])
    difference -= difference.mean(0)
    before = truth[shown] - truth[shown].mean(0)
    along = np.array(shown) - np.mean(shown)
    upright = difference - np.outer(along, along @ difference / (along @ along))
    return {
        "slices": len(shown),
        "rms_before_mm": float(np.sqrt((before**2).mean())),
        "rms_mm": float(np.sqrt((difference**2).mean())),
        "largest_before_mm": float(np.abs(before).max()),
        "largest_mm": float(np.abs(difference).max()),
        "rms_upright_mm": float(np.sqrt((upright**2).mean())),
        "largest_upright_mm": float(np.abs(upright).max()),
    }


def cut(case: Case, shifts: dict[int, np.ndarray]) -> np.ndarray:
    """The first frame along the middle column of the images (slice, x), with every slice shifted back."""
    frame = min(s.frame for s in case.slices if s.stack == 0)
    rows = []
    for s in sorted((s for s in case.slices if s.stack == 0 and s.frame == frame), key=lambda s: s.position):
        image = s.image[..., 0].astype(np.float32)
        moved = ndimage.shift(image, -shifts.get(s.position, np.zeros(2)) / s.affine.spacing[:2], order=1)
        rows += [moved[:, moved.shape[1] // 2]] * max(1, round(s.affine.spacing[2] / s.affine.spacing[0]))
    return np.array(rows)


def run(
    cases: Iterator[tuple[Case, np.ndarray | None]], prior: LatentPrior, output: Path, *, gains: bool
) -> list[dict[str, Any]]:
    """Fit every case with and without shifts."""
    plain = replace(prior.config.fit, method="second-order")
    with_shifts = replace(plain, shift_mm=SHIFT_MM, gain=0.2 if gains else 0.0)
    rows: list[dict[str, Any]] = []
    output.mkdir(parents=True, exist_ok=True)
    for case, truth in cases:
        before = fit(case, prior, config=plain)
        after = fit(case, prior, config=with_shifts)
        shifts = shifts_of(after)
        row: dict[str, Any] = {
            "case": case.name,
            "dice_before": dice(before, case),
            "dice_after": dice(after, case),
            "loss_before": before.summary["intensity_bce"],
            "loss_after": after.summary["intensity_bce"],
            "largest_found_mm": float(max(np.abs(v).max() for v in shifts.values())),
            "shifts_mm": {str(k): v.round(2).tolist() for k, v in shifts.items()},
        }
        if truth is not None:
            row |= errors(after, case, truth)
        rows.append(row)
        print(
            ", ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{v}" for k, v in row.items() if k != "shifts_mm"
            )
        )
        panels = [
            Panel(title, cut(case, which)) for title, which in (("as measured", {}), ("put in line", shifts))
        ]
        montage([panels], prior.anatomy, output / f"{case.name}.png")
    means = ("dice_before", "dice_after", "rms_before_mm", "rms_mm", "rms_upright_mm", "largest_upright_mm")
    for name in means:
        values = [row[name] for row in rows if name in row]
        if values:
            print(f"{name}: mean {np.mean(values):.3f}, largest {np.max(values):.3f}")
    write_json(output / "alignment.json", rows)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run one of the two experiments."""
    parser, forms = phantom_or_cohort_parser(__doc__)
    for form in forms:
        form.add_argument("--cases", type=int, default=6)
        form.add_argument("--gains", action="store_true")
        form.add_argument("--seed", type=int, default=77)
    chosen = parser.parse_args(arguments)
    prior = prior_of_kind(chosen.prior, LatentPrior)
    cases: Iterator[tuple[Case, np.ndarray | None]]
    if chosen.verb == "phantom":
        cases = phantoms(chosen.cases, chosen.seed)
    else:
        cases = ((case, None) for case in cases_of(chosen.cohort, prior, chosen.only, chosen.cases))
    run(cases, prior, chosen.output, gains=chosen.gains)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("alignment.py", main))
