"""The output of an experiment: a CSV, a figure as PDF and PNG, and its section of the summary page."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nisf.files import read_json, replacing, write_csv, write_json
from nisf.paper.methods import (
    FROZEN,
    OURS,
    PAPER,
    REFERENCE_SHAPE,
    SECOND,
    UNET,
    UNET_NEAREST,
    UNET_SHAPE,
    UNFROZEN,
)
from nisf.picture import STYLE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, grey and brown: distinguishable by the colour-blind; markers do not need colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00", "#999999", "#8C510A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
METHODS = (FROZEN, SECOND, OURS, UNFROZEN, UNET_NEAREST, UNET_SHAPE, UNET, PAPER, REFERENCE_SHAPE)
SUMMARY = "summary.html"


def look(name: str, among: Sequence[str] = METHODS) -> dict[str, Any]:
    """Colour and marker of a method, or of another item in a list."""
    place = list(among).index(name) % len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place]}


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    Attributes:
        name: name of its files.
        title: heading on the summary page.
        line: the finding, in a sentence or two.
        rows: rows of its CSV.
        table: header and rows of a small table for the summary page; may be empty.
    """

    name: str
    title: str
    line: str
    rows: Sequence[dict[str, Any]]
    table: Sequence[Sequence[str]] = ()


def draw(width: float, height: float, make: Callable[[Figure], None]) -> Figure:
    """A figure in the common style; sizes in inches."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
        figure = new_figure(width, height)
        make(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # else each file is laid out anew
    return figure


def publish(folder: Path, result: Result, figure: Figure | None) -> None:
    """Write an experiment's files, from which `write_summary` makes the summary page."""
    import matplotlib as mpl

    if result.rows:
        columns = list(dict.fromkeys(key for row in result.rows for key in row))
        rows = ([row.get(column, "") for column in columns] for row in result.rows)
        write_csv(folder / f"{result.name}.csv", columns, rows)
    if figure is not None:
        with mpl.rc_context(STYLE):  # ty: ignore[invalid-argument-type]
            save_figure(figure, folder / f"{result.name}.pdf")
            save_figure(figure, folder / f"{result.name}.png")
    kept = {"title": result.title, "line": result.line, "table": [list(row) for row in result.table]}
    write_json(folder / f"{result.name}.json", kept)


def write_summary(folder: Path, names: Sequence[str]) -> Path:
    """Write one page with all experiments that have been run so far.

    Args:
        folder: folder of the results.
        names: names of the experiments, in the order of the page.
    """
    parts = []
    for name in names:
        if not (folder / f"{name}.json").is_file():
            continue
        kept = read_json(folder / f"{name}.json")
        parts.append(f"<h2>{html.escape(kept['title'])}</h2>\n<p>{html.escape(kept['line'])}</p>")
        if kept["table"]:
            head, *lines = kept["table"]
            cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
            )
            parts.append(f"<table><tr>{cells}</tr>{body}</table>")
        links = [
            f'<a href="{path.name}">{path.suffix[1:].upper()}</a>'
            for path in (folder / f"{name}.csv", folder / f"{name}.pdf")
            if path.is_file()
        ]
        if (folder / f"{name}.png").is_file():
            parts.append(f'<p><img src="{name}.png" alt="{html.escape(kept["title"])}"></p>')
        parts.append(f"<p>{' '.join(links)}</p>")
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>nisf paper</title>\n'
        "<style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}"
        "tr{border-bottom:1px solid #ccc}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>\n"
        "<h1>The paper's experiments</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )
    with replacing(folder / SUMMARY) as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / SUMMARY
