import math

import numpy as np
import pytest
from made_up import measures

from nisf.report.plots import (
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    bland_altman,
    bulls_eye,
    colour_of,
    curve_plot,
    ticks,
)
from nisf.report.words import fixed, headline, number, rows_of, title_of, unit_of


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 187, [0, 50, 100, 150, 200]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 7, [-4, -2, 0, 2, 4, 6, 8]),
    ],
)
def test_ticks(low, high, expected):
    np.testing.assert_allclose(ticks(low, high), expected, atol=1e-12)


def test_a_curve_goes_through_what_was_measured():
    told = measures()
    plot = curve_plot(
        told.curve, {"blood": "#ff0000", "muscle": "#00ff00"}, told.phases, {"blood": [(0.0, 130.0, 150.0)]}
    )
    assert [text for _, text in plot.x.ticks] == ["0", "200", "400", "600", "800"]
    assert [name for _, name in plot.phases] == ["ED", "ES"]
    blood = plot.lines[0]
    path = np.array([place.split(",") for place in blood.path[1:].split("L")], dtype=float)
    for x, y in blood.points:
        assert np.hypot(*(path - [x, y]).T).min() < 0.2
    assert path[0, 0] == LEFT
    assert path[-1, 0] == WIDTH - RIGHT
    x, high, low = blood.bars[0]
    assert high < blood.points[0][1] < low
    assert path[:, 1].max() < HEIGHT
    assert blood.band == ""


def test_a_band_runs_around_its_curve():
    told = measures()
    half = np.linspace(4.0, 12.0, len(told.curve.times))
    plot = curve_plot(told.curve, {"blood": "#ff0000", "muscle": "#00ff00"}, told.phases, {}, {"blood": half})
    blood, muscle = plot.lines
    assert muscle.band == ""
    band = np.array([place.split(",") for place in blood.band[1:-1].split("L")], dtype=float)
    upper, lower = band[: len(band) // 2], band[: len(band) // 2 - 1 : -1]
    np.testing.assert_array_equal(upper[:, 0], lower[:, 0])
    path = np.array([place.split(",") for place in blood.path[1:].split("L")], dtype=float)
    np.testing.assert_allclose((upper + lower)[:, 1] / 2, path[:, 1], atol=0.11)
    per_ml = (plot.y.ticks[0][0] - plot.y.ticks[-1][0]) / float(plot.y.ticks[-1][1])
    assert (lower - upper)[0, 1] == pytest.approx(2 * half[0] * per_ml, abs=0.3)


def test_a_bulls_eye_has_the_segments_where_they_belong():
    values = np.arange(17.0)
    values[16] = np.nan
    segments = bulls_eye(measures().wall, values, 0.0, 16.0)
    assert [s.text for s in segments] == [*(f"{v:.1f}" for v in range(16)), "–"]
    # Anterior on top, then counter-clockwise; the septum is on the left.
    for k in (0, 6, 12):
        assert (segments[k].x, segments[k].y < 0) == (0, True)
    for k in (1, 2, 7, 8, 13):
        assert segments[k].x < 0
    assert segments[0].y < segments[6].y < segments[12].y < 0
    areas = {k: _area(segments[k].path) for k in range(16)}
    assert areas[0] == pytest.approx(math.pi * (100**2 - 75**2) / 6, rel=0.02)
    assert areas[12] == pytest.approx(math.pi * (50**2 - 25**2) / 4, rel=0.02)


def read_off(axis, places):
    """Values at places on the page, by the ticks of an axis."""
    (low, first), (high, last) = ((place, float(text)) for place, text in (axis.ticks[0], axis.ticks[-1]))
    return [first + (place - low) / (high - low) * (last - first) for place in places]


def test_differences_are_drawn_against_means_with_bias_and_limits():
    plot = bland_altman("Volume", "mL", [("a", 102.0, 100.0), ("b", 148.0, 150.0), ("c", 206.0, 200.0)])
    assert [name for *_, name in plot.points] == ["a", "b", "c"]
    assert read_off(plot.x, [x for x, *_ in plot.points]) == pytest.approx([101, 149, 203], abs=0.1)
    assert read_off(plot.y, [y for _, y, _ in plot.points]) == pytest.approx([2, -2, 6], abs=0.05)
    # Differences 2, -2, 6: mean 2, sample deviation 4.
    levels = [2, 2 - 1.96 * 4, 2 + 1.96 * 4]
    assert read_off(plot.y, [y for y, _ in plot.levels]) == pytest.approx(levels, abs=0.05)
    assert [bias for _, bias in plot.levels] == [True, False, False]
    assert plot.text == "bias +2.0 mL, limits of agreement -5.8 to +9.8 mL, 3 cases"


def _area(path):
    """Of a wedge, from its corners: between two arcs of its angle."""
    outer, _, inner, _ = (
        complex(*map(float, part.rsplit(" ", 1)[-1].split(",")))
        for part in path.strip("MZ").replace("L", "A").split("A")
    )
    first = complex(*map(float, path[1:].split("A")[0].split(",")))
    second = complex(*map(float, path.split("A")[1].rsplit(" ", 1)[-1].split("L")[0].split(",")))
    angle = abs(np.angle(second / first))
    return angle / 2 * (abs(outer) ** 2 - abs(inner) ** 2)


def test_writing_on_colours_can_be_read():
    """Contrast of at least 4.5, as WCAG asks, all along the ramp."""

    def light(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value in np.linspace(0, 1, 60):
        fill, ink = colour_of(float(value), 0.0, 1.0)
        bright, dark = sorted((light(fill), light(ink)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) > 4.5


def test_words():
    assert unit_of("lv_edv_index_ml_per_m2") == ("lv_edv_index", "mL/m²")
    assert unit_of("co_l_per_min") == ("co", "L/min")
    assert title_of("lv_ef_percent") == "LV ejection fraction"
    assert title_of("anterior_surface_mm2") == "Anterior surface"
    assert title_of("anterior_ml") == "Anterior volume"
    assert [number(v) for v in (None, 5.256, 57.149, 187.4, -3)] == ["–", "5.26", "57.1", "187", "−3.00"]
    assert [number(-0.001), fixed(-0.4, 0), fixed(-0.6, 0)] == ["0.00", "0", "−1"]


def test_rows():
    tables = rows_of(measures())
    assert list(tables) == ["Left ventricle", "Other measures"]
    edv, ef = tables["Left ventricle"]
    assert (edv.value, edv.unit, edv.interval, edv.slices) == ("140", "mL", "131 to 149", "138")
    assert edv.index == "75.3 mL/m²"
    assert (ef.men, ef.women, ef.source) == ("58 ± 5", "61 ± 5", 1)
    assert [row.title for row in headline(measures())] == ["LV ejection fraction", "LV end-diastolic volume"]
