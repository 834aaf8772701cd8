"""Tables of the documents, made from the numbers that benchmarks wrote.

    python benchmarks/tables.py headline|generalisation|structures|alignment|intervals|calibration

Reads ``docs/results``: ``cardiac-sax-80.json`` and ``cardiac-sax.json`` are written by
``benchmarks/generalisation.py --json``, ``uncertainty.json`` by ``benchmarks/fit_uncertainty.py --json``;
``baselines.json`` names its own commands. ``python3 dev.py docs`` puts the output between the markers of
that name in the documents. Imports only the standard library.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
Numbers = dict[str, Any]


def numbers(name: str) -> Numbers:
    """The contents of a file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score(value: float | None) -> str:
    """A Dice as the documents write it, or an empty cell."""
    return "" if value is None else f"{value:.3f}"


def per_cent(share: float) -> str:
    """A share as a percentage, with its sign."""
    return f"{100 * share:+.1f} %"


def headline() -> str:
    """The three numbers of the README."""
    found, base = numbers("cardiac-sax-80")["parts"], numbers("baselines")
    given, hidden, abroad = found["given"], found["every-2nd"], found["mnms-a"]
    rows = [
        (
            f"Every slice given ({given['cases']} patients of ACDC that the model was not trained on)",
            f"**{score(given['dice'])}**",
            f"{score(base['unet']['given'])}, a U-Net of the same size and training set",
        ),
        (
            "Slices the model never saw (the same patients, every 2nd slice hidden)",
            f"**{score(hidden['dice'])}**",
            f"{score(base['reference']['every-2nd'])}, the experts' own contours interpolated",
        ),
        (
            f"Another hospital and scanner ({abroad['cases']} patients of M&Ms, vendor A)",
            f"**{score(abroad['dice'])}**",
            "",
        ),
    ]
    return table(("Mean Dice of LV, myocardium and RV", "nisf", "for comparison"), rows)


def generalisation() -> str:
    """Scores on the models' own data set, between slices, on other scanners, and on the other anatomy."""
    found, default = numbers("cardiac-sax-80")["parts"], numbers("cardiac-sax")["parts"]
    base = numbers("baselines")
    names = {
        "given": "ACDC, every slice given",
        "every-2nd": "ACDC, every 2nd slice hidden",
        "basal": "ACDC, basal end hidden",
        "apical": "ACDC, apical end hidden",
        "mnms-a": "M&Ms vendor A",
        "sunnybrook": "Sunnybrook cines, LV",
        "hippocampus": "hippocampus",
    }
    rows = [
        (
            f"{name} ({found[part]['cases']})",
            f"**{score(found[part]['dice'])}**",
            score(found[part]["worst"]),
            f"{found[part]['hd95_mm']:.1f}" if "hd95_mm" in found[part] else "",
            score(default.get(part, {}).get("dice")),
            score(base["unet"].get(part)),
            score(base["reference"].get(part)),
            f"{found[part]['seconds']:.1f}",
        )
        for part, name in names.items()
    ]
    head = (
        "data (cases)",
        "mean Dice",
        "worst case",
        "HD95 mm",
        "`cardiac-sax`",
        "U-Net",
        "experts' contours",
        "s per volume",
    )
    cines = found["sunnybrook"]
    volume = (
        f"LV volumes of the Sunnybrook cines are off by {100 * cines['volume_error']:.1f} % on average, "
        f"at most {per_cent(cines['largest_volume_error'])}; LV Dice there is {score(cines['dice_volume'])} "
        "if slices without a contour count as background."
    )
    return f"{table(head, rows)}\n\n{textwrap.fill(volume, 114)}"


def structures() -> str:
    """Dice of each structure and phase, mean and standard deviation over patients."""
    found = numbers("cardiac-sax-80")["parts"]
    names = {"given": "every slice given", "every-2nd": "hidden slices", "mnms-a": "M&Ms vendor A"}
    cells = {
        part: {
            f"{row['structure']} {row['phase']}": f"{row['dice']:.3f} ({row['sd']:.3f})"
            for row in found[part]["structures"]
        }
        for part in names
    }
    first = sorted(cells["given"])
    rows = [(name, *(cells[part][column] for column in first)) for part, name in names.items()]
    return table(("Dice (SD)", *first), rows)


