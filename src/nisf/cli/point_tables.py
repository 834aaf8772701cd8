"""Points to query, and the answers at them, as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


TIMES = ("time", "time_ms", "frame")
"""Names of columns that are mistaken for ``t``."""


def read_points(path: Path) -> np.ndarray:
    """World mm and time of each row of a CSV (n, 4); the time is 0 if not given.

    Raises:
        BadFileError: the CSV lacks a column or has one twice, names times otherwise, is empty, or has a row
            with too many cells, or cells that are not finite numbers or that are times outside the cycle.
    """
    import csv

    import numpy as np

    from nisf.data.case_table import refuse_column_twice, refuse_more_cells
    from nisf.errors import MALFORMED, BadFileError

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames = [str(name).strip() for name in reader.fieldnames or ()]
            table = [(reader.line_num, row) for row in reader]
        rows = [[*(row[axis] for axis in "xyz"), row.get("t") or 0] for _, row in table]
        points = np.array(rows, dtype=np.float64)
    except (OSError, csv.Error, *MALFORMED) as error:
        raise BadFileError(
            f"{path}: needs the columns x,y,z (mm) and optionally t, all numbers ({error})"
        ) from error
    refuse_column_twice(path, columns)
    if "t" not in columns and (times := [name for name in columns if name.lower() in ("t", *TIMES)]):
        raise BadFileError(
            f"{path}: the column '{times[0]}' is not read; name it t, and give fractions of the cycle in it"
        )
    for line, row in table:
        refuse_more_cells(row, f"{path}: line {line}")
    if not len(points) or not np.isfinite(points).all():
        raise BadFileError(f"{path}: contains no points, or coordinates that are not finite")
    outside = np.flatnonzero((points[:, 3] < 0) | (points[:, 3] > 1))
    if len(outside):
        raise BadFileError(
            f"{path}: t is {points[outside[0], 3]:g} in line {table[outside[0]][0]}; give a fraction of the "
            "cycle, from 0 to 1"
        )
    return points


def write_answers(
    path: Path,
    points: np.ndarray,
    image: np.ndarray,
    probability: np.ndarray,
    deviation: np.ndarray | None,
    labels: Sequence[str],
) -> None:
    """Write a CSV with one row per point.

    Args:
        path: path of the file.
        points: world mm and time (n, 4).
        image: intensities (n, c).
        probability: probability of each class (n, k).
        deviation: standard deviations of these (n, k), or None to leave these columns out.
        labels: names of the classes.
    """
    import numpy as np

    from nisf.files import write_csv
    from nisf.outputs import file_words

    words = file_words(labels)
    channels = [f"intensity_{c}" for c in range(image.shape[1])] if image.shape[1] > 1 else ["intensity"]
    header = [*"xyzt", *channels, "label", *(f"p_{word}" for word in words)]
    classes = probability
    if deviation is not None:
        header += [f"std_{word}" for word in words]
        classes = np.c_[probability, deviation]
    answers = zip(np.c_[points, image], probability.argmax(1), classes, strict=True)
    write_csv(
        path,
        header,
        ([*(f"{v:.6g}" for v in at), labels[best], *(f"{v:.4f}" for v in row)] for at, best, row in answers),
    )
