"""Pictures of images, segmentations and curves; one style for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nisf.data.anatomy import Anatomy
from nisf.evaluation.agreement import Agreement
from nisf.files import replacing
from nisf.subject.rendering import Rendering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
}
DPI = 150


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of a montage.

    Attributes:
        title: above the image.
        image: grey values (x, y).
        label: filled classes (x, y), or None.
        outline: classes drawn as outlines (x, y), or None.
        spacing: mm along x and y.
        vmax: grey value that is white; by default the image's 99.5th percentile.
    """

    title: str
    image: np.ndarray
    label: np.ndarray | None = None
    outline: np.ndarray | None = None
    spacing: tuple[float, float] = (1.0, 1.0)
    vmax: float | None = None


def new_figure(width: float, height: float) -> Figure:
    """A figure without a window or global state; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically; the file ending sets the format."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=Path(path).suffix.lstrip("."))


def draw_panel(axes: Axes, panel: Panel, anatomy: Anatomy) -> None:
    """Draw an image in grey with classes filled or outlined in the anatomy's colours.

    Black is 0, or the 0.5th percentile of an image with negative values (CT).
    """
    from matplotlib.colors import to_rgba

    low, high = np.percentile(panel.image, (0.5, 99.5))
    vmin, vmax = min(0.0, float(low)), float(high) if panel.vmax is None else panel.vmax
    aspect = panel.spacing[1] / panel.spacing[0]
    options: dict[str, Any] = {"origin": "upper", "aspect": aspect, "interpolation": "nearest"}
    axes.imshow(panel.image.T, cmap="gray", vmin=vmin, vmax=max(vmax, vmin + 1e-6), **options)
    if panel.label is not None:
        colours = np.array([to_rgba(c, 0.5) for c in anatomy.colours])
        colours[0] = 0
        axes.imshow(colours[np.clip(panel.label, 0, len(colours) - 1).astype(int).T], **options)
    if panel.outline is not None:
        for k, colour in enumerate(anatomy.colours[1:], start=1):
            mask = (panel.outline == k).astype(float).T
            if 0 < mask.sum() < mask.size:
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.1)
    axes.set_title(panel.title)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend_of(figure: Figure, anatomy: Anatomy) -> None:
    """Add a legend of the class colours below the figure."""
    from matplotlib.patches import Patch

    handles = [
        Patch(color=c, label=name) for c, name in zip(anatomy.colours[1:], anatomy.labels[1:], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def montage(rows: Sequence[Sequence[Panel]], anatomy: Anatomy, path: str | Path, *, title: str = "") -> None:
    """Write rows of panels with a legend to ``path``."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        columns = max(map(len, rows))
        # Wide enough for the legend, which is in one row.
        figure = new_figure(max(2.0 * columns, 1.5 * (len(anatomy.labels) - 1)), 2.15 * len(rows) + 0.4)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for line, panels in zip(axes, rows, strict=True):
            for place, axis in enumerate(line):
                if place < len(panels):
                    draw_panel(axis, panels[place], anatomy)
                else:
                    axis.set_axis_off()
        legend_of(figure, anatomy)
        if title:
            figure.suptitle(title)
        save_figure(figure, path)


def plane_picture(rendering: Rendering, anatomy: Anatomy, path: str | Path) -> None:
    """One plane, a column per time: intensities above, segmentation below.

    The only time of an anatomy without phases is not named, because nothing moves.
    """
    times = rendering.grid.times
    spacing = (float(rendering.grid.spacing[0]), float(rendering.grid.spacing[1]))
    chosen = np.linspace(0, len(times) - 1, min(len(times), 6)).round().astype(int)
    above, below = [], []
    for t in chosen:
        image = rendering.image[:, :, 0, t, 0]
        title = "" if len(times) == 1 and anatomy.phases is None else f"t = {times[t]:.2f}"
        above.append(Panel(title, image, spacing=spacing))
        below.append(Panel("", image, label=rendering.label[:, :, 0, t], spacing=spacing))
    montage([above, below], anatomy, path)


def agreement_picture(agreements: Sequence[Agreement], path: str | Path) -> None:
    """Bland-Altman plots, one for each measure and convention, four in a row."""
    import matplotlib as mpl

    rows = -(-len(agreements) // 4)
    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(9.6, 2.0 * rows + 0.4)
        axes = figure.subplots(rows, 4, squeeze=False)
        for axis in axes.flat[len(agreements) :]:
            axis.set_axis_off()
        for axis, agreement in zip(axes.flat, agreements, strict=False):
            mean = (agreement.ours + agreement.reference) / 2
            axis.plot(mean, agreement.difference, "o", color="#30638e", ms=3.5, alpha=0.8)
            axis.axhline(0, color="0.7", lw=0.8, zorder=0)
            limits = [(level, "--") for level in agreement.limits or ()]
            for level, style in [(agreement.bias, "-"), *limits]:
                axis.axhline(level, color="#d1495b", lw=1.0, ls=style)
                place = {
                    "xy": (1, level),
                    "xycoords": ("axes fraction", "data"),
                    "ha": "right",
                    "va": "bottom",
                }
                axis.annotate(f"{level:+.1f}", fontsize=7, **place)
            axis.set_title(f"{agreement.name}, {agreement.convention}", fontsize=8)
            axis.tick_params(labelsize=7)
        figure.supxlabel("mean of ours and the reference", fontsize=8)
        figure.supylabel("ours minus the reference", fontsize=8)
        save_figure(figure, path)