def alignment() -> str:
    """Errors of the estimated breath-hold shifts, and Dice with and without alignment."""
    names = {"long-axis-phantoms": "phantoms", "long-axis-acdc": "ACDC, long-axis planes rendered"}
    rows = []
    for file, name in names.items():
        found = numbers(file)
        shifts, errors = found["shifts, mm"], found["errors of the found shifts, mm"]
        within, dice = errors["within 0.7 mm"], found["mean Dice"]
        rows.append(
            (
                f"{name} ({found['cases']})",
                *(f"{row['mean']:.2f}; {row['p95']:.2f}; {row['largest']:.2f}" for row in (shifts, errors)),
                f"{100 * within:.0f} %",
                score(dice["stack"]),
                score(dice["in line"]),
            )
        )
    head = ("shifts, mm: mean; 95th percentile; largest", "errors left", "below 0.7 mm")
    return table(("", *head, "Dice before", "Dice aligned"), rows)


def intervals() -> str:
    """Errors of measures and coverage of their intervals, on the model's own data set and on others."""
    found = numbers("uncertainty")
    units = {"ml": "mL", "percent": "%", "g": "g"}
    names = {"lv": "LV", "rv": "RV", "edv": "EDV", "esv": "ESV", "sv": "SV", "ef": "EF", "mass": "mass"}
    elsewhere = {
        part: {row["measure"]: row for row in found.get(part, [])} for part in ("mnms-a", "sunnybrook")
    }
    rows = []
    for row in found["intervals"]:
        side, quantity, unit = row["measure"].split("_")
        cells = [f"{names[side]} {names[quantity]}, {units[unit]}"]
        cells += [f"{row['mean_error']:+.1f} ({row['sd_error']:.1f})", f"{100 * row['coverage']:.0f} %"]
        cells += [f"{row['median_half_width']:.1f}", f"{row['half_width_all_cases']:.1f}"]
        other = elsewhere["mnms-a"][row["measure"]]
        cells += [f"{other['mean_error']:+.1f} ({other['sd_error']:.1f})", f"{100 * other['coverage']:.0f} %"]
        cells.append(f"{other['median_half_width']:.1f}")
        third = elsewhere["sunnybrook"].get(row["measure"])
        cells.append("" if third is None else f"{third['coverage'] * third['cases']:.0f} of {third['cases']}")
        rows.append(cells)
    head = ("ACDC: error (SD)", "contained", "half width", "as shipped")
    head += ("M&Ms: error (SD)", "contained", "half width", "Sunnybrook: contained")
    return table(("", *head), rows)


def calibration() -> str:
    """Expected calibration error within 10 mm of a border, before and after calibration."""
    rows = numbers("uncertainty")["calibration"]
    error = {(row["place"], row["slices"], row["when"]): row["ece"] for row in rows}
    places = {
        "all": "all",
        "border": "within 2 mm of a predicted border",
        "inside": "further away",
        "ends": "slices with a structure's first or last section, and beyond",
    }
    columns = [(slices, when) for slices in ("given", "hidden") for when in ("before", "after")]
    cells = [
        (name, *(f"{error[place, *column]:.4f}" for column in columns)) for place, name in places.items()
    ]
    return table(("", *(f"{slices}: {when}" for slices, when in columns)), cells)


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "generalisation": generalisation,
    "structures": structures,
    "alignment": alignment,
    "intervals": intervals,
    "calibration": calibration,
}


def main(arguments: list[str]) -> int:
    """Print one of the tables."""
    if len(arguments) != 1 or arguments[0] not in TABLES:
        print(__doc__, file=sys.stderr)
        return 2
    print(TABLES[arguments[0]]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
