"""The page of a cohort: a table of all cases, what stands out, and agreement with references."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nisf import __version__
from nisf.errors import MALFORMED, BadFileError
from nisf.measures.case import CaseMeasures
from nisf.report.case_page import environment
from nisf.report.plots import BlandAltman, bland_altman
from nisf.report.words import LIGHTS, data, number, title_of, unit_of

FEWEST = 8
"""Cases below which nothing is called an outlier."""
FAR = 3.5
"""Median absolute deviations, scaled to standard deviations (Iglewicz and Hoaglin 1993)."""
MOST_COLUMNS = 8


@dataclass(frozen=True)
class Cell:
    """A value, as a number to sort by, as text, and whether it stands out."""

    sort: float | None
    text: str
    far: bool = False


@dataclass(frozen=True)
class CohortRow:
    """One case: its title, page, light, predicted Dice, cells, and what is to be said."""

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
    """Everything on the cohort's page."""

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
    """The page of some cases.

    Args:
        cases: title, name of the page's file, measures.
        references: case's name to column to value; no agreement is shown if None.
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
        [text.replace(name, title) for text in said],
    )


def outliers(values: Sequence[float | None]) -> list[bool]:
    """Which values are further from the median than `FAR` robust standard deviations; none of a few."""
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if len(known) < FEWEST:
        return [False] * len(values)
    middle = np.median(known)
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    return [v is not None and spread > 0 and bool(abs(v - middle) > FAR * spread) for v in values]


def agreement_of(
    cases: Sequence[tuple[str, str, CaseMeasures | None]], references: Mapping[str, Mapping[str, float]]
) -> list[BlandAltman]:
    """Bland-Altman plots of each measure that at least two cases have a reference of."""
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
    """Reference values: a CSV with the column ``case`` and columns named like those of measures.csv.

    Raises:
        BadFileError: there is no such file, no column ``case``, or something else than numbers.
    """
    out: dict[str, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                case = row.pop("case")
                out[case] = {c: float(v) for c, v in row.items() if c and v and unit_of(c)[1]}
    except (OSError, csv.Error, *MALFORMED) as error:
        raise BadFileError(
            f"{path}: needs the column case and columns of numbers named as in measures.csv ({error!r})"
        ) from error
    return out


def as_html(page: CohortPage) -> str:
    """The page."""
    return environment().get_template("cohort.html").render(page=page)
