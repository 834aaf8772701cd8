"""SVG plots whose colours follow the page's theme: map numbers to positions, and positions to paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nisf.measures.curve import VolumeCurve
from nisf.measures.wall import Wall
from nisf.report.words import fixed

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 14.0, 40.0
RAMP = ((253, 231, 37), (94, 201, 98), (33, 145, 140), (59, 82, 139), (68, 1, 84))
"""Viridis, light to dark: readable for the colour-blind, and in print."""


@dataclass(frozen=True)
class Axis:
    """Ticks of one axis: position on the page and text."""

    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """One structure's curve.

    Attributes:
        name: name of the structure.
        colour: ``#rrggbb``.
        path: SVG path of the line.
        points: positions of the measured values.
        bars: x, upper and lower y of intervals.
        band: path around the curve's band; empty if unknown.
    """

    name: str
    colour: str
    path: str
    points: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float, float], ...]
    band: str = ""


@dataclass(frozen=True)
class CurvePlot:
    """Volume curves."""

    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    phases: tuple[tuple[float, str], ...]
    unit: str


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to just beyond ``high``."""
    raw = max(high - low, 1e-9) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.floor(low / step)
    return [step * k for k in range(first, math.ceil(high / step - 1e-9) + 1)]


def curve_plot(
    curve: VolumeCurve,
    colours: Mapping[str, str],
    phases: Mapping[str, float],
    bars: Mapping[str, Sequence[tuple[float, float, float]]],
    band_ml: Mapping[str, Float[np.ndarray, "t"]] | None = None,
) -> CurvePlot:
    """Curves through the measured volumes; smooth if enough frames were measured.

    Args:
        curve: volumes by time.
        colours: colours of the structures, by name.
        phases: times by name.
        bars: intervals of each structure: time, low, high (mL).
        band_ml: half width of each structure's band at the measured times, mL.
    """
    bands = band_ml or {}
    values = [v for ml in curve.ml.values() for v in ml if np.isfinite(v)]
    values += [high for many in bars.values() for _, _, high in many]
    values += [v for name, half in bands.items() for v in curve.ml[name] + half if np.isfinite(v)]
    marks = ticks(0.0, max([*values, 1.0]))
    length = curve.cycle_ms or 1.0

    def x(time: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * time, 1)

    def y(ml: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * ml / marks[-1], 1)

    dense = np.linspace(0.0, 1.0, 101)
    lines = []
    for name, ml in curve.ml.items():
        if name in curve.splines:
            places = list(zip(dense, curve.splines[name](dense), strict=True))
        else:
            places = list(zip(curve.times, ml, strict=True))
        path = "M" + "L".join(f"{x(t)},{y(v)}" for t, v in places if np.isfinite(v))
        points = tuple((x(t), y(v)) for t, v in zip(curve.times, ml, strict=True) if np.isfinite(v))
        drawn = tuple((x(t), y(high), y(low)) for t, low, high in bars.get(name, ()))
        around = _around(curve, places, bands.get(name))
        band = "M" + "L".join(f"{x(t)},{y(v)}" for t, v in around) + "Z" if around else ""
        lines.append(Line(name, colours[name], path, points, drawn, band))
    along = ticks(0.0, length)
    return CurvePlot(
        Axis(tuple((x(t / length), f"{t:g}") for t in along if t <= length * 1.0001)),
        Axis(tuple((y(v), f"{v:g}") for v in marks)),
        tuple(lines),
        tuple((x(time), name) for name, time in phases.items()),
        "time in ms" if curve.cycle_ms else "fraction of the cycle",
    )


def _around(
    curve: VolumeCurve,
    places: Sequence[tuple[float, float]],
    half: Float[np.ndarray, "t"] | None,
) -> list[tuple[float, float]]:
    """Upper edge of the band forwards, then lower edge backwards: time and mL; empty if the band has gaps.

    Its width is interpolated linearly between the measured times, periodically if the curve is periodic.
    """
    if half is None or not np.isfinite(half).all() or not np.isfinite([v for _, v in places]).all():
        return []
    period = 1.0 if curve.continuous else None
    wide = np.interp([t for t, _ in places], curve.times, half, period=period)
    upper = [(t, v + w) for (t, v), w in zip(places, wide, strict=True)]
    lower = [(t, max(v - w, 0.0)) for (t, v), w in zip(places, wide, strict=True)]
    return upper + lower[::-1]


@dataclass(frozen=True)
class Segment:
    """One of the 17 segments: path, position of its number, text, and colours."""

    path: str
    x: float
    y: float
    text: str
    name: str
    fill: str
    ink: str


