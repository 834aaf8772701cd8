"""The page of a cohort: a table of all cases, outliers, and agreement with reference values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nisf import __version__
from nisf.data.case_table import number_in, read_case_table
from nisf.data.wording import such
from nisf.errors import BadFileError
from nisf.measures.case import CaseMeasures
from nisf.measures.table import QUALITY
from nisf.report.case_page import environment
from nisf.report.plots import BlandAltman, bland_altman
from nisf.report.words import LIGHTS, data, number, title_of, unit_of, without_name

FEWEST = 8
"""Minimum number of cases for calling any an outlier."""
FAR = 3.5
"""Limit in median absolute deviations, scaled to standard deviations (Iglewicz and Hoaglin 1993)."""
MOST_COLUMNS = 8


@dataclass(frozen=True)
class Cell:
    """A value: number to sort by, text, and whether it is an outlier."""

    sort: float | None
    text: str
    far: bool = False


@dataclass(frozen=True)
class CohortRow:
    """One case: title, page, light, predicted Dice, cells, and notes."""

    title: str
    page: str
    light: str
    shape: str
    meaning: str
    dice: float | None
    cells: list[Cell]
    said: list[str]


@dataclass(frozen=True)
class CohortPage:
    """Contents of the cohort's page."""

    columns: list[tuple[str, str]]
    rows: list[CohortRow]
    lights: Mapping[str, int]
    agreement: list[BlandAltman]
    outliers: int
    version: str = field(default=__version__)


def cohort_page(
    cases: Sequence[tuple[str, str, CaseMeasures | None]],
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> CohortPage:
    """Make the page of some cases.

    Args:
        cases: title, file name of the page, measures.
        references: reference value by case and column; without them, no agreement is shown.
    """
    measured = [m for _, _, m in cases if m is not None]
    columns = [c for c in data()["headline"] if any(m.values.get(c) is not None for m in measured)]
    if not columns:
        columns = list(dict.fromkeys(c for m in measured for c in m.values if "_slices_" not in c))
    columns = columns[:MOST_COLUMNS]
    far = {column: outliers([m.values.get(column) for m in measured]) for column in columns}
    rows, place = [], 0
    for title, page, measures in cases:
        cells = []
        for column in columns:
            value = None if measures is None else measures.values.get(column)
            cells.append(Cell(value, number(value), measures is not None and far[column][place]))
        place += measures is not None
        rows.append(_row(title, page, measures, cells))
    lights = {light: sum(row.light == light for row in rows) for light in LIGHTS}
    return CohortPage(
        [(title_of(column), unit_of(column)[1]) for column in columns],
        rows,
        {light: count for light, count in lights.items() if count},
        agreement_of(cases, references or {}),
        sum(any(cell.far for cell in row.cells) for row in rows),
    )


def _row(title: str, page: str, measures: CaseMeasures | None, cells: list[Cell]) -> CohortRow:
    light = measures.quality if measures is not None and measures.quality in LIGHTS else ""
    meaning, shape = LIGHTS.get(str(light), ("", ""))
    said = [] if measures is None else [*measures.reasons, *measures.notes]
    dice = None if measures is None else measures.predicted_dice
    name = title if measures is None else measures.case
    return CohortRow(
        title,
        page,
        str(light or ""),
        shape,
        meaning,
        dice,
        cells,
        [without_name(text, name, title) for text in said],
    )


def outliers(values: Sequence[float | None]) -> list[bool]:
    """Which values are further from the median than `FAR` robust standard deviations; none if few cases."""
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if len(known) < FEWEST:
        return [False] * len(values)
    middle = np.median(known)
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    return [v is not None and spread > 0 and bool(abs(v - middle) > FAR * spread) for v in values]


def agreement_of(
    cases: Sequence[tuple[str, str, CaseMeasures | None]], references: Mapping[str, Mapping[str, float]]
) -> list[BlandAltman]:
    """Bland-Altman plots of all measures with reference values in at least two cases."""
    out = []
    for column in dict.fromkeys(column for row in references.values() for column in row):
        rows = [
            (title, float(value), references[m.case][column])
            for title, _, m in cases
            if m is not None
            and column in references.get(m.case, {})
            and (value := m.values.get(column)) is not None
        ]
        if len(rows) > 1:
            out.append(bland_altman(title_of(column), unit_of(column)[1], rows))
    return out


def read_references(path: Path) -> dict[str, dict[str, float]]:
    """Read reference values: a CSV with the column ``case`` and columns named as in measures.csv.

    Cells that are empty or not a number (nan), and columns of remarks, are left out.

    Raises:
        BadFileError: the file is not such a table, or a cell is no finite number.
    """
    columns, rows = read_case_table(path)
    # Such as the columns of a measures.csv that are not compared.
    bounds = {f"{name}_{end}" for name in columns for end in ("low", "high")}
    columns = [name for name in columns if name not in bounds and name not in QUALITY]
    out: dict[str, dict[str, float]] = {case: {} for case in rows}
    for case, cells in rows.items():
        for column in columns:
            value = _value(cells[column], column, f"{path}: {case}: {column}")
            if value is not None:
                out[case][column] = value
    return out


def _value(cell: str, column: str, where: str) -> float | None:
    """The number in a cell; None if it has none, which may be a remark only in a column without a unit."""
    if not cell:
        return None
    try:
        value = number_in(cell, where)
    except BadFileError:
        if unit_of(column)[1]:
            raise
        return None
    if math.isinf(value):
        raise BadFileError(f"{where} is {cell}; give a finite number, or leave the cell empty")
    return None if math.isnan(value) else value


def unmatched(
    references: Mapping[str, Mapping[str, float]], cases: Sequence[tuple[str, str, CaseMeasures | None]]
) -> list[str]:
    """Sentences about the cases and columns of reference values that are compared with nothing."""
    measured = [m for _, _, m in cases if m is not None]
    names, columns = {m.case for m in measured}, {column for m in measured for column in m.values}
    strangers = [case for case in references if case not in names]
    strange = list(dict.fromkeys(c for row in references.values() for c in row if c not in columns))
    out = []
    if strangers:
        count = such(len(strangers), "case")
        out.append(f"references: {strangers[0]} is not one of the measured cases{count}")
    if strange:
        count = such(len(strange), "column")
        out.append(
            f"references: column {strange[0]} is not a measure of these cases{count}; name columns as in "
            "measures.csv"
        )
    if not agreement_of(cases, references):
        out.append("references: no measure has values of at least two cases, so no agreement is shown")
    return out


def as_html(page: CohortPage) -> str:
    """Render the page."""
    return environment().get_template("cohort.html").render(page=page)
