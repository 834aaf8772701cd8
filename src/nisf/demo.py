"""The demo: train a prior on phantoms and reconstruct an unseen heart from half of its slices.

All numbers are measured against the phantom's analytic ground truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nisf.config.presets import preset
from nisf.config.schema import Config
from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import Case
from nisf.data.geometry import Grid, cycle_times
from nisf.data.hiding import hide
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import score_case
from nisf.io.writers import write_volume
from nisf.measures.case import measure
from nisf.optimisation.loop import LogCallback
from nisf.outputs import recorded, refuse_to_replace, remove_recorded
from nisf.phantom import Scan, Scanner, cohort, ejection_fraction, long_axis, volumes_ml
from nisf.phantom import label as true_label
from nisf.phantom.cohort import volume
from nisf.picture import STYLE, Panel, draw_panel, legend_of, new_figure, save_figure
from nisf.prior.fit import fit
from nisf.report.folder import ReportOptions, write_reports
from nisf.segmentation import PART as SEGMENTED
from nisf.segmentation import outputs, write_segmentation
from nisf.segmentation.measures import write_measures
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject
from nisf.subject.views import box_grid
from nisf.training.train import FILES as TRAINED_FILES
from nisf.training.train import PART as TRAINED
from nisf.training.train import TrainOptions, train

TRAINING, UNSEEN_SEED = 24, 2023
PROTOCOL = "every-2nd-slice"
VOLUME_SPACING = (2.5, 2.5, 2.5)
CURVE_TIMES = 24
FARTHEST = 1.5
"""Distance from a slice, in slice spacings, within which it shows a point: the next one may be hidden."""
FILES = ("unseen.nii.gz", "demo.png")


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Results of the demo.

    Attributes:
        seen: scores of the slices that were fitted.
        hidden: scores of the withheld slices.
        curve: class name to volume in mL at `times`.
        truth: the same from the phantom's formulas.
        times: fractions of the cycle.
        ejection: ejection fraction of the left ventricle in %, measured and true.
        subject: the unseen subject.
        seconds: duration of the training, and of the fit.
    """

    seen: list[Score]
    hidden: list[Score]
    curve: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    times: np.ndarray
    ejection: tuple[float, float]
    subject: Subject
    seconds: tuple[float, float]


def volume_curve(subject: Subject, grid: Grid) -> dict[str, np.ndarray]:
    """Volume (mL) of each structure at each time of ``grid``."""
    rendering = subject.render(grid)
    labels = subject.prior.anatomy.labels
    counts = {name: (rendering.label == k).sum((0, 1, 2)) for k, name in enumerate(labels) if k}
    return {name: count * grid.voxel_ml for name, count in counts.items()}


def run_demo(
    folder: str | Path,
    *,
    config: Config | None = None,
    subjects: int = TRAINING,
    report: LogCallback | None = None,
    say: Callable[[str], None] = print,
) -> DemoResult:
    """Train, fit and measure; write ``prior/``, the unseen subject's files, ``demo.png`` and ``report/``.

    Args:
        folder: where to write.
        config: settings; None for the preset ``demo``.
        subjects: number of phantoms to train on.
        report: called with every record of the training log.
        say: called with progress messages.

    Raises:
        BadFileError: the folder cannot be written, or holds files of these names that nisf did not write.
    """
    _clear(folder := Path(folder))
    anatomy = load_anatomy("cardiac-sax")
    say(f"scanning {subjects} phantom hearts")
    training = [scan.case for scan in cohort(subjects, seed=1, scanner=Scanner(frames=8))]
    unseen = next(iter(cohort(1, seed=UNSEEN_SEED)))
    began = time.perf_counter()
    options = TrainOptions(
        report=report, say=say, card={"licence": "CC0-1.0 (trained on synthetic phantoms)"}
    )
    prior = train(training, [], anatomy, config or preset("demo"), folder / "prior", options)
    began_fit = time.perf_counter()
    say("fitting an unseen heart from every other slice of its stack")
    seen, hidden = hide(unseen.case, PROTOCOL)
    subject = fit(replace(seen, name="unseen"), prior)
    write_segmentation(subject, folder)
    write_measures(folder, subject, measure(subject))
    rendering = subject.render()
    times = cycle_times(CURVE_TIMES)
    curve = volume_curve(subject, box_grid(subject, VOLUME_SPACING).at_times(times))
    truth_at = [volumes_ml(unseen.heart, float(t)) for t in times]
    truth = {name: np.array([v[name] for v in truth_at]) for name in curve}
    lv = curve[anatomy.labels[1]]
    outcome = DemoResult(
        seen=score_case(rendering.label.astype(np.int16), seen, outlines=True),
        hidden=score_case(rendering.label.astype(np.int16), hidden, outlines=True),
        curve=curve,
        truth=truth,
        times=times,
        ejection=_ejection(lv, unseen),
        subject=subject,
        seconds=(began_fit - began, float(subject.summary["seconds"])),
    )
    with recorded(folder, "", "demo", planned=FILES):
        stack = unseen.case.stacks[0]
        write_volume(folder / "unseen.nii.gz", volume(unseen)[0], stack.grid, stack=stack)
        picture(outcome, unseen, rendering, hidden, anatomy, folder / "demo.png")
    pages = ReportOptions(overwrite=True)
    write_reports(folder, prior, pages, cases={"unseen": unseen.case}, say=lambda _: None)
    return outcome


