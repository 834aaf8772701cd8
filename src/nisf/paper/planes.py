"""Arbitrary planes: long-axis views cut from priors that saw the slices of one stack only.

Measured by volume: the ellipsoid with the views' areas and length (area-length method, 8 A1 A2 / (3 pi L),
Dodge et al., Am J Cardiol 1966) against summation of slices in the reference. If a subject has further
measured stacks, e.g. long-axis cines, the answers on their planes are compared with the measurements.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.anatomy import View
from nisf.data.case import Case
from nisf.data.geometry import Grid
from nisf.errors import CannotFitError, NisfError
from nisf.evaluation.scores import label_volume, phase_name, score_case
from nisf.paper.methods import FROZEN, OURS, mean_of, path_name
from nisf.paper.needs import Needs, Part, of_image, of_paper
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study
from nisf.picture import Panel, draw_panel, legend_of
from nisf.prior.fit import fit
from nisf.prior.prior import Prior
from nisf.subject.subject import Subject
from nisf.subject.views import view_plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE_MM, SPACING_MM = 160.0, 1.0


def views_of(study: Study) -> dict[str, View]:
    """The first two views of the anatomy."""
    return dict(list(study.anatomy.views.items())[:2])


def needs(study: Study) -> Needs:
    """What the experiment needs; nothing if the anatomy names fewer than two views."""
    if len(views_of(study)) < 2:
        return Needs()
    count = len(study.files["test"])
    parts = [
        Part(
            f"{name}, planes",
            f"planes/{path_name(name)}/*.json",
            count,
            lambda costs, name=name: costs.subject(name),
        )
        for name in (FROZEN, OURS)
    ]
    return Needs((of_paper(study), of_image(study)), tuple(parts))


def run(study: Study) -> Result | None:
    """Long-axis views of all test subjects; None (and a sentence) if the anatomy names fewer than two."""
    views = views_of(study)
    if len(views) < 2:
        study.say("planes left out: the anatomy does not name two views")
        return None
    priors = {FROZEN: study.prior(study.paper), OURS: study.prior(study.image)}
    rows: list[dict[str, Any]] = []
    for name, prior in priors.items():
        for case in study.test:
            settings = {"prior": prior.fingerprint, "fit": asdict(prior.config.fit)}
            found = study.once(
                f"planes/{path_name(name)}/{case.name}",
                [case, *([other] if (other := study.other_stacks.get(case.name)) else [])],
                settings,
                lambda case=case, prior=prior: _of_case(study, case, prior, views),
            )
            if isinstance(found, str):
                study.say(f"left out: {found}")
                continue
            rows += [{"method": name, "case": case.name, **row} for row in found]
            study.say(f"views of {case.name}, {name}: {len(found)} rows")
    volumes = [row for row in rows if row["kind"] == "volume"]
    parts = []
    for name in priors:
        error = np.array(
            [row["area_length_ml"] - row["reference_ml"] for row in volumes if row["method"] == name]
        )
        if len(error):
            parts.append(f"{name} {error.mean():+.1f} ± {error.std():.1f} mL ({len(error)} volumes)")
    axis = next(iter(views.values())).axis
    line = f"Volume of the {axis} from its views, minus the reference: {', '.join(parts) or 'none found'}."
    other = [row for row in rows if row["kind"] == "measured"]
    if other:
        found = {name: mean_of([row for row in other if row["method"] == name]) for name in priors}
        dice = ", ".join(f"{name} Dice {value:.3f}" for name, value in found.items())
        line += f" On measured planes that were never given: {dice}."
    result = Result("planes", "Any plane: long-axis views from short-axis slices", line, rows)
    publish(study.output, result, _figure(study, volumes, priors, views))
    return result


def _of_case(study: Study, case: Case, prior: Prior, views: dict[str, View]) -> list[dict[str, Any]] | str:
    """Areas, lengths and volumes at the labelled phases, and scores on stacks that were not given."""
    try:
        fitted = fit(case, prior)
        grid, rows = case.stacks[0].grid, []
        frames = sorted({s.frame for s in case.labelled()})
        for frame in frames[:: max(1, len(frames) // 2)]:
            time = float(grid.times[frame])
            areas, length = [], 0.0
            for view in views.values():
                plane = view_plane(fitted, view, size_mm=SIZE_MM, spacing_mm=SPACING_MM, time=time)
                area, extent = measures(fitted, plane, view)
                areas.append(area)
                length = max(length, extent)
            k = case.labels.index(next(iter(views.values())).axis)
            reference = float((label_volume(case)[..., frame] == k).sum() * grid.voxel_ml)
            rows.append(
                {
                    "kind": "volume",
                    "phase": phase_name(case, time),
                    **{f"{name}_cm2": round(a / 100, 3) for name, a in zip(views, areas, strict=True)},
                    "length_mm": length,
                    "area_length_ml": round(8 * areas[0] * areas[1] / (3 * np.pi * length) / 1000, 3),
                    "reference_ml": round(reference, 3),
                }
            )
        rows += _on_other_stacks(study, case, fitted)
    except NisfError as error:
        return str(error)
    return rows


def measures(fitted: Subject, plane: Grid, view: View) -> tuple[float, float]:
    """Area (mm²) and length along the axis (mm) of the view's structure on its plane."""
    label = fitted.render(plane).label[:, :, 0, 0]
    mask = label == fitted.prior.anatomy.labels.index(view.axis)
    rows = np.flatnonzero(mask.any(0))
    if not len(rows):
        raise CannotFitError(f"{fitted.name}: its {view.axis} is not on the plane of its own axis")
    spacing = plane.spacing
    return float(mask.sum() * spacing[0] * spacing[1]), float((np.ptp(rows) + 1) * spacing[1])


