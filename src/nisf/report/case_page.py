"""The page of one case: its contents, and the template that renders them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from nisf import __version__
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.measures.case import CaseMeasures
from nisf.outputs import provenance
from nisf.report.pictures import Picture
from nisf.report.plots import CurvePlot, Segment, bulls_eye, colour_of, curve_plot
from nisf.report.slices import Shown
from nisf.report.words import LIGHTS, Row, headline, rows_of, sources_of, without_name
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class Eye:
    """A bull's-eye plot: title, unit, segments, and the ends of its scale with their colours."""

    title: str
    unit: str
    segments: list[Segment]
    low: str
    high: str
    scale: list[str]


@dataclass(frozen=True)
class CasePage:
    """Contents of a case's page.

    Attributes:
        title: name of the case on the page.
        legend: structures and their colours.
        measured: whether measured pixels are shown, or the field's intensities.
        missing: why measured pixels are not shown, without capital and full stop.
        quality: light, its meaning, symbol, predicted Dice and reasons; empty if unknown.
        headline: the most important measures.
        tables: all measures, by group.
        sources: publications that the tables cite.
        sheets: slices by phase.
        cine: or None.
        views: long-axis planes.
        curves: or None.
        eyes: bull's-eye plots.
        notes: on the measures.
        done: how the results were made.
        licence: licence of the model.
        made_from: digest of all inputs of the page.
    """

    title: str
    legend: list[tuple[str, str]]
    measured: bool
    missing: str
    quality: Mapping[str, Any]
    headline: list[Row]
    tables: Mapping[str, list[Row]]
    sources: list[tuple[int, str]]
    sheets: Mapping[str, list[Picture]]
    cine: Picture | None
    views: list[Picture]
    curves: CurvePlot | None
    eyes: list[Eye]
    notes: list[str]
    done: list[tuple[str, str]]
    licence: str
    made_from: str = ""
    version: str = field(default=__version__)


def case_page(
    subject: Subject,
    measures: CaseMeasures | None,
    case: Case | None,
    title: str,
    *,
    missing: str = "",
    made_from: str = "",
    versions: Mapping[str, str] | None = None,
    memory_mb: float = 512.0,
) -> CasePage:
    """Make the page of a subject.

    Args:
        subject: queried for contours, cine and views.
        measures: for tables, curves and quality; without them, these sections are left out.
        case: the measured images; without it, the field's intensities are shown.
        title: name to show; the subject's own name does not appear.
        missing: see `CasePage`.
        made_from: see `CasePage`.
        versions: of what the subject was made with; None if unknown.
        memory_mb: working memory, MiB.
    """
    anatomy = subject.prior.anatomy
    shown = Shown(subject, case, dict(measures.phases) if measures else {}, memory_mb=memory_mb)
    tables = {} if measures is None else rows_of(measures)

    def renamed(text: str) -> str:
        return without_name(text, subject.name, title)

    return CasePage(
        title=title,
        legend=list(zip(anatomy.labels[1:], anatomy.colours[1:], strict=True)),
        measured=case is not None,
        missing=missing or "the measured file is not available",
        quality=_quality(measures, renamed),
        headline=[] if measures is None else headline(measures),
        tables=tables,
        sources=sources_of(tables),
        sheets=shown.contact_sheet(),
        cine=shown.cine(),
        views=shown.views(),
        curves=_curves(measures, anatomy),
        eyes=_eyes(measures),
        notes=[] if measures is None else [renamed(note) for note in measures.notes],
        done=done_of(subject, measures, versions or {}),
        licence=str(subject.prior.card.get("licence", "see the model's card")),
        made_from=made_from,
    )


def _quality(measures: CaseMeasures | None, renamed: Callable[[str], str]) -> dict[str, Any]:
    if measures is None or measures.quality not in LIGHTS:
        return {}
    meaning, shape = LIGHTS[str(measures.quality)]
    return {
        "light": measures.quality,
        "meaning": meaning,
        "shape": shape,
        "dice": measures.predicted_dice,
        "reasons": [renamed(reason) for reason in measures.reasons],
    }


