"""How large is the error of volumes if the segmentation is exact? Both conventions, on phantoms.

    python benchmarks/conventions.py -o OUT [--hearts N] [--step MM ...]

Each heart is segmented by its own formula, so every error comes from the measurement. Three volumes are
compared with the true volume, at end-diastole and end-systole, for stacks with a slice every ``--step``
millimetres:

- ``integration``: `nisf.measures.lattice` integrates the formula;
- ``slices``: summation of slices by `nisf.measures`, with labels on the stack's own grid of 1.8 mm pixels;
- ``formula``: the true area in the middle plane of each slice, on pixels of 0.25 mm, times the slice spacing.
  It shares no code with `nisf.measures`, and its only error is that of the summation.

``shifted`` is the mean of ``slices`` over ten stacks, each a tenth of a slice further along the normal.
Where ``slices`` agrees with ``formula``, and ``shifted`` with the truth, the error of ``slices`` comes
from where the stack happens to cut the heart. OUT gets ``conventions.csv``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common import new_parser, write_rows
from nisf.config.schema import FieldConfig
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.errors import exit_status
from nisf.measures.case import slice_volumes_ml
from nisf.measures.lattice import Lattice, sample
from nisf.phantom import LABELS, Heart, Scanner, label, short_axis, volumes_ml
from nisf.phantom.cohort import subject as phantom
from nisf.subject.answerer import InRegion

FINE_MM = 0.25
"""Pixels of the formula's slices."""
HALF_MM = np.array([85.0, 85.0, 75.0])
"""Half the sides of the box that holds a heart."""
SHIFTS = np.arange(-5, 5) / 10
"""Of the stack along its normal, in slices."""
SEED = 3


def formula_ml(heart: Heart, grid: Grid, time: float) -> np.ndarray:
    """Area of each structure in the middle planes of the slices times the slice spacing, mL (3,)."""
    x, y = (np.arange(-half, half, FINE_MM) + FINE_MM / 2 for half in HALF_MM[:2])
    axes = grid.affine.axes
    across = (x[:, None, None] * axes[:, 0] + y[None, :, None] * axes[:, 1]).reshape(-1, 3)
    centre = grid.affine.inverse(np.asarray(heart.centre_mm))
    counts = np.zeros(len(LABELS))
    for k in range(grid.shape[2]):
        middle = grid.affine(np.array([centre[0], centre[1], k]))
        counts += np.bincount(label(heart, middle + across, time), minlength=len(LABELS))
    return counts[1:] * FINE_MM**2 * grid.spacing[2] / 1000


def slices_ml(heart: Heart, grid: Grid, time: float, shift: float = 0.0) -> np.ndarray:
    """Summation of slices of the true labels on a stack's own grid, shifted by a part of a slice, mL (3,)."""
    moved = Grid(grid.shape, grid.affine.shifted((0.0, 0.0, shift)))
    labels = label(heart, moved.points().reshape(-1, 3), time).reshape(*grid.shape, 1)
    return slice_volumes_ml(labels, grid, len(LABELS) - 1)[0]


def integrated_ml(heart: Heart, grid: Grid, time: float) -> np.ndarray:
    """Integration of the formula as `nisf.measures` integrates a field, mL (3,)."""
    region = Region(Affine.rigid(grid.affine.axes.T, np.asarray(heart.centre_mm)), HALF_MM)

    def inside(scaled: np.ndarray, time: np.ndarray, _: float) -> tuple[np.ndarray, np.ndarray, None]:
        found = label(heart, region.pose.inverse(scaled * region.half), time)
        return np.zeros((len(found), 1), np.float32), np.eye(len(LABELS), dtype=np.float32)[found], None

    answers = InRegion(region, FieldConfig(channels=1, classes=len(LABELS)), inside)
    return sample(answers, Lattice.over(region, Stack("sa", grid)), time).volumes_ml()


def rows_of(index: int, step_mm: float) -> list[dict[str, Any]]:
    """Relative errors of one heart, by structure and phase."""
    scanner = Scanner(thickness_mm=0.8 * step_mm, gap_mm=0.2 * step_mm)
    heart, scanner = phantom(SEED, index, scanner)
    grid, rows = short_axis(heart, scanner), []
    for phase, time in (("ED", 0.0), ("ES", heart.end_systole)):
        true = np.array(list(volumes_ml(heart, time).values()))
        found = {
            "integration": integrated_ml(heart, grid, time),
            "slices": slices_ml(heart, grid, time),
            "formula": formula_ml(heart, grid, time),
            "shifted": np.mean([slices_ml(heart, grid, time, shift) for shift in SHIFTS], axis=0),
        }
        for k, name in enumerate(LABELS[1:]):
            row: dict[str, Any] = {"heart": index, "step_mm": step_mm, "phase": phase, "structure": name}
            row["ml"] = round(float(true[k]), 2)
            rows.append(row | {way: round(float(ml[k] / true[k] - 1), 5) for way, ml in found.items()})
    return rows


def say(rows: list[dict[str, Any]]) -> None:
    """Print mean and largest absolute error and bias of each way, and of ``slices`` against ``formula``."""
    for step in dict.fromkeys(row["step_mm"] for row in rows):
        chosen = [row for row in rows if row["step_mm"] == step]
        print(f"slices every {step:g} mm, {len(chosen)} volumes; errors in %: mean size, largest, bias")
        ways = {
            way: np.array([r[way] for r in chosen]) for way in ("integration", "slices", "formula", "shifted")
        }
        ways["slices - formula"] = ways["slices"] - ways["formula"]
        for way, errors in ways.items():
            size = 100 * np.abs(errors)
            print(f"  {way:18}{size.mean():6.2f}{size.max():7.2f}{100 * errors.mean():+7.2f}")


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = new_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--hearts", type=int, default=16)
    parser.add_argument("--step", type=float, nargs="*", default=[10.0, 8.0, 5.0])
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for step in options.step:
        for index in range(options.hearts):
            rows += rows_of(index, step)
            write_rows(options.output / "conventions.csv", rows)
    say(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("conventions.py", main))
