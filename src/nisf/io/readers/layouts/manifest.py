"""A user's manifest: CSV with the columns case, image[, label][, time][, stack][, phase][, known] and more.

Columns are separated by commas, semicolons or tabs, as in the first line. Paths are relative to the manifest.
Each row is one file: a 3D or 4D image, or one frame of a stack. ``time`` is a fraction of the cycle in
[0, 1); ``phase`` names the row's phase (for a 4D file: ``ED:18;ES:7``, frames from 0); ``known`` lists the
labels that were drawn, ``LV blood pool;LV myocardium``; ``height_cm`` and ``weight_kg`` are for measures
indexed to body surface area, in any row of a case. Label numbers are defined in ``labels.json`` beside
the manifest, ``{"1": "LV blood pool"}``, or by the anatomy's numbers for ``manifest``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.data.case_table import refuse_column_twice, refuse_more_cells
from nisf.errors import BadFileError, NisfError
from nisf.files import parse_json
from nisf.io.readers.listing import (
    Listing,
    StackFiles,
    case_files,
    is_listed,
    match_names,
    numbers_of,
    whole_number,
)

BODY = ("height_cm", "weight_kg")
COLUMNS = ("case", "image", "label", "time", "stack", "phase", "known", *BODY)

Row = dict[str, str]


def recognises(root: Path) -> bool:
    """Whether `root` is a CSV file with the columns case and image, or a folder with it as `manifest.csv`."""
    path = _csv(root)
    if not path.is_file() or path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return _separator(file.readline()) is not None


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only the table and `labels.json` are opened."""
    path = _csv(root)
    listing = Listing()
    rows = _rows(path, listing)
    numbers: Mapping[int, str] = {}
    try:
        numbers = _numbers(path, anatomy, labelled=any(row["label"] for row in rows))
    except NisfError as error:
        listing.labels_unknown[""] = str(error)
    cases: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        cases.setdefault(row["case"], {}).setdefault(row["stack"] or "image", []).append(row)
    for name, groups in cases.items():
        drawn = [label for group in groups.values() for row in group for label in row["known"].split(";")]
        known = {i: label.strip() for i, label in enumerate(drawn) if label.strip()}
        try:
            stacks = [_stack(path, stack, group, anatomy) for stack, group in groups.items()]
        except NisfError as error:
            listing.error(name, str(error))
            continue
        _remark(path, name, groups, stacks, anatomy, listing)
        matched = None
        try:
            matched = match_names(known, anatomy, path).values() if known else None
        except NisfError as error:
            listing.labels_unknown[name] = str(error)
        told = [row for group in groups.values() for row in group]
        body = {key: row[key] for key in BODY for row in told if row[key]}
        listing.cases.append(
            case_files(name, "manifest", stacks, anatomy, numbers, known=matched, attributes=body)
        )
    _warn_of_shared_labels(path, listing)
    return listing


def _remark(
    path: Path,
    name: str,
    groups: Mapping[str, list[Row]],
    stacks: list[StackFiles],
    anatomy: Anatomy,
    listing: Listing,
) -> None:
    """Note frames without times, and warn of phases that the anatomy does not have."""
    several = [group for group in groups.values() if len(group) > 1]
    if untimed := [group for group in several if not any(row["time"] for row in group)]:
        listing.notes.setdefault(
            "times",
            f"{path}: no times are given for the {len(untimed[0])} frames of {name} (and maybe others), "
            "which are taken to be evenly spread over the cycle; give the column time",
        )
    strange = [phase for stack in stacks for phase in stack.phases if phase not in anatomy.phase_names]
    if strange and anatomy.phase_names:
        listing.warn(
            name,
            f"{path}: the phase '{strange[0]}' of {name} is none of {anatomy.name}'s "
            f"({', '.join(anatomy.phase_names)}), so no measure uses it",
        )


def _warn_of_shared_labels(path: Path, listing: Listing) -> None:
    """Warn of label files that belong to several cases, as after copying a row."""
    owners: dict[Path, str] = {}
    for case in listing.cases:
        for label in (label for stack in case.stacks for label in stack.labels if label is not None):
            first = owners.setdefault(label, case.name)
            if first != case.name:
                listing.warn_of_labels(
                    case.name, f"{path}: {label.name} is the label file of {first} and of {case.name}"
                )


def _csv(root: Path) -> Path:
    return root / "manifest.csv" if root.is_dir() else root


def _separator(header: str) -> str | None:
    """The separator of the columns in the first line; None if it is not that of a manifest."""
    for separator in (",", ";", "\t"):
        if {"case", "image"} <= {name.strip(' "\r\n').lower() for name in header.split(separator)}:
            return separator
    return None


