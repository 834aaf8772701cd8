"""A prior on real data: scores, times and pictures.

    python benchmarks/real_data.py scores DATA PRIOR -o OUT [--only NAMES.txt] [--training]
    python benchmarks/real_data.py curve CINE PRIOR -o OUT [--reference LABELS.nii.gz --numbers 3]

``scores`` fits the cases of a cohort and prints Dice and HD95 per structure and phase, and seconds per
case. OUT gets ``scores.csv``, ``cases.csv`` and ``montage.png`` (best, median and worst case).
``--training`` also scores the training subjects' latents from the prior's checkpoint. ``curve`` fits a
whole cine and plots volume against time, with dots at the frames that a reference contoured. It prints
the roughness of the curves: the mean absolute second difference over the cycle.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common import cases_of, new_parser, write_rows
from nisf.cli.evaluate import report
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.region import region_from_labels, whole_region
from nisf.errors import exit_status
from nisf.evaluation.metrics import Score, dice
from nisf.evaluation.scores import Evaluation, score_case
from nisf.files import read_tensors
from nisf.io.readers import read_image
from nisf.io.readers.nifti import read_numbers
from nisf.kinds.latent.model import LatentPrior, LatentSubject
from nisf.kinds.load import load_prior
from nisf.optimisation.checkpoint import CHECKPOINT
from nisf.picture import STYLE, Panel, montage, new_figure, save_figure
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject
from workloads import prior_of_kind


def as_trained(case: Case, prior: LatentPrior) -> LatentSubject | None:
    """The subject with its latent from training; None if it was not a training subject."""
    assert prior.folder is not None
    tensors, metadata = read_tensors(prior.folder / CHECKPOINT)
    names = json.loads(metadata["identity"])["cases"]
    if prior.half is None:
        region = whole_region(case)
    else:
        region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
    if case.name not in names or region is None:
        return None
    latent = tensors["latents.weight"][names.index(case.name)]
    return LatentSubject(case.name, prior, region, case.stacks, latent=latent)


def panels(case: Case, rendering: Rendering, title: str) -> list[Panel]:
    """Middle labelled slice at the first and last labelled frame: image, fit and segmentation."""
    labelled = [s for s in case.labelled() if s.stack == 0 and s.label is not None and (s.label > 0).any()]
    row = []
    for frame in sorted({s.frame for s in labelled})[:: max(1, len({s.frame for s in labelled}) - 1)][:2]:
        slices = sorted((s for s in labelled if s.frame == frame), key=lambda s: s.position)
        item = slices[len(slices) // 2]
        assert item.label is not None
        rows, columns = (np.flatnonzero((item.label > 0).any(axis)) for axis in (1, 0))
        window = tuple(
            slice(max(0, int(places.min()) - 25), int(places.max()) + 26) for places in (rows, columns)
        )
        spacing = (float(item.affine.spacing[0]), float(item.affine.spacing[1]))
        image = item.image[window][..., 0].astype(np.float32)
        answer = rendering.image[:, :, item.position, item.frame, 0][window]
        label = rendering.label[:, :, item.position, item.frame][window]
        row += [
            Panel(title, image, outline=item.label[window], spacing=spacing),
            Panel("fitted", answer, spacing=spacing, vmax=float(np.percentile(image, 99.5))),
            Panel("segmented", image, label=label, spacing=spacing),
        ]
        title = ""
    return row


def fractions(found: list[Score], labels: tuple[str, ...]) -> list[str]:
    """Error of the ejection fraction (percentage points) of each structure with volumes at ED and ES."""
    ml = {(s.case, s.label, s.phase): (s.volume_ml, s.reference_ml) for s in found}
    lines = []
    for label in labels:
        errors = []
        for case in sorted({s.case for s in found}):
            if (case, label, "ED") in ml and (case, label, "ES") in ml:
                (ed, ed_true), (es, es_true) = ml[case, label, "ED"], ml[case, label, "ES"]
                if ed > 0 and ed_true > 0:
                    errors.append(100 * ((ed - es) / ed - (ed_true - es_true) / ed_true))
        if errors and "blood" in label:
            worst = max(np.abs(errors))
            lines.append(
                f"ejection fraction, {label}: mean absolute error {np.mean(np.abs(errors)):.1f} %, "
                f"bias {np.mean(errors):+.1f} (SD {np.std(errors):.1f}), worst {worst:.1f}"
            )
    return lines


@dataclass
class Outcome:
    """Results of a cohort.

    Attributes:
        scores: scores of the fits.
        trained: scores of the latents from training.
        rows: one row per case, for ``cases.csv``.
        pictures: mean Dice of each case, with its row of the montage.
    """

    scores: Evaluation = field(default_factory=Evaluation)
    trained: Evaluation = field(default_factory=Evaluation)
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[float, list[Panel]]] = field(default_factory=list)

    def add(self, case: Case, prior: Prior[Subject]) -> None:
        """Fit a case and score it."""
        began = time.perf_counter()
        subject = fit(case, prior)
        rendering = subject.render()
        seconds = time.perf_counter() - began
        found = score_case(rendering.label.astype(np.int16), case)
        mean = float(np.mean([s.dice for s in found]))
        self.scores.scores += found
        group = case.attributes.get("group", "")
        own = {"case": case.name, "group": group, "dice": mean, "seconds": seconds}
        self.rows.append({**subject.summary, **own})
        self.pictures.append((mean, panels(case, rendering, f"{case.name} {mean:.2f}")))
        region = subject.summary["region"]
        print(f"{case.name}: Dice {mean:.3f}, {seconds:.1f} s, region {region}", flush=True)

    def chosen(self) -> list[list[Panel]]:
        """Rows of the montage: best, median and worst case."""
        ranked = [row for _, row in sorted(self.pictures, key=lambda item: -item[0])]
        return [ranked[0], ranked[len(ranked) // 2], ranked[-1]]


def scores(arguments: argparse.Namespace) -> int:
    """Fit and score a cohort."""
    prior, output = load_prior(arguments.prior), arguments.output
    if arguments.training:
        prior = prior_of_kind(arguments.prior, LatentPrior)
    outcome = Outcome()
    for case in cases_of(arguments.data, prior, arguments.only):
        outcome.add(case, prior)
        if arguments.training and isinstance(prior, LatentPrior):
            stored = as_trained(case, prior)
            if stored is not None:
                outcome.trained.scores += score_case(stored.render().label.astype(np.int16), case)
    write_rows(output / "cases.csv", outcome.rows)
    montage(outcome.chosen(), prior.anatomy, output / "montage.png")
    print(f"seconds a case: median {np.median([row['seconds'] for row in outcome.rows]):.1f}")
    if outcome.trained.scores:
        print("latents from training:")
        report(outcome.trained, output / "scores-own-latents.csv")
    groups: dict[str, list[float]] = {}
    for row in outcome.rows:
        groups.setdefault(row["group"], []).append(row["dice"])
    if len(groups) > 1:
        print("mean Dice by group: " + ", ".join(f"{g} {np.mean(d):.3f}" for g, d in sorted(groups.items())))
    for line in fractions(outcome.scores.scores, prior.anatomy.labels[1:]):
        print(line)
    print("fitted from intensities:")
    return report(outcome.scores, output / "scores.csv")


def drawn_volumes(reference: Path, number: int, case: Case, rendering: Rendering) -> dict[int, float]:
    """Volume (mL) of a structure of the reference by frame; prints the first structure's Dice there.

    Args:
        reference: labels on the grid of the cine's file, in some of its frames.
        number: label of the structure in that file.
        case: the cine; its axes may differ from its file's.
        rendering: rendering of the cine.
    """
    name, (numbers, _) = case.labels[1], read_numbers(reference)
    truth, out = case.stacks[0].arrangement.apply(np.asarray(numbers == number)), {}
    for frame in np.flatnonzero(truth.any((0, 1, 2))).tolist():
        ours, drawn = rendering.label[..., frame] == 1, truth[..., frame]
        found, out[frame] = (float(mask.sum() * rendering.grid.voxel_ml) for mask in (ours, drawn))
        print(f"frame {frame}: {name} Dice {dice(ours, drawn):.3f}, {found:.1f} mL (drawn: {out[frame]:.1f})")
    return out


def draw_curve(
    rendering: Rendering, volumes: np.ndarray, drawn: Mapping[int, float], anatomy: Anatomy, path: Path
) -> None:
    """Plot volumes (k, t) over the cycle, with dots for the volumes that the reference drew."""
    import matplotlib as mpl

    names, times = anatomy.labels[1:], rendering.grid.times
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(6.0, 3.0)
        axes = figure.subplots()
        for k, name in enumerate(names):
            axes.plot(times, volumes[k], color=anatomy.colours[k + 1], label=name)
        if drawn:
            dots = f"{names[0]}, drawn"
            axes.plot(times[list(drawn)], list(drawn.values()), "o", color=anatomy.colours[1], label=dots)
        axes.set(xlabel="fraction of the cycle", ylabel="volume in mL", ylim=(0, None))
        figure.legend(loc="outside right upper")
        save_figure(figure, path)


def frames_montage(case: Case, rendering: Rendering) -> list[list[Panel]]:
    """Picture of the middle slice at six frames: image and segmentation."""
    grid = rendering.grid
    middle = grid.shape[2] // 2
    frames = np.linspace(0, len(grid.times), 6, endpoint=False).astype(int)
    images = {s.frame: s.image[..., 0] for s in case.slices if s.position == middle and s.stack == 0}
    above = [Panel(f"t = {grid.times[t]:.2f}", images[int(t)].astype(np.float32)) for t in frames]
    below = [
        replace(panel, title="", label=rendering.label[:, :, middle, t])
        for panel, t in zip(above, frames, strict=True)
    ]
    return [above, below]


def curve(arguments: argparse.Namespace) -> int:
    """Fit a cine and plot its volumes over the cycle."""
    prior, output = load_prior(arguments.prior), arguments.output
    case = read_image(arguments.cine, prior.anatomy)
    subject = fit(case, prior)
    rendering = subject.render()
    grid, names = rendering.grid, prior.anatomy.labels[1:]
    volumes = np.array([(rendering.label == k + 1).sum((0, 1, 2)) * grid.voxel_ml for k in range(len(names))])
    table = (
        {"t": t, **dict(zip(names, row, strict=True))} for t, row in zip(grid.times, volumes.T, strict=True)
    )
    write_rows(output / "curve.csv", [{name: f"{v:.3f}" for name, v in row.items()} for row in table])
    bends = np.abs(np.roll(volumes, 1, 1) - 2 * volumes + np.roll(volumes, -1, 1)).mean(1)
    print("second differences, mL:", ", ".join(f"{n} {b:.1f}" for n, b in zip(names, bends, strict=True)))
    drawn: dict[int, float] = {}
    if arguments.reference:
        drawn = drawn_volumes(arguments.reference, arguments.number, case, rendering)
    draw_curve(rendering, volumes, drawn, prior.anatomy, output / "curve.png")
    montage(frames_montage(case, rendering), prior.anatomy, output / "montage.png")
    extremes = {n: [float(v.min()), float(v.max())] for n, v in zip(names, volumes, strict=True)}
    print(json.dumps({**subject.summary, "mL": extremes}))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run one of the two commands."""
    parser = new_parser(__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, run in (("scores", scores), ("curve", curve)):
        verb = verbs.add_parser(name)
        verb.set_defaults(run=run)
        verb.add_argument("data" if name == "scores" else "cine", type=Path)
        verb.add_argument("prior", help="folder, or name of a model that comes with nisf")
        verb.add_argument("-o", "--output", type=Path, required=True)
        if name == "scores":
            verb.add_argument("--only", type=Path)
            verb.add_argument("--training", action="store_true")
        else:
            verb.add_argument("--reference", type=Path)
            verb.add_argument("--number", type=int, default=3)
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    raise SystemExit(exit_status("real_data.py", main))
