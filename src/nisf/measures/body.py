"""Body surface area, to which measures are indexed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nisf.data.case_table import number_in, read_case_table
from nisf.errors import BadFileError, BadSettingError

MIN_CM, MAX_CM, MIN_KG, MAX_KG = 30.0, 250.0, 1.0, 400.0
"""Plausible heights and weights of people."""
MIN_M2, MAX_M2 = 0.1, 4.0
COLUMNS = "'case', and 'bsa_m2' or 'height_cm' and 'weight_kg'"


def body_surface_m2(height_cm: float, weight_kg: float) -> float:
    """Body surface area of a person, m2.

    Source: Mosteller, N Engl J Med 317(17), 1987: square root of height times weight over 3600.
    """
    return float(np.sqrt(height_cm * weight_kg / 3600))


def surface_of(height_cm: float, weight_kg: float, where: str) -> float:
    """Body surface area, m2, from a height and a weight that the user gave.

    Raises:
        BadSettingError: the height or the weight is impossible; the message names ``where``.
    """
    if not (MIN_CM <= height_cm <= MAX_CM and MIN_KG <= weight_kg <= MAX_KG):
        raise BadSettingError(
            f"{where}: {height_cm:g} cm and {weight_kg:g} kg; give height in cm ({MIN_CM:g} to {MAX_CM:g}) "
            f"and weight in kg ({MIN_KG:g} to {MAX_KG:g})"
        )
    return body_surface_m2(height_cm, weight_kg)


def checked_m2(value: float, where: str) -> float:
    """Check a body surface area that the user gave, m2.

    Raises:
        BadSettingError: the area is impossible; the message names ``where``.
    """
    if not MIN_M2 <= value <= MAX_M2:
        raise BadSettingError(f"{where} {value:g}: give body surface area in m2 ({MIN_M2:g} to {MAX_M2:g})")
    return value


def read_bodies(path: Path) -> dict[str, float]:
    """Body surface area in m2 by case, from a CSV file with the columns `COLUMNS`; empty rows are skipped.

    Raises:
        BadFileError: the file is not such a table, or has a cell that is no number.
        BadSettingError: a row is incomplete, or has impossible numbers.
    """
    names, rows = read_case_table(path)
    columns = set(names)
    if not (columns >= {"bsa_m2"} or columns >= {"height_cm", "weight_kg"}):
        raise BadFileError(f"{path}: give the columns {COLUMNS}")
    found = {case: _of_row(cells, f"{path}: {case}") for case, cells in rows.items()}
    return {case: area for case, area in found.items() if area is not None}


def _of_row(cells: Mapping[str, str], where: str) -> float | None:
    """Body surface area of one row, m2; None if its cells are empty."""

    def number(name: str) -> float | None:
        cell = cells.get(name)
        return number_in(cell, f"{where}: {name}") if cell else None

    given, height, weight = (number(name) for name in ("bsa_m2", "height_cm", "weight_kg"))
    if given is not None:
        return checked_m2(given, f"{where}: bsa_m2")
    if height is None and weight is None:
        return None
    if height is None or weight is None:
        known, lacking = ("height_cm", "weight_kg") if weight is None else ("weight_kg", "height_cm")
        raise BadSettingError(f"{where}: has {known} but no {lacking}; fill in both, or leave both empty")
    return surface_of(height, weight, where)
