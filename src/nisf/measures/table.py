"""The files of measures: one JSON file per case, and tables of many cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nisf.errors import MALFORMED, BadFileError
from nisf.files import read_json, replacing, write_csv, write_json
from nisf.measures.case import CaseMeasures
from nisf.measures.curve import VolumeCurve
from nisf.measures.wall import Wall
from nisf.outputs import file_stem

FORMAT = 1
ENDING = ".measures.json"
TABLE, EVERYTHING, CURVES, WALLS, PARQUET = (
    "measures.csv",
    "measures.json",
    "curves.csv",
    "wall.csv",
    "measures.parquet",
)
PART = "measures"
"""The part of a case's or folder's record that describes measures."""
ABOUT_CONVENTIONS = {
    "field": "integration of the continuous field, from half a slice spacing before the first measured slice "
    "to half a slice spacing after the last",
    "slices": "summation of slices: voxels on the measured grid times their volume, including gaps between "
    "slices; columns with _slices_",
}
QUALITY = ("quality", "predicted_dice", "reasons", "notes")
"""The last columns of the table."""
CURVE_ENDS = ("ml", "slices_ml", "low_ml", "high_ml")


def to_json(measures: CaseMeasures) -> dict[str, Any]:
    """Contents of a case's file."""
    curve, wall = measures.curve, measures.wall
    return {
        "format": FORMAT,
        "case": measures.case,
        "values": {name: _number(value) for name, value in measures.values.items()},
        "intervals": {name: [float(low), float(high)] for name, (low, high) in measures.intervals.items()},
        "phases": {name: round(float(t), 6) for name, t in measures.phases.items()},
        "curve": None
        if curve is None
        else {
            "times": [round(float(t), 6) for t in curve.times],
            "cycle_ms": curve.cycle_ms,
            "ml": {name: _rounded(ml) for name, ml in curve.ml.items()},
            "slices_ml": {name: _rounded(ml) for name, ml in curve.slices_ml.items()},
            "band_ml": {name: _rounded(ml) for name, ml in measures.band_ml.items()},
        },
        "wall": None
        if wall is None
        else {
            "phase": wall.phase,
            "to": wall.to,
            "segments": list(wall.names),
            "thickness_mm": {name: _rounded(mm) for name, mm in wall.thickness_mm.items()},
        },
        "body_m2": measures.body_m2,
        "quality": measures.quality,
        "predicted_dice": measures.predicted_dice,
        "reasons": list(measures.reasons),
        "notes": list(measures.notes),
    }


def from_json(data: Any) -> CaseMeasures:
    """Read the measures from the contents of a case's file.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: an entry is missing or of the wrong type.
    """
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']!r}")
    curve, wall = data["curve"], data["wall"]
    return CaseMeasures(
        case=str(data["case"]),
        values={str(name): _read(value) for name, value in data["values"].items()},
        intervals={str(name): (float(low), float(high)) for name, (low, high) in data["intervals"].items()},
        phases={str(name): float(t) for name, t in data["phases"].items()},
        curve=None
        if curve is None
        else VolumeCurve(
            np.array(curve["times"], dtype=np.float64),
            {name: _array(ml) for name, ml in curve["ml"].items()},
            {name: _array(ml) for name, ml in curve["slices_ml"].items()},
            _read(curve["cycle_ms"]),
        ),
        # Files from before the band was introduced have none.
        band_ml={} if curve is None else {n: _array(ml) for n, ml in curve.get("band_ml", {}).items()},
        wall=None
        if wall is None
        else Wall(
            {name: _array(mm) for name, mm in wall["thickness_mm"].items()},
            str(wall["phase"]),
            str(wall["to"]),
            tuple(map(str, wall["segments"])),
        ),
        body_m2=_read(data["body_m2"]),
        quality=None if data["quality"] is None else str(data["quality"]),
        predicted_dice=_read(data["predicted_dice"]),
        reasons=tuple(map(str, data["reasons"])),
        notes=tuple(map(str, data["notes"])),
    )


def case_path(folder: str | Path, case: str) -> Path:
    """Path of a case's measures."""
    return Path(folder) / f"{file_stem(case)}{ENDING}"


def write_case(folder: str | Path, measures: CaseMeasures) -> Path:
    """Write the file of one case atomically; the tables are not changed."""
    path = case_path(folder, measures.case)
    write_json(path, to_json(measures))
    return path