def _rows(path: Path, listing: Listing) -> list[Row]:
    """The rows, by the names of `COLUMNS`; other columns are named in a note.

    Raises:
        BadFileError: the table cannot be read, lacks a column or has one twice, or has an incomplete row or
            one with too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = _separator(file.readline()) or ","
            file.seek(0)
            reader = csv.DictReader(file, skipinitialspace=True, delimiter=separator)
            fields = [str(name).strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = fields
            raw = [(reader.line_num, row) for row in reader]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise BadFileError(f"{path}: not a readable CSV table ({error}); save it as CSV in UTF-8") from error
    if not {"case", "image"} <= set(fields):
        raise BadFileError(f"{path}: its columns are {', '.join(fields)}; 'case' and 'image' are needed")
    refuse_column_twice(path, fields)
    if others := [name for name in fields if name and name not in COLUMNS]:
        listing.notes["columns"] = (
            f"{path}: columns that are not used: {', '.join(others)}; the columns of a manifest are "
            f"{', '.join(COLUMNS)}"
        )
    rows = [{column: (row.get(column) or "").strip() for column in COLUMNS} for _, row in raw]
    for row, (line, cells) in zip(rows, raw, strict=True):
        if not row["case"] or not row["image"]:
            raise BadFileError(f"{path}: line {line} has no case or no image; fill it in or delete the row")
        quote = "put text that contains the separator between double quotes"
        refuse_more_cells(cells, f"{path}: line {line}", quote)
    return rows


def _numbers(path: Path, anatomy: Anatomy, *, labelled: bool) -> Mapping[int, str]:
    sidecar = path.parent / "labels.json"
    if sidecar.is_file():
        try:
            told = parse_json(sidecar.read_text(encoding="utf-8-sig"))
            table = {int(n): str(name) for n, name in told.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise BadFileError(f'{sidecar}: not a table like {{"1": "LV blood pool"}} ({error})') from error
        return match_names(table, anatomy, sidecar)
    numbers = numbers_of(anatomy, "manifest")
    if labelled and not numbers:
        # Numbers differ between data sets: a guess could silently name the wrong ventricle.
        raise BadFileError(
            f"{path}: its label numbers are not defined; write {sidecar.name} beside it, "
            f'e.g. {{"1": "{anatomy.labels[-1]}"}}'
        )
    return numbers


def _stack(path: Path, name: str, rows: list[Row], anatomy: Anatomy) -> StackFiles:
    case = rows[0]["case"]
    given = [row["time"] for row in rows]
    times: list[float] | None = None
    if any(given):
        try:
            times = [float(time) for time in given]
        except ValueError as error:
            raise BadFileError(f"{path}: the times of {case} are {given}; give each row a number") from error
        if not all(0 <= time < 1 for time in times):
            raise BadFileError(
                f"{path}: the times of {case} are {given}; fractions of the cycle are in [0, 1)"
            )
        order = sorted(range(len(rows)), key=times.__getitem__)
        rows, times = [rows[i] for i in order], sorted(times)
    if len({row["image"] for row in rows}) < len(rows) or (times and len(set(times)) < len(times)):
        raise BadFileError(
            f"{path}: {case} has a row twice (stack {name}, the same image or time); delete one"
        )
    labels = [row["label"] for row in rows if row["label"]]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise BadFileError(f"{path}: {case} has the label file {twice[0]} in two rows; correct one of them")
    files = [
        (path.parent / row["image"], path.parent / row["label"] if row["label"] else None) for row in rows
    ]
    for file in [file for pair in files for file in pair if file is not None]:
        if not is_listed(file):
            raise BadFileError(
                f"{file}: no such file, but {path.name} lists it; check the path (case {case})"
            )
    return StackFiles(
        name=name,
        images=tuple((image,) for image, _ in files),
        labels=tuple(label for _, label in files),
        times=None if times is None else tuple(times),
        phases=_phases(path, rows, anatomy),
    )


def _phases(path: Path, rows: list[Row], anatomy: Anatomy) -> dict[str, int]:
    """Frames of the named phases, spelt as in the anatomy (case does not matter)."""
    spelled = {phase.lower(): phase for phase in anatomy.phase_names}
    phases: dict[str, int] = {}
    for index, row in enumerate(rows):
        for item in filter(None, (part.strip() for part in row["phase"].split(";"))):
            name, colon, frame = (part.strip() for part in item.partition(":"))
            number = whole_number(frame)
            if colon and (number is None or len(rows) > 1):
                raise BadFileError(
                    f"{path}: phase '{item}' of {row['case']}; write ED for the phase of a row, "
                    "or ED:18 for a frame of a 4D file"
                )
            name = spelled.get(name.lower(), name)
            if name in phases:
                raise BadFileError(
                    f"{path}: {row['case']} has the phase {name} twice; give each phase one frame"
                )
            phases[name] = index if number is None else number
    return phases