def _on_other_stacks(study: Study, case: Case, fitted: Subject) -> list[dict[str, Any]]:
    """Dice on the labelled slices of further stacks, which were hidden from the fit."""
    whole = study.other_stacks.get(case.name)
    if whole is None or not whole.labelled():
        return []
    rows = []
    for stack in sorted({item.stack for item in whole.labelled()}):
        label = fitted.render(whole.stacks[stack].grid).label.astype(np.int16)
        rows += [
            {"kind": "measured", "plane": whole.stacks[stack].name, **asdict(score)}
            for score in score_case(label, whole, stack=stack, outlines=True)
        ]
    return rows


def _interpolated(case: Case, plane: Grid, frame: int) -> np.ndarray:
    """Intensities on a plane, interpolated linearly between the measured slices, as in a common viewer."""
    from scipy.ndimage import map_coordinates

    grid = case.stacks[0].grid
    volume = np.zeros(grid.shape, dtype=np.float32)
    for item in case.slices:
        if item.frame == frame:
            volume[:, :, item.position] = item.image[..., 0]
    voxel = grid.affine.inverse(plane.points()[:, :, 0])
    return map_coordinates(volume, np.moveaxis(voxel, -1, 0), order=1, cval=0.0)


def _panels(study: Study, priors: dict[str, Prior], views: dict[str, View]) -> list[list[Any]]:
    """A subject's views: rows of (title, image, label or None); planes found by our fit if possible."""
    case = study.test[len(study.test) // 2]
    frame = min(item.frame for item in case.labelled())
    time = float(case.stacks[0].grid.times[frame])
    fits = {name: fit(case, prior) for name, prior in priors.items()}
    lines = []
    for name, view in views.items():
        plane = None
        for fitted in (fits[OURS], fits[FROZEN]):
            try:
                plane = view_plane(fitted, view, size_mm=SIZE_MM, spacing_mm=SPACING_MM, time=time)
                break
            except NisfError as error:
                study.say(f"view {name}: {error}")
        if plane is None:
            continue
        line: list[Any] = [
            [f"{name}\nslices, interpolated", _interpolated(case, plane, frame).round(1).tolist(), None]
        ]
        for method, fitted in fits.items():
            answer = fitted.render(plane)
            image, label = answer.image[:, :, 0, 0, 0].round(1).tolist(), answer.label[:, :, 0, 0].tolist()
            line += [[f"{method}\nintensity", image, None], ["segmentation", image, label]]
        lines.append(line)
    return lines


def _figure(
    study: Study, volumes: list[dict[str, Any]], priors: dict[str, Prior], views: dict[str, View]
) -> Figure:
    """One subject's views, and the volumes of all subjects against the reference."""
    settings = {name: [prior.fingerprint, asdict(prior.config.fit)] for name, prior in priors.items()}
    case = study.test[len(study.test) // 2]
    lines = study.once(f"pictures/views/{case.name}", [case], settings, lambda: _panels(study, priors, views))

    def make(figure: Figure) -> None:
        grid = figure.add_gridspec(max(1, len(lines)), 7)
        for r, line in enumerate(lines):
            for c, (title, image, label) in enumerate(line):
                shown = None if label is None else np.array(label)
                panel = Panel(title, np.array(image), label=shown)
                draw_panel(figure.add_subplot(grid[r, c]), panel, study.anatomy)
        axes = figure.add_subplot(grid[:, 5:])
        for name in priors:
            mine = [row for row in volumes if row["method"] == name]
            axes.plot(
                [row["reference_ml"] for row in mine],
                [row["area_length_ml"] for row in mine],
                ls="",
                alpha=0.7,
                label=name,
                **look(name),
            )
        top = max([1.0, *(max(row["reference_ml"], row["area_length_ml"]) for row in volumes)])
        axes.plot([0, top], [0, top], color="0.5", lw=0.8)
        axes.set(xlabel="reference volume in mL", ylabel="from the two views in mL", aspect="equal")
        axes.legend(loc="upper left")
        legend_of(figure, study.anatomy)

    return draw(11.0, 4.2, make)
