"""Tables that a user gives: CSV files with one row per case."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nisf.errors import BadFileError


def read_case_table(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Read a CSV file with the column ``case``.

    Returns:
        The other columns, and by case their cells, without spaces around them; "" if empty.

    Raises:
        BadFileError: the file cannot be read, is not separated by commas, lacks the column ``case``, has a
            column or a case twice, or a row without a case or with too many cells.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFileError(f"{path}: cannot be read as a table ({error}); save it as CSV in UTF-8") from error
    if "case" not in columns:
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if any(separator in name for name in columns):
                raise BadFileError(f"{path}: its columns are separated by {word}; save it with commas")
        raise BadFileError(f"{path}: has no column 'case'; name the column with the cases' names that")
    refuse_column_twice(path, columns)
    out: dict[str, dict[str, str]] = {}
    for line, row in rows:
        cells = {name: (row[name] or "").strip() for name in columns}
        case, where = cells.pop("case"), f"{path}: line {line}"
        refuse_more_cells(row, where)
        if not case and any(cells.values()):
            raise BadFileError(f"{where} names no case; fill it in, or delete the row")
        if case in out:
            raise BadFileError(f"{where} is a second one for {case}; delete one of them")
        if case:
            out[case] = cells
    return [name for name in columns if name != "case"], out


def refuse_column_twice(path: Path, columns: Sequence[str]) -> None:
    """Check that no column of a table is there twice; columns without a name may be.

    Raises:
        BadFileError: one is.
    """
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise BadFileError(f"{path}: has two columns '{twice[0]}'; delete one of them")


def refuse_more_cells(
    row: Mapping[Any, Any], where: str, advice: str = "write decimals with a point"
) -> None:
    """Check that a row of `csv.DictReader` has no cells beyond its columns; empty ones may be there.

    Raises:
        BadFileError: it has; the message names ``where`` and ends with ``advice``.
    """
    # Further cells are listed under None.
    if any(str(cell).strip() for cell in row.get(None) or ()):
        raise BadFileError(f"{where} has more cells than there are columns; {advice}")


def number_in(cell: str, where: str) -> float:
    """The number in a cell.

    Raises:
        BadFileError: it is none; the message names ``where``.
    """
    try:
        return float(cell)
    except ValueError as error:
        hint = " with a decimal point" if "," in cell else ""
        raise BadFileError(f"{where} is {cell[:40]!r}; give a number{hint}") from error
