"""What a prior makes of real data: scores, times, and pictures.

    python benchmarks/real_data.py scores DATA PRIOR -o OUT [--only NAMES.txt] [--training]
    python benchmarks/real_data.py curve CINE PRIOR -o OUT [--reference LABELS.nii.gz --numbers 3]

``scores`` fits the cases of a cohort and prints Dice, HD95 per structure and phase, and seconds a case;
OUT gets ``scores.csv``, ``cases.csv`` and ``montage.png`` (best, median and worst case). ``--training``
also scores the latents that the training subjects got in training, from the prior's checkpoint.
``curve`` fits a whole cine and draws volume against time; dots are a reference's contoured frames. It
prints how much the curves bend from frame to frame: the mean size of their second differences on the cycle.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nisf.cli.evaluate import report
from nisf.data.case import Case
from nisf.data.region import region_from_labels
from nisf.errors import exit_status
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import Evaluation, score_case
from nisf.files import read_tensors, replacing
from nisf.io.readers import only_named, open_cohort, read_case, read_image
from nisf.kinds.load import load_prior
from nisf.optimisation.loop import CHECKPOINT
from nisf.picture import STYLE, Panel, montage, new_figure, save_figure
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


def own_latent(case: Case, prior: Prior, folder: Path) -> Subject | None:
    """The subject as training left it, or None if it was not a training subject."""
    tensors, metadata = read_tensors(folder / CHECKPOINT)
    names = json.loads(metadata["identity"])["cases"]
    if case.name not in names:
        return None
    assert prior.half is not None
    region = region_from_labels(case, prior.half, order=prior.anatomy.reorder)
    assert region is not None
    return Subject(case.name, prior, tensors["latents.weight"][names.index(case.name)], region, case.stacks)


def panels(case: Case, rendering: Rendering, title: str) -> list[Panel]:
    """The middle labelled slice of the first and last labelled frame: measured, fitted, segmented."""
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
    """For each structure with ED and ES volumes: error of the ejection fraction in per cent."""
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


def scores(arguments: argparse.Namespace) -> int:
    """Fit and score a cohort."""
    prior = load_prior(arguments.prior)
    cohort = open_cohort(arguments.data, prior.anatomy)
    fitted_again, own = Evaluation(), Evaluation()
    rows, kept = [], {}
    for files in only_named(cohort.cases, arguments.only):
        case = read_case(files, prior.anatomy, cohort.notes)
        began = time.perf_counter()
        subject = fit(case, prior)
        rendering = subject.render()
        seconds = time.perf_counter() - began
        found = score_case(rendering.label.astype(np.int16), case)
        dice = float(np.mean([s.dice for s in found]))
        fitted_again.scores += found
        group = case.attributes.get("group", "")
        rows.append({**subject.summary, "case": case.name, "group": group, "dice": dice, "seconds": seconds})
        kept[case.name] = (dice, panels(case, rendering, f"{case.name} {dice:.2f}"))
        print(
            f"{case.name}: Dice {dice:.3f}, {seconds:.1f} s, region {subject.summary['region']}", flush=True
        )
        if arguments.training:
            stored = own_latent(case, prior, arguments.prior)
            if stored is not None:
                own.scores += score_case(stored.render().label.astype(np.int16), case)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with replacing(arguments.output / "cases.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ranked = sorted(kept.values(), key=lambda item: -item[0])
    chosen = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    montage([row for _, row in chosen], prior.anatomy, arguments.output / "montage.png")
    print(f"seconds a case: median {np.median([r['seconds'] for r in rows]):.1f}")
    if own.scores:
        print("latents from training:")
        report(own, arguments.output / "scores-own-latents.csv")
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["dice"])
    if len(groups) > 1:
        print("mean Dice by group: " + ", ".join(f"{g} {np.mean(d):.3f}" for g, d in sorted(groups.items())))
    for line in fractions(fitted_again.scores, prior.anatomy.labels[1:]):
        print(line)
    print("fitted from intensities:")
    return report(fitted_again, arguments.output / "scores.csv")


def curve(arguments: argparse.Namespace) -> int:
    """Fit a cine and draw its volumes over the cycle."""
    import matplotlib as mpl
    import nibabel as nib

    prior = load_prior(arguments.prior)
    case = read_image(arguments.cine, prior.anatomy)
    fitted = fit(case, prior)
    rendering = fitted.render()
    grid = rendering.grid
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = prior.anatomy.labels[1:]
    volumes = np.array([(rendering.label == k + 1).sum((0, 1, 2)) * grid.voxel_ml for k in range(len(names))])
    with replacing(arguments.output / "curve.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t", *names])
        writer.writerows(
            [f"{v:.3f}" for v in (t, *row)] for t, row in zip(grid.times, volumes.T, strict=True)
        )
    bends = np.abs(np.roll(volumes, 1, 1) - 2 * volumes + np.roll(volumes, -1, 1)).mean(1)
    print("second differences, mL:", ", ".join(f"{n} {b:.1f}" for n, b in zip(names, bends, strict=True)))
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(6.0, 3.0)
        axes = figure.subplots()
        for k, name in enumerate(names):
            axes.plot(grid.times, volumes[k], color=prior.anatomy.colours[k + 1], label=name)
        if arguments.reference:
            truth = np.asarray(nib.load(arguments.reference).dataobj) == arguments.number  # type: ignore[attr-defined]
            for frame in np.flatnonzero(truth.any((0, 1, 2))):
                ml = truth[..., frame].sum() * grid.voxel_ml
                label = f"{names[0]}, drawn" if frame == np.flatnonzero(truth.any((0, 1, 2)))[0] else None
                axes.plot(grid.times[frame], ml, "o", color=prior.anatomy.colours[1], label=label)
                both = (rendering.label[..., frame] == 1) & truth[..., frame]
                dice = 2 * both.sum() / ((rendering.label[..., frame] == 1).sum() + truth[..., frame].sum())
                print(
                    f"frame {frame}: {names[0]} Dice {dice:.3f}, {volumes[0, frame]:.1f} mL (drawn: {ml:.1f})"
                )
        axes.set(xlabel="fraction of the cycle", ylabel="volume in mL", ylim=(0, None))
        figure.legend(loc="outside right upper")
        save_figure(figure, arguments.output / "curve.png")
    middle = grid.shape[2] // 2
    frames = np.linspace(0, len(grid.times), 6, endpoint=False).astype(int)
    above = [
        Panel(f"t = {grid.times[t]:.2f}", next(
            s.image[..., 0] for s in case.slices if s.position == middle and s.frame == t
        ).astype(np.float32)) for t in frames
    ]  # fmt: skip
    below = [
        replace(p, title="", label=rendering.label[:, :, middle, t])
        for p, t in zip(above, frames, strict=True)
    ]
    montage([above, below], prior.anatomy, arguments.output / "montage.png")
    print(
        json.dumps(
            {
                **fitted.summary,
                "mL": {n: [float(v.min()), float(v.max())] for n, v in zip(names, volumes, strict=True)},
            }
        )
    )
    return 0


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    for name, run in (("scores", scores), ("curve", curve)):
        verb = verbs.add_parser(name)
        verb.set_defaults(run=run)
        verb.add_argument("data" if name == "scores" else "cine", type=Path)
        verb.add_argument("prior", type=Path, help="folder, or name of a model")
        verb.add_argument("-o", "--output", type=Path, required=True)
        if name == "scores":
            verb.add_argument("--only", type=Path)
            verb.add_argument("--training", action="store_true")
        else:
            verb.add_argument("--reference", type=Path)
            verb.add_argument("--number", type=int, default=3)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    raise SystemExit(exit_status("real_data.py", main))
