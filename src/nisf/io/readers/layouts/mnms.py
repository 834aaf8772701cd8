"""M&Ms: ``CODE/CODE_sa.nii.gz`` with ``CODE_sa_gt.nii.gz``, and a table of subjects above the folders.

The table (``*opendataset.csv``: External code, Vendor, Centre, ED, ES, ...) counts frames from 0. Only the
ED and ES frames of the 4D label files are drawn. M&Ms-2 has one file per phase instead, ``CODE_SA_ED.nii.gz``
and ``CODE_SA_ED_gt.nii.gz``, and a four-chamber view ``CODE_LA_ED.nii.gz``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from nisf.data.anatomy import Anatomy
from nisf.errors import BadFileError
from nisf.io.readers.layouts.ukb import pair_stack
from nisf.io.readers.listing import (
    CaseFiles,
    Listing,
    StackFiles,
    any_case,
    case_files,
    existing,
    numbers_of,
    subfolders,
    whole_number,
)

_CODES = ("external code", "subject_code")


def recognises(root: Path) -> bool:
    """Whether `root` is (or contains) a folder with images named after it."""
    return any_case(_is_case, root)


def list_cases(root: Path, anatomy: Anatomy) -> Listing:
    """The cases in `root`; only the table of subjects is opened."""
    listing = Listing()
    table = _table(root)
    for folder in [root] if _is_case(root) else subfolders(root):
        with listing.costs(folder):
            if _is_case(folder):
                listing.cases.append(_case(folder, table, anatomy, listing))
            else:
                listing.skipped.append(folder)
    return listing


def _case(folder: Path, table: dict[str, dict[str, str]], anatomy: Anatomy, listing: Listing) -> CaseFiles:
    code = folder.name
    row = table.get(code.lstrip("0") or "0", table.get(code, {}))
    stacks = [stack for view in ("SA", "LA") if (stack := _pair(folder, view, listing))]
    if cine := existing(folder, f"{code}_sa"):
        label = existing(folder, f"{code}_sa_gt")
        if label is None:
            listing.warn_of_labels(code, f"{cine}: no label file {code}_sa_gt.nii.gz beside it")
        found = {key: whole_number(row.get(key.lower(), "")) for key in ("ED", "ES")}
        phases = {key: number for key, number in found.items() if number is not None}
        if len(phases) < 2:
            listing.notes["mnms_table"] = (
                f"ED and ES of {code} (and maybe others) are in no table above the folders "
                "(*opendataset.csv with the columns External code, ED, ES)"
            )
        stacks = [StackFiles("sa", ((cine,),), (label,), phases=phases)]
    attributes = {key: value for key, value in row.items() if value and key not in (*_CODES, "ed", "es", "")}
    return case_files(code, "mnms", stacks, anatomy, numbers_of(anatomy, "mnms"), attributes=attributes)


def _is_case(folder: Path) -> bool:
    return any(existing(folder, f"{folder.name}_{end}") for end in ("sa", "SA_ED", "SA_ES"))


def _pair(folder: Path, view: str, listing: Listing) -> StackFiles | None:
    base = f"{folder.name}_{view}"
    found = {end: path for end in ("ED", "ES") if (path := existing(folder, f"{base}_{end}"))}
    if not found:
        return None
    labels = [existing(folder, f"{base}_{end}_gt") for end in found]
    for path, label in zip(found.values(), labels, strict=True):
        if label is None:
            listing.warn_of_labels(
                folder.name, f"{path}: no label file {path.name.replace('.nii', '_gt.nii')} beside it"
            )
    name = "sa" if view == "SA" else "la_4ch"
    if len(found) == 2:
        return pair_stack(name, list(found.values()), labels, listing)
    end, path = next(iter(found.items()))
    return StackFiles(name, ((path,),), tuple(labels), phases={end: 0})


def _table(root: Path) -> dict[str, dict[str, str]]:
    """Rows of the table of subjects by code, with lower-case column names; empty if there is none."""
    for folder in (root, root.parent, root.parent.parent):
        for path in sorted(folder.glob("*.csv")):
            try:
                with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
                    rows = [
                        {str(key).strip().lower(): str(value).strip() for key, value in row.items()}
                        for row in csv.DictReader(file)
                    ]
            except (OSError, csv.Error) as error:
                if folder != root:
                    continue  # some other table
                raise BadFileError(
                    f"{path}: not a readable CSV table ({error}); correct or remove it"
                ) from error
            for code in _CODES:
                if rows and code in rows[0]:
                    return {row[code].lstrip("0") or "0": row for row in rows}
    return {}
