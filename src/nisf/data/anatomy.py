"""Anatomies: which structures there are. Data in the JSON files of `anatomies/`; no code knows an organ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nisf.data.case import BACKGROUND
from nisf.errors import NisfError

FOLDER = Path(__file__).parent / "anatomies"


@dataclass(frozen=True)
class View:
    """A plane through the long axis of a structure.

    Attributes:
        axis: the structure.
        towards: the structure that lies to the second side; its direction and the axis span the plane.
        degrees: by how much the plane is then turned about the axis.
    """

    axis: str
    towards: str
    degrees: float = 0.0


@dataclass(frozen=True)
class Anatomy:
    """The structures of one kind of image.

    Attributes:
        name: e.g. ``cardiac-sax``.
        labels: class names, background first; the order is the numbering of what we write.
        colours: one ``#rrggbb`` per label, for pictures.
        phases: how moments of the cycle are named, e.g. ``{"by": "LV blood pool", "largest": "ED",
            "smallest": "ES"}``; None for static anatomy.
        reorder: whether files count slices from either end (base or apex first).
        turn: whether files may show the images turned by quarters or mirrored.
        numbers: layout name to the label numbers that its files use.
        views: planes by name, e.g. ``4ch``; found from a segmentation by `nisf.subject.views`.
    """

    name: str
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    phases: Mapping[str, str] | None = None
    reorder: bool = False
    turn: bool = False
    numbers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)


def to_json(anatomy: Anatomy) -> dict[str, Any]:
    """The contents of an anatomy's JSON file."""
    return {
        "name": anatomy.name,
        "labels": list(anatomy.labels),
        "colours": list(anatomy.colours),
        "phases": None if anatomy.phases is None else dict(anatomy.phases),
        "reorder": anatomy.reorder,
        "turn": anatomy.turn,
        "numbers": {
            layout: {str(n): label for n, label in names.items()} for layout, names in anatomy.numbers.items()
        },
        "views": {name: asdict(view) for name, view in anatomy.views.items()},
    }


def from_json(data: Any, where: str | Path) -> Anatomy:
    """An anatomy from the contents of its JSON file.

    Raises:
        NisfError: an entry is missing or not of its kind; the sentence names ``where``.
    """
    try:
        anatomy = Anatomy(
            name=data["name"],
            labels=tuple(data["labels"]),
            colours=tuple(data["colours"]),
            phases=data.get("phases"),
            reorder=bool(data.get("reorder", False)),
            turn=bool(data.get("turn", False)),
            numbers={
                layout: {int(number): label for number, label in numbers.items()}
                for layout, numbers in data.get("numbers", {}).items()
            },
            views={
                name: View(view["axis"], view["towards"], float(view.get("degrees", 0)))
                for name, view in data.get("views", {}).items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NisfError(f"{where}: not an anatomy file ({error!r}); see docs/reference.md") from error
    if anatomy.labels[:1] != (BACKGROUND,) or len(anatomy.colours) != len(anatomy.labels):
        raise NisfError(f"{where}: 'labels' must start with '{BACKGROUND}' and 'colours' have one entry each")
    for name, view in anatomy.views.items():
        for label in (view.axis, view.towards):
            if label not in anatomy.labels:
                raise NisfError(f"{where}: view {name} speaks of {label!r}, which is not among the labels")
    return anatomy


def anatomy_names() -> list[str]:
    """The anatomies that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_anatomy(name: str | Path) -> Anatomy:
    """An anatomy by name, or from a JSON file of the user's.

    Raises:
        NisfError: no such name or file, or the file lacks an entry.
    """
    path = FOLDER / f"{name}.json" if str(name) in anatomy_names() else Path(name)
    if not path.is_file():
        known = ", ".join(anatomy_names())
        raise NisfError(f"{name}: no such anatomy; give one of {known}, or a JSON file like theirs")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NisfError(f"{path}: not an anatomy file ({error}); see docs/reference.md") from error
    return from_json(data, path)
