"""Figure 4: slices held out at the base, at the apex and in between, with numbers for all subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.case import Case
from nisf.data.geometry import Grid
from nisf.data.hiding import hide
from nisf.errors import NisfError
from nisf.evaluation.scores import label_volume
from nisf.paper.methods import (
    FROZEN,
    OURS,
    SECOND,
    UNET_NEAREST,
    UNET_SHAPE,
    Method,
    by_reference,
    by_unet,
    frozen,
    mean_of,
    of_subjects,
    ours,
    path_name,
    score_method,
    second_order,
)
from nisf.paper.needs import Needs, of_image, of_network, of_paper, scored
from nisf.paper.results import Result, draw, look, publish
from nisf.paper.study import Study
from nisf.paper.windows import window_of
from nisf.picture import Panel, draw_panel, legend_of
from nisf.prior.fit import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROTOCOLS = {
    "every-2nd-slice": "every 2nd slice",
    "basal": "the basal slice",
    "apical": "the apical slice",
    "all-but-3": "all but 3 slices",
}

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Positions of the planes between two slices, as fractions of the gap."""


def needs(study: Study) -> Needs:
    """What the experiment needs."""
    methods = (FROZEN, SECOND, OURS, UNET_SHAPE, UNET_NEAREST)
    parts = [part for protocol in PROTOCOLS for part in scored(study, protocol, methods)]
    return Needs((of_paper(study), of_image(study), of_network(study)), tuple(parts))


def run(study: Study) -> Result:
    """Dice and HD95 on hidden slices over all test subjects, and pictures of one subject's slices."""
    methods = [frozen(study), second_order(study), ours(study), *by_unet(study)]
    scored = [*methods, by_reference()]
    rows = [
        row for protocol in PROTOCOLS for method in scored for row in score_method(study, method, protocol)
    ]
    table = [["hidden", *(method.name for method in scored)]]
    for protocol, name in PROTOCOLS.items():
        table.append([name, *(_cell(rows, protocol, method.name) for method in scored)])
    every = {m.name: mean_of(_of(rows, "every-2nd-slice", m.name)) for m in scored}
    every = {name: value for name, value in every.items() if np.isfinite(value)}
    line = (
        "Mean Dice on every 2nd slice, hidden: " + ", ".join(f"{n} {v:.3f}" for n, v in every.items()) + "."
    )
    result = Result("fig4", "Figure 4: slices that were never seen", line, rows, table)
    publish(study.output, result, _numbers(rows, [method.name for method in scored]))
    pictures = _pictures(study, rows, methods)
    if pictures is not None:
        title = f"Figure 4: one subject ({pictures[0]})"
        line = "Columns: reference, then each method's result without the slice. " + pictures[1]
        publish(study.output, Result("fig4-slices", title, line, ()), pictures[2])
    return result


def _of(rows: list[dict[str, Any]], protocol: str, method: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["protocol"] == protocol and row["method"] == method]


def _cell(rows: list[dict[str, Any]], protocol: str, method: str) -> str:
    chosen = _of(rows, protocol, method)
    if not chosen:
        return "-"
    return f"{mean_of(chosen):.3f}, {mean_of(chosen, 'hd95_mm'):.1f} mm"


def _numbers(rows: list[dict[str, Any]], names: list[str]) -> Figure:
    def make(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for axes, value, title in ((left, "dice", "Dice"), (right, "hd95_mm", "HD95 in mm")):
            for i, name in enumerate(names):
                found = [mean_of(_of(rows, protocol, name), value) for protocol in PROTOCOLS]
                place = np.arange(len(found)) + (i - (len(names) - 1) / 2) * 0.8 / len(names)
                axes.plot(place, found, ls="", label=name, **look(name))
            axes.set_xticks(
                range(len(PROTOCOLS)), [name.replace(" ", "\n", 1) for name in PROTOCOLS.values()]
            )
            axes.set(ylabel=f"{title} on hidden slices")
            axes.grid(axis="y", color="0.9")
        handles, texts = left.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=3)

    return draw(7.2, 3.4, make)