def read_case(path: str | Path) -> CaseMeasures:
    """Read the measures of one case.

    Raises:
        BadFileError: the file is missing, damaged or of another version.
    """
    data = read_json(path)
    try:
        return from_json(data)
    except MALFORMED as error:
        raise BadFileError(
            f"{path}: not measures written by this nisf ({error!r}); delete it and measure again"
        ) from error


def rows_of(cases: Sequence[CaseMeasures]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table: case, measures, their intervals if there are any, quality, notes."""
    names = list(dict.fromkeys(name for case in cases for name in case.values))
    with_interval = {name for case in cases for name in case.intervals}
    columns = ["case"]
    for name in names:
        columns += [name, f"{name}_low", f"{name}_high"] if name in with_interval else [name]
    rows = []
    for case in cases:
        row: dict[str, Any] = {"case": case.case, **case.values}
        for name, (low, high) in case.intervals.items():
            row |= {f"{name}_low": low, f"{name}_high": high}
        row |= {"quality": case.quality, "predicted_dice": case.predicted_dice}
        rows.append(row | {"reasons": "; ".join(case.reasons), "notes": "; ".join(case.notes)})
    return [*columns, *QUALITY], rows


def write_tables(folder: Path, cases: Sequence[CaseMeasures], *, parquet: bool = False) -> list[Path]:
    """Write the tables of cases: measures, everything as JSON, curves, and walls if there are any."""
    columns, rows = rows_of(cases)
    write_csv(folder / TABLE, columns, ([_text(row.get(name)) for name in columns] for row in rows))
    everything = {
        "format": FORMAT,
        "conventions": ABOUT_CONVENTIONS,
        "cases": [to_json(case) for case in cases],
    }
    write_json(folder / EVERYTHING, everything)
    write_csv(
        folder / CURVES,
        [*("case", "time", "time_ms", "structure"), *(f"volume_{end}" for end in CURVE_ENDS)],
        (row for case in cases for row in _curve_rows(case)),
    )
    written = [folder / TABLE, folder / EVERYTHING, folder / CURVES]
    walls = [case for case in cases if case.wall is not None]
    if walls:
        header = ["case", "segment", "name", "phase", "thickness_mm", "thickening_percent"]
        write_csv(folder / WALLS, header, (row for case in walls for row in _wall_rows(case)))
        written.append(folder / WALLS)
    if parquet:
        written.append(write_parquet(folder / PARQUET, columns, rows))
    return written


def write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the table as Parquet.

    Raises:
        BadFileError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadFileError(
            f"{path}: Parquet needs pyarrow; install it with pip install nisf[parquet]"
        ) from error
    words = {"case", "quality", "reasons", "notes"}
    kinds = {name: pyarrow.string() if name in words else pyarrow.float64() for name in columns}
    data = {name: pyarrow.array([row.get(name) for row in rows], kinds[name]) for name in columns}
    with replacing(path) as temporary:
        parquet.write_table(pyarrow.table(data), temporary)
    return path


def _curve_rows(case: CaseMeasures) -> Iterable[list[str]]:
    curve = case.curve
    if curve is None:
        return
    for name, ml in curve.ml.items():
        slices = curve.slices_ml.get(name)
        for t, time_ in enumerate(curve.times):
            milliseconds = "" if curve.cycle_ms is None else f"{time_ * curve.cycle_ms:.1f}"
            summed = "" if slices is None else f"{slices[t]:.3f}"
            row = [case.case, f"{time_:.4f}", milliseconds, name, f"{ml[t]:.3f}", summed]
            yield [*row, *(("", "") if name not in case.band_ml else _ends(ml[t], case.band_ml[name][t]))]


def _ends(value: float, half: float) -> tuple[str, str]:
    """Lower and upper end of a volume's band; volumes are never negative."""
    return ("", "") if math.isnan(half) else (f"{max(value - half, 0.0):.3f}", f"{value + half:.3f}")


def _wall_rows(case: CaseMeasures) -> Iterable[list[str]]:
    assert case.wall is not None
    thickening = case.wall.thickening_percent
    for phase, thickness in case.wall.thickness_mm.items():
        for k, name in enumerate(case.wall.names):
            more = thickening[k] if phase == case.wall.to else None
            yield [case.case, str(k + 1), name, phase, _text(thickness[k]), _text(more)]


def _text(value: Any) -> str:
    """Text of a cell: numbers to five digits, empty if unknown."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 5)


def _rounded(values: np.ndarray) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _read(value: Any) -> float | None:
    return None if value is None else float(value)


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else float(value) for value in values])