def _curves(measures: CaseMeasures | None, anatomy: Anatomy) -> CurvePlot | None:
    """The curves, with the intervals of the volumes at their phases."""
    if measures is None or measures.curve is None or len(measures.curve.times) < 2:
        return None
    bars: dict[str, list[tuple[float, float, float]]] = {}
    for rule in anatomy.measures:
        low_high = measures.intervals.get(f"{rule.name}_ml")
        if rule.rule == "volume" and rule.structure and low_high and rule.phase in measures.phases:
            bars.setdefault(rule.structure, []).append((measures.phases[str(rule.phase)], *low_high))
    colours = dict(zip(anatomy.labels, anatomy.colours, strict=True))
    return curve_plot(measures.curve, colours, measures.phases, bars, measures.band_ml)


def _eyes(measures: CaseMeasures | None) -> list[Eye]:
    wall = None if measures is None else measures.wall
    if wall is None:
        return []
    out = []
    thickness = {f"Thickness at {name}": (mm, "mm") for name, mm in wall.thickness_mm.items()}
    change = {f"Thickening, {wall.phase} to {wall.to}": (wall.thickening_percent, "%")}
    known = [mm[np.isfinite(mm)] for mm in wall.thickness_mm.values()]
    largest = max((float(mm.max()) for mm in known if len(mm)), default=1.0)
    for title, (values, unit) in {**thickness, **change}.items():
        if not np.isfinite(values).any():
            continue
        low, high = (0.0, max(10.0, np.ceil(largest))) if unit == "mm" else (0.0, 100.0)
        decimals = 1 if unit == "mm" else 0
        scale = [colour_of(low + (high - low) * k / 4, low, high)[0] for k in range(5)]
        out.append(
            Eye(title, unit, bulls_eye(wall, values, low, high, decimals), f"{low:g}", f"{high:g}", scale)
        )
    return out


def done_of(
    subject: Subject, measures: CaseMeasures | None, versions: Mapping[str, str]
) -> list[tuple[str, str]]:
    """How the results were made: versions, prior, options, and the input's hash; no names, no paths."""
    summary, stack, prior = subject.summary, subject.stacks[0], subject.prior
    request = summary.get("request", {})
    request = request if isinstance(request, Mapping) else {}
    inputs = [str(entry.get("sha256", ""))[:16] for entry in request.get("inputs") or [] if entry]
    fit = {k: v for k, v in (request.get("fit") or {}).items() if v not in (None, False)}
    default = {"find": "auto", "format": "nii.gz"}
    hidden = ("inputs", "fit", "series", "model", "grids", "tables")
    shown = {k: v for k, v in request.items() if k not in hidden}
    options = {k: v for k, v in shown.items() if v and v != default.get(k)}
    words = [f"{name} {value}" for name, value in {**options, **fit}.items()]
    turned = [f"{summary['turned']} to match the training images"] if "turned" in summary else []
    unknown = [] if stack.oriented else ["position in the patient unknown", *turned]
    rows = [
        ("Input", "; ".join([stack.grid.words(), *unknown])),
        ("Fingerprint of the input", ", ".join(inputs) or "not recorded"),
        ("Model", f"{prior.card.get('name', prior.anatomy.name)}, kind {prior.kind}, {prior.fingerprint}"),
        ("Region found by", str(summary.get("region", "not recorded"))),
        ("Options", "; ".join(words) or "the model's defaults"),
        ("Disconnected parts (islands)", "removed" if subject.islands == "remove" else "kept"),
        ("Segmented with", in_words(versions) or "not recorded"),
        ("Page made with", in_words(provenance.versions())),
    ]
    if measures is not None and measures.phases:
        frames = {n: stack.grid.nearest_frame(t) for n, t in measures.phases.items()}
        at = ", ".join(
            f"{name} at {time:.3f} of the cycle (frame {frames[name]}, counted from 0)"
            for name, time in measures.phases.items()
        )
        rows.insert(2, ("Phases", at))
    return rows


def in_words(versions: Mapping[str, str]) -> str:
    """Versions as in ``nisf 0.1.0, torch 2.13.0``."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@cache
def environment() -> Any:
    """The Jinja environment, which escapes everything that goes into a page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("nisf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def as_html(page: CasePage, index: str | None = None) -> str:
    """Render the page, with a link to the cohort's page if its name is given."""
    return environment().get_template("case.html").render(page=page, index=index)