def _clear(folder: Path) -> None:
    """Remove the files of an earlier demo; refuse to replace any others."""
    remove_recorded(folder / "prior", "", TRAINED)
    remove_recorded(folder, "unseen", SEGMENTED)
    refuse_to_replace(folder / "prior", "", TRAINED, planned=TRAINED_FILES)
    refuse_to_replace(folder, "", "demo", planned=FILES)
    refuse_to_replace(folder, "unseen", SEGMENTED, planned=outputs("unseen", ["sa"]))


def _ejection(lv: np.ndarray, unseen: Scan) -> tuple[float, float]:
    """The ejection fraction in %, from the volumes over the cycle, and the true one."""
    return 100 * (1 - lv.min() / max(lv.max(), 1e-9)), 100 * ejection_fraction(unseen.heart)


def _nearest(case: Case, grid: Grid, time_index: int) -> np.ndarray:
    """Intensities on a plane from the nearest given slice; 0 beyond `FARTHEST`."""
    points = grid.points()[:, :, 0]
    image = np.zeros(grid.shape[:2], dtype=np.float32)
    best = np.full(grid.shape[:2], np.inf)
    for item in case.slices:
        if item.frame != time_index:
            continue
        voxel = item.affine.inverse(points)
        ij = np.round(voxel[..., :2]).astype(int)
        inside = ((ij >= 0) & (ij < item.image.shape[:2])).all(-1)
        distance = np.where(inside, np.abs(voxel[..., 2]), np.inf)
        closer = distance < np.minimum(best, FARTHEST)
        i, j = ij[closer].T
        image[closer] = item.image[i, j, 0]
        best[closer] = distance[closer]
    return image


def picture(
    outcome: DemoResult, unseen: Scan, rendering: Rendering, hidden: Case, anatomy: Anatomy, path: Path
) -> None:
    """A seen slice, a hidden one and a long-axis plane at two phases, and the volume curves."""
    import matplotlib as mpl

    case, subject = unseen.case, outcome.subject
    seen_positions = sorted({s.position for s in case.slices} - {s.position for s in hidden.slices})
    hidden_positions = sorted({s.position for s in hidden.slices})
    seen_middle = seen_positions[len(seen_positions) // 2]
    hidden_middle = hidden_positions[len(hidden_positions) // 2]
    long = long_axis(unseen.heart, "4ch", spacing_mm=1.0, size_mm=150.0)
    spacing = (float(rendering.grid.spacing[0]), float(rendering.grid.spacing[1]))
    i, j, _ = np.round(rendering.grid.affine.inverse(subject.region.centre())).astype(int)
    reach = np.ceil(subject.region.half[:2] / spacing).astype(int)
    window = (slice(max(0, i - reach[0]), i + reach[0]), slice(max(0, j - reach[1]), j + reach[1]))
    rows = []
    for phase, time_of_phase in case.phases.items():
        frame = rendering.grid.nearest_frame(time_of_phase)
        panels = []
        for position, kind in ((seen_middle, "given slice"), (hidden_middle, "hidden slice")):
            item = next(s for s in case.slices if s.position == position and s.frame == frame)
            assert item.label is not None
            image, label = item.image[window][..., 0], rendering.label[:, :, position, frame][window]
            panels.append(Panel(f"{phase}: {kind}", image, spacing=spacing, outline=item.label[window]))
            panels.append(Panel("answer", image, spacing=spacing, label=label))
        plane = long.at_times([time_of_phase])
        answer = subject.render(plane)
        seen_part = case.keep(lambda s: s.position in seen_positions)
        truth = true_label(unseen.heart, plane.points().reshape(-1, 3), time_of_phase).reshape(plane.shape)[
            :, :, 0
        ]
        panels.append(Panel("4-chamber: given", _nearest(seen_part, plane, frame)))
        panels.append(
            Panel(
                "answer, truth outlined",
                answer.image[:, :, 0, 0, 0],
                label=answer.label[:, :, 0, 0],
                outline=truth,
            )
        )
        rows.append(panels)
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(13.0, 4.4)
        layout = figure.add_gridspec(len(rows), 8)
        for r, panels in enumerate(rows):
            for c, panel in enumerate(panels):
                draw_panel(figure.add_subplot(layout[r, c]), panel, anatomy)
        axes = figure.add_subplot(layout[:, 6:])
        for name, colour in zip(anatomy.labels[1:], anatomy.colours[1:], strict=True):
            axes.plot(outcome.times, outcome.truth[name], color=colour, lw=1.0, ls="--")
            axes.plot(outcome.times, outcome.curve[name], color=colour, lw=2.0)
        axes.plot([], [], color="0.3", lw=2.0, label="answer")
        axes.plot([], [], color="0.3", lw=1.0, ls="--", label="truth")
        axes.legend(loc="lower right")
        axes.set(xlabel="fraction of the cycle", ylabel="volume in mL", xlim=(0, 1), ylim=(0, None))
        found, true = outcome.ejection
        axes.set_title(f"LV ejection fraction {found:.0f} %, truth {true:.0f} %")
        legend_of(figure, anatomy)
        save_figure(figure, path)