def _pictures(
    study: Study, rows: list[dict[str, Any]], methods: list[Method]
) -> tuple[str, str, Figure] | None:
    """The median subject's hidden slices, and the gap between two measured ones; None if it has none."""
    scored = _of(rows, "every-2nd-slice", OURS)
    if not scored:
        return None
    names = list(dict.fromkeys(row["case"] for row in scored))
    order = np.argsort(of_subjects(scored))
    case = next(c for c in study.test if c.name == names[int(order[len(order) // 2])])
    frame = min(s.frame for s in case.labelled())
    i, j = window_of(case)
    across = case.stacks[0].grid.spacing
    spacing = (float(across[0]), float(across[1]))
    lines = []
    for protocol in ("basal", "every-2nd-slice"):
        try:
            seen, hidden = hide(case, protocol)
        except NisfError:
            continue
        positions = sorted({s.position for s in hidden.labelled() if s.frame == frame})
        reference = label_volume(case)
        drawn = [p for p in positions if (reference[:, :, p, frame] > 0).any()]
        if not drawn:
            continue
        position = drawn[len(drawn) // 2]
        window = (i, j, position, frame)
        image = np.asarray(next(s for s in case.slices if s.position == position and s.frame == frame).image)
        image = image[window[:2]][..., 0]
        outline = reference[window]
        panels = [Panel(f"{PROTOCOLS[protocol]}\nmeasured", image, outline=outline, spacing=spacing)]
        for method in methods:
            found = study.once(
                f"pictures/{path_name(method.name)}/{protocol}/{case.name}",
                [case],
                {**method.settings, "position": position, "frame": frame},
                lambda method=method, seen=seen, window=window: method.segment(seen, case)[window].tolist(),
            )
            label = np.array(found)
            title = f"{method.name}\nnot seen"
            panels.append(Panel(title, image, label=label, outline=outline, spacing=spacing))
        lines.append(panels)
    lines.append(_between(study, case, frame))

    def make(figure: Figure) -> None:
        columns = max(map(len, lines))
        grid = figure.subplots(len(lines), columns, squeeze=False)
        for line, axes_of in zip(lines, grid, strict=True):
            for place, axes in enumerate(axes_of):
                if place < len(line):
                    draw_panel(axes, line[place], study.anatomy)
                else:
                    axes.set_axis_off()
        legend_of(figure, study.anatomy)

    note = "Last row: five planes between two measured slices, from the image-conditioned field."
    return case.name, note, draw(8.4, 1.8 * len(lines) + 0.5, make)


def _between(study: Study, case: Case, frame: int) -> list[Panel]:
    """Five planes from one measured slice in the middle to the next."""
    prior, grid = study.prior(study.image), case.stacks[0].grid
    spacing = (float(grid.spacing[0]), float(grid.spacing[1]))

    def work() -> list[Any]:
        fitted, below, (i, j) = fit(case, prior), max(0, grid.shape[2] // 2 - 1), window_of(case)
        size = (min(i.stop, grid.shape[0]) - i.start, min(j.stop, grid.shape[1]) - j.start, 1)
        answers = []
        for share in SHARES:
            place = grid.affine.shifted((i.start, j.start, below + share))
            answer = fitted.render(Grid(size, place, grid.times[frame : frame + 1]))
            image, label = answer.image[:, :, 0, 0, 0], answer.label[:, :, 0, 0]
            answers.append([image.round(1).tolist(), label.tolist()])
        return answers

    settings = {"prior": prior.fingerprint, "frame": frame}
    found = study.once(f"pictures/between/{case.name}", [case], settings, work)
    return [
        Panel(f"{share:.2f} of the gap", np.array(image), label=np.array(label), spacing=spacing)
        for share, (image, label) in zip(SHARES, found, strict=True)
    ]
