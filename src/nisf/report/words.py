"""Names of measures in a report, and published values; the data are in `measures.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nisf.files import read_json
from nisf.measures.case import CaseMeasures

UNITS = {
    "_ml_per_m2": "mL/m²",
    "_g_per_m2": "g/m²",
    "_l_per_min_per_m2": "L/min/m²",
    "_l_per_min": "L/min",
    "_ml_per_s": "mL/s",
    "_mm2": "mm²",
    "_percent": "%",
    "_bpm": "/min",
    "_ml": "mL",
    "_mm": "mm",
    "_g": "g",
}
"""Unit by the ending of a column's name; the longest ending that fits counts."""


LIGHTS = {
    "green": ("No sign of failure", "●"),
    "amber": ("Check before use", "▲"),
    "red": ("Likely wrong", "■"),
}
"""Meaning of each warning light, and its symbol, because some readers cannot tell the colours apart."""


LONG = 4
"""Names of at least this many characters are hidden wherever they stand; shorter ones only as whole words."""


def without_name(text: str, name: str, title: str) -> str:
    """A text with a title instead of a case's name.

    A short name, such as ``1`` or ``a``, is replaced only where no letter or digit touches it, so that the
    numbers and words of the text stay.
    """
    if not name:
        return text
    if len(name) >= LONG:
        return text.replace(name, title)
    apart = rf"(?<![^\W_])(?<!\d[.,]){re.escape(name)}(?![^\W_])(?![.,]\d)"
    return re.sub(apart, lambda _: title, text)


@cache
def data() -> Mapping[str, Any]:
    """Contents of `measures.json`."""
    return read_json(Path(__file__).parent / "measures.json")


def unit_of(column: str) -> tuple[str, str]:
    """Split a column name into name and unit."""
    for ending in sorted(UNITS, key=len, reverse=True):
        if column.endswith(ending):
            return column.removesuffix(ending), UNITS[ending]
    return column, ""


def title_of(column: str) -> str:
    """Title of a measure; the column name if there is none."""
    if column in data()["titles"]:
        return data()["titles"][column]
    name, unit = unit_of(column)
    name = name.replace("_", " ") + (" volume" if unit == "mL" else "")
    return name[:1].upper() + name[1:]


def number(value: float | None) -> str:
    """Text of a value: three digits."""
    if value is None:
        return "–"
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return fixed(value, decimals)


def fixed(value: float, decimals: int) -> str:
    """Text of a value with this many decimals, with a real minus sign; no negative zero."""
    return f"{value:z.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Row:
    """One measure in a table.

    Attributes:
        title: name of the measure.
        value: by integration of the field.
        interval: 90 %, or empty.
        slices: by summation of slices, or empty.
        index: indexed to body surface area, with its unit, or empty.
        unit: unit of value, interval and slices.
        men: published mean and standard deviation, or empty; of the index if only that was published.
        women: likewise.
        source: number of the publication; 0 for none.
    """

    title: str
    value: str
    interval: str
    slices: str
    index: str
    unit: str
    men: str
    women: str
    source: int


def rows_of(measures: CaseMeasures) -> dict[str, list[Row]]:
    """Tables of a case's measures by group; unknown measures are left out."""
    values, out = measures.values, {}
    for column, value in values.items():
        name, unit = unit_of(column)
        if value is None or name.endswith(("_slices", "_index")):
            continue
        ending = column[len(name) :]
        slices = values.get(f"{name}_slices{ending}")
        index_column = next((c for c in values if unit_of(c)[0] == f"{name}_index"), None)
        index = None if index_column is None else values[index_column]
        said = data()["published"].get(column, {})
        per_m2 = ""
        if not said and index is not None:
            said, per_m2 = data()["published"].get(index_column, {}), " " + unit_of(str(index_column))[1]
        low_high = measures.intervals.get(column)
        row = Row(
            title_of(column),
            number(value),
            "" if low_high is None else f"{number(low_high[0])} to {number(low_high[1])}",
            "" if slices is None else number(slices),
            "" if index is None else f"{number(index)} {unit_of(str(index_column))[1]}",
            unit,
            said["men"] + per_m2 if said else "",
            said["women"] + per_m2 if said else "",
            said.get("source", 0),
        )
        prefix = name.split("_")[0]
        out.setdefault(data()["groups"].get(prefix, data()["groups"][""]), []).append(row)
    return out if len(out) > 1 else {"": next(iter(out.values()), [])}


def sources_of(rows: Mapping[str, Sequence[Row]]) -> list[tuple[int, str]]:
    """The publications that the rows cite."""
    used = sorted({row.source for many in rows.values() for row in many if row.source})
    return [(k, data()["sources"][k - 1]) for k in used]


def headline(measures: CaseMeasures) -> list[Row]:
    """The measures at the top of a page; the first few if the anatomy has none of the usual ones."""
    every = {row.title: row for many in rows_of(measures).values() for row in many}
    chosen = [title_of(column) for column in data()["headline"] if title_of(column) in every]
    return [every[title] for title in (chosen or list(every)[:6])]
