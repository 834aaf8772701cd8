"""What do correction strokes achieve? Dice after 1, 3 and 5 strokes, near the strokes and elsewhere.

    python benchmarks/corrections.py PRIOR --data COHORT -o OUT [--only NAMES.txt] [--strokes 1,3,5]

The cases are those whose number is divisible by five, or those of ``--only``; the prior must not have
been trained on them. A fixed rule draws the strokes one by one, as a person would: along the middle of
the largest connected error of the current answer (one slice, one frame, one true class), 3 mm wide, with
the true class. Three answers are scored:

- ``none``: the prior's answer;
- ``pasted``: only the voxels under the strokes are replaced;
- ``corrected``: the subject adapted to the strokes.

Dice is the mean over the structures in the labelled slices of four sets: ``stroke``, the slices (in one
frame) with a stroke; ``next``, the adjacent slices in the same frame; ``others``, all other slices of
frames with a stroke; ``frames``, the frames without a stroke. ``case`` is the mean over frames and
structures of the whole case. OUT gets ``corrections.csv``, ``corrections.json``, and the results of each
case, from which an interrupted run resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from common import Refused, prior_parser, write_rows
from nisf.correction.stroke import Stroke
from nisf.data.case import Case
from nisf.data.geometry import Grid
from nisf.errors import BadSettingError, exit_status
from nisf.evaluation.scores import label_volume
from nisf.files import write_json
from nisf.io.readers import CaseReader, only_named, open_cohort
from nisf.kinds.load import load_prior
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from timing import load_average
from train_models import kept_out

RADIUS_MM = 1.5
WAYS = ("none", "pasted", "corrected")
SETS = ("stroke", "next", "others", "frames")
STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))


@dataclass(frozen=True)
class Drawn:
    """A stroke drawn by the rule, and the slice and frame that it lies in."""

    stroke: Stroke
    position: int
    frame: int
    area_mm2: float


def next_stroke(found: np.ndarray, truth: np.ndarray, grid: Grid, labels: Sequence[str]) -> Drawn | None:
    """A stroke along the middle of the largest connected error; None if there is no error.

    Args:
        found: class of each voxel (x, y, z, t).
        truth: true class of each voxel (x, y, z, t); negative where unknown.
        grid: grid of the voxels.
        labels: class names.
    """
    wrong, best = (found != truth) & (truth >= 0), (0, 0, 0, 0, np.zeros((0, 0), dtype=bool))
    for z, t in np.argwhere(wrong.any((0, 1))):
        for k in np.unique(truth[:, :, z, t][wrong[:, :, z, t]]):
            parts, _ = ndimage.label(wrong[:, :, z, t] & (truth[:, :, z, t] == k), np.ones((3, 3)))
            counts = np.bincount(parts.ravel())[1:]
            if counts.max() > best[0]:
                best = (int(counts.max()), int(z), int(t), int(k), parts == 1 + counts.argmax())
    count, z, t, k, part = best
    if not count:
        return None
    pixel = middle_line(part, grid.spacing[:2])
    points = grid.affine(np.c_[pixel, np.full(len(pixel), z)])
    stroke = Stroke(
        tuple((float(x), float(y), float(w)) for x, y, w in points),
        float(grid.times[t]),
        labels[k],
        radius_mm=RADIUS_MM,
    )
    return Drawn(stroke, z, t, float(count * np.prod(grid.spacing[:2])))


def middle_line(part: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) along the middle of a connected part (x, y), from end to end.

    Paths cost more near the border. The line joins the places that are farthest apart by such paths, among
    those where a stroke's width fits, or nearly.
    """
    depth = ndimage.distance_transform_edt(np.pad(part, 1), sampling=spacing)[1:-1, 1:-1]
    pixel = np.argwhere(part)
    number = np.full(part.shape, -1)
    number[part] = np.arange(len(pixel))
    own, cost = depth[part], []
    for step in STEPS:
        moved = pixel + step
        inside = ((moved >= 0) & (moved < part.shape)).all(1)
        there = number[tuple(moved.clip(0, np.array(part.shape) - 1).T)]
        a = np.flatnonzero(inside & (there >= 0))
        b = there[a]
        cost.append((a, b, np.linalg.norm(step * spacing) / ((own[a] + own[b]) / 2) ** 2))
    a, b, weight = (np.concatenate(parts) for parts in zip(*cost, strict=True))
    graph = csr_matrix((weight, (a, b)), shape=(len(pixel), len(pixel)))
    fits = own >= min(RADIUS_MM, 0.7 * own.max())

    def farthest(start: int) -> tuple[int, np.ndarray]:
        way, before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)
        return int(np.where(fits & np.isfinite(way), way, -1.0).argmax()), before

    first, _ = farthest(int(own.argmax()))
    last, before = farthest(first)
    line = [last]
    while line[-1] != first:
        line.append(int(before[line[-1]]))
    return pixel[line]


def pasted(label: np.ndarray, drawn: Sequence[Drawn], grid: Grid, labels: Sequence[str]) -> np.ndarray:
    """Classes (x, y, z, t) with the voxels of the strokes replaced."""
    out = label.copy()
    for one in drawn:
        frame = out[..., one.frame]
        frame[np.unravel_index(one.stroke.voxels(grid), grid.shape)] = labels.index(one.stroke.label)
    return out


