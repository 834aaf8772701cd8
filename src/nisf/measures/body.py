"""Body surface area, to which measures are indexed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

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
        BadFileError: the file cannot be read, or lacks a column.
        BadSettingError: a row has impossible numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = set(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFileError(f"{path}: cannot be read as a table of bodies ({error})") from error
    if "case" not in columns or not (columns >= {"bsa_m2"} or columns >= {"height_cm", "weight_kg"}):
        raise BadFileError(f"{path}: give the columns {COLUMNS}")
    out = {}
    for row in rows:
        found = _of_row(row, f"{path}: {row['case']}")
        if found is not None:
            out[str(row["case"])] = found
    return out


def _of_row(row: Mapping[str, str | None], where: str) -> float | None:
    """Body surface area of one row, m2; None if its cells are empty."""

    def number(name: str) -> float | None:
        text = (row.get(name) or "").strip()
        if not text:
            return None
        try:
            return float(text)
        except ValueError as error:
            raise BadSettingError(f"{where}: {name} is {text[:40]!r}; give a number") from error

    given, height, weight = (number(name) for name in ("bsa_m2", "height_cm", "weight_kg"))
    if given is not None:
        return checked_m2(given, f"{where}: bsa_m2")
    return None if height is None or weight is None else surface_of(height, weight, where)