def bulls_eye(
    wall: Wall, values: Float[np.ndarray, "17"], low: float, high: float, decimals: int = 1
) -> list[Segment]:
    """The 17 segments as the American Heart Association draws them (Cerqueira et al. 2002), radius 100.

    Segment 1 is at the top; numbers run counter-clockwise; the apex is in the middle.

    Args:
        wall: names of the segments.
        values: one per segment, NaN if unknown.
        low: value of the lightest colour.
        high: value of the darkest colour.
        decimals: number of decimals of the values.
    """
    out = []
    rings = ((100.0, 75.0, 6, 60.0), (75.0, 50.0, 6, 60.0), (50.0, 25.0, 4, 45.0))
    number = 0
    for outer, inner, count, first in rings:
        for k in range(count):
            begin = first + k * 360.0 / count
            end = begin + 360.0 / count
            middle = math.radians((begin + end) / 2)
            radius = (outer + inner) / 2
            path = _wedge(outer, inner, begin, end)
            out.append(_segment(wall, values, number, path, (radius, middle), (low, high), decimals))
            number += 1
    circle = "M25,0A25,25 0 1 0 -25,0A25,25 0 1 0 25,0Z"
    out.append(_segment(wall, values, number, circle, (0.0, 0.0), (low, high), decimals))
    return out


def _segment(
    wall: Wall,
    values: np.ndarray,
    number: int,
    path: str,
    place: tuple[float, float],
    limits: tuple[float, float],
    decimals: int,
) -> Segment:
    value = float(values[number])
    known = math.isfinite(value)
    fill, ink = colour_of(value, *limits) if known else ("none", "currentColor")
    radius, angle = place
    x, y = radius * math.cos(angle), -radius * math.sin(angle)
    text = fixed(value, decimals)
    return Segment(path, round(x, 1), round(y, 1), text if known else "–", wall.names[number], fill, ink)


def _wedge(outer: float, inner: float, begin: float, end: float) -> str:
    def at(radius: float, degrees: float) -> str:
        angle = math.radians(degrees)
        return f"{radius * math.cos(angle):.2f},{-radius * math.sin(angle):.2f}"

    return (
        f"M{at(outer, begin)}A{outer},{outer} 0 0 0 {at(outer, end)}"
        f"L{at(inner, end)}A{inner},{inner} 0 0 1 {at(inner, begin)}Z"
    )


def colour_of(value: float, low: float, high: float) -> tuple[str, str]:
    """A colour of the scale, and black or white for text on it."""
    place = min(max((value - low) / max(high - low, 1e-9), 0.0), 1.0) * (len(RAMP) - 1)
    k = min(int(place), len(RAMP) - 2)
    rgb = [a + (b - a) * (place - k) for a, b in zip(RAMP[k], RAMP[k + 1], strict=True)]
    linear = [c / 255 / 12.92 if c < 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # At this luminance, black and white have the same contrast (WCAG 2).
    return "#" + "".join(f"{round(c):02x}" for c in rgb), "#000000" if light > 0.179 else "#ffffff"


@dataclass(frozen=True)
class BlandAltman:
    """Differences against means, with bias and limits of agreement (Bland and Altman 1986).

    Attributes:
        title: title of the measure.
        points: x, y and name of each case.
        levels: y of the three lines, and whether a line is the bias.
        x: axis of the means.
        y: axis of the differences.
        text: bias and limits in words.
    """

    title: str
    points: tuple[tuple[float, float, str], ...]
    levels: tuple[tuple[float, bool], ...]
    x: Axis
    y: Axis
    text: str


def bland_altman(title: str, unit: str, rows: Sequence[tuple[str, float, float]]) -> BlandAltman:
    """Make a plot from name, measured value and reference value of each case."""
    ours, theirs = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    mean, difference = (ours + theirs) / 2, ours - theirs
    bias = float(difference.mean())
    spread = 1.96 * float(difference.std(ddof=1)) if len(rows) > 1 else 0.0
    reach = max(float(np.abs(difference).max()), abs(bias) + spread, 1e-6)
    ys, xs = ticks(-reach, reach, 4), ticks(float(mean.min()), float(mean.max()), 4)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH / 2 - LEFT - RIGHT) * (value - xs[0]) / max(xs[-1] - xs[0], 1e-9), 1)

    def y(value: float) -> float:
        inner = HEIGHT - BOTTOM - TOP
        return round(TOP + inner * (ys[-1] - value) / max(ys[-1] - ys[0], 1e-9), 1)

    said = f"bias {bias:+.1f} {unit}, limits of agreement {bias - spread:+.1f} to {bias + spread:+.1f} {unit}"
    return BlandAltman(
        title,
        tuple((x(m), y(d), row[0]) for m, d, row in zip(mean, difference, rows, strict=True)),
        ((y(bias), True), (y(bias - spread), False), (y(bias + spread), False)),
        Axis(tuple((x(v), f"{v:g}") for v in xs)),
        Axis(tuple((y(v), f"{v:g}") for v in ys)),
        f"{said}, {len(rows)} cases",
    )