def sets_of(drawn: Sequence[Drawn], truth: np.ndarray) -> dict[str, np.ndarray]:
    """The labelled slices (z, t) of each of `SETS`."""
    known = (truth >= 0).any((0, 1))
    own = np.zeros_like(known)
    for one in drawn:
        own[one.position, one.frame] = True
    beside = np.zeros_like(own)
    beside[1:] |= own[:-1]
    beside[:-1] |= own[1:]
    frames = np.broadcast_to(own.any(0), own.shape)
    out = {"stroke": own, "next": beside & ~own, "others": frames & ~own & ~beside, "frames": ~frames}
    return {name: chosen & known for name, chosen in out.items()}


def mean_dice(found: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Mean Dice over the structures present in either; NaN if there is none."""
    known = truth >= 0
    scores = []
    for k in range(1, classes):
        a, b = (found == k) & known, truth == k
        if total := a.sum() + b.sum():
            scores.append(2 * (a & b).sum() / total)
    return float(np.mean(scores)) if scores else float("nan")


def scored(case: Case, prior: Prior, counts: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each number of strokes."""
    labels, grid = prior.anatomy.labels, case.stacks[0].grid
    subject, truth = fit(case, prior), label_volume(case).astype(np.int16)
    first = subject.render().label.astype(np.int16)
    found, drawn, rows = first, [], []
    for count in range(1, max(counts) + 1):
        one = next_stroke(found, truth, grid, labels)
        if one is None:
            break
        drawn.append(one)
        began = time.process_time()
        new = subject.corrected([each.stroke for each in drawn])
        # The answers are made once the strokes are fitted.
        _ = new.field_answers
        seconds = time.process_time() - began
        found = new.render().label.astype(np.int16)
        if count not in counts:
            continue
        row: dict[str, Any] = {"case": case.name, "strokes": count, "fit_cpu_s": seconds}
        row["area_mm2"], row["length_mm"] = one.area_mm2, one.stroke.length_mm
        answers = {"none": first, "pasted": pasted(first, drawn, grid, labels), "corrected": found}
        for way, answer in answers.items():
            for name, chosen in sets_of(drawn, truth).items():
                row[f"{name} {way}"] = mean_dice(answer[:, :, chosen], truth[:, :, chosen], len(labels))
            frames = [mean_dice(answer[..., t], truth[..., t], len(labels)) for t in range(truth.shape[3])]
            row[f"case {way}"] = float(np.nanmean(frames))
            row[f"wrong_ml {way}"] = float(((answer != truth) & (truth >= 0)).sum() * grid.voxel_ml)
        rows.append(row)
    return rows


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the cases, and the number of cases, by number of strokes."""
    out: dict[str, Any] = {}
    for count in sorted({row["strokes"] for row in rows}):
        some = [row for row in rows if row["strokes"] == count]
        entry: dict[str, Any] = {"cases": len(some)}
        for name in some[0]:
            values = [row[name] for row in some]
            if name not in ("case", "strokes"):
                known = np.array([v for v in values if v is not None and np.isfinite(v)])
                entry[name] = round(float(known.mean()), 4) if len(known) else None
        better = [row["case corrected"] > row["case pasted"] for row in some]
        out[str(count)] = {**entry, "better_than_pasted": int(np.sum(better))}
    return out


def table(summary: Mapping[str, Any]) -> str:
    """The means as Markdown."""
    head = "| strokes | cases | answer | stroke's slices | next slices | other slices | other frames | case |"
    lines = [head, "|" + "---|" * 8]
    for count, entry in summary.items():
        for way in WAYS:
            cells = [entry[f"{name} {way}"] for name in (*SETS, "case")]
            numbers = " | ".join("" if cell is None else f"{cell:.3f}" for cell in cells)
            lines.append(f"| {count} | {entry['cases']} | {way} | {numbers} |")
    return "\n".join(lines)


def stored(path: Path, case: Case, prior: Prior, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of a case, read from its file if an earlier run wrote it."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    rows = [
        {name: None if isinstance(v, float) and np.isnan(v) else v for name, v in row.items()}
        for row in scored(case, prior, counts)
    ]
    write_json(path, rows)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, correct and score the cases, print and write."""
    parser = prior_parser(__doc__)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--strokes", default="1,3,5")
    options = parser.parse_args(arguments)
    counts = [int(word) for word in options.strokes.split(",") if word.isdecimal() and int(word) > 0]
    if not counts:
        raise BadSettingError(f"--strokes {options.strokes}: give numbers separated by commas")
    prior = load_prior(options.prior)
    found = open_cohort(options.data, prior.anatomy)
    chosen = only_named(found.cases, options.only)
    if options.only is None:
        names = kept_out([case.name for case in chosen])
        chosen = [case for case in chosen if case.name in names]
    rows: list[dict[str, Any]] = []
    refused = Refused()
    for name, case in CaseReader(found, prior.anatomy, chosen[: options.cases]):
        if not isinstance(case, Case):
            print(f"{name}: {case}", flush=True)
            continue
        with refused.go_on(name):
            path = options.output / prior.fingerprint / f"{name}-{'-'.join(map(str, counts))}.json"
            rows += stored(path, case, prior, counts)
            print(name, flush=True)
    refused.check_any(rows)
    summary = means(rows)
    print(table(summary))
    write_rows(options.output / "corrections.csv", rows)
    write_json(options.output / "corrections.json", {"load": load_average(), "strokes": summary})
    return refused.status()


if __name__ == "__main__":
    raise SystemExit(exit_status("corrections.py", main))
