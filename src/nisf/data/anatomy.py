"""Anatomies: the structures of an organ, declared in the JSON files of `anatomies/`; the code is
independent of any organ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nisf.data.case import BACKGROUND, MOST_CLASSES, UNKNOWN_NAME
from nisf.data.measure_rules import (
    MeasureRule,
    WallRule,
    default_rules,
    rules_from_json,
    rules_to_json,
    unknown_names,
    wall_from_json,
    wall_to_json,
)
from nisf.data.wording import counted
from nisf.errors import MALFORMED, BadFileError, BadSettingError
from nisf.files import read_json

T = TypeVar("T")
FOLDER = Path(__file__).parent / "anatomies"


@dataclass(frozen=True)
class View:
    """A plane through the long axis of a structure.

    Attributes:
        axis: the structure.
        towards: a second structure; the direction towards it and the axis span the plane.
        degrees: rotation of that plane about the axis.
    """

    axis: str
    towards: str
    degrees: float = 0.0


@dataclass(frozen=True)
class Code:
    """A structure's SNOMED CT code, for files that other programs read.

    The bundled codes are those of pydicom's table of SNOMED CT (``pydicom.sr.codedict.codes.SCT``).

    Attributes:
        value: e.g. ``87878005``.
        meaning: e.g. ``Left Ventricle``.
        category: code and meaning of its category.
    """

    value: str
    meaning: str
    category: tuple[str, str] = ("123037004", "Anatomical Structure")


@dataclass(frozen=True, repr=False)
class Anatomy:
    """The structures of one kind of image.

    Attributes:
        name: e.g. ``cardiac-sax``.
        labels: class names, background first; the index is the label number in output files.
        colours: one ``#rrggbb`` per label, for pictures.
        phases: how phases of the cycle are named, e.g. ``{"by": "LV blood pool", "largest": "ED",
            "smallest": "ES"}``; None for static anatomy.
        reorder: whether files may list the slices in either order (base or apex first).
        turn: whether files may store images rotated by multiples of 90 degrees or mirrored.
        orientation: patient directions of the array axes of training images, e.g. ``RAS``. Files with an
            orientation are rearranged to match. None uses files as they are stored.
        numbers: label numbers in the files of each layout, by layout name.
        views: planes by name, e.g. ``4ch``; found from a segmentation by `nisf.subject.views`.
        codes: SNOMED CT codes by label name; empty in priors saved by older versions.
        unions: label names of combined structures, by the name of the union; empty in older priors.
        declared: the declared measures (`nisf.measures`); empty in older priors; see `measures`.
        wall: the wall whose thickness is measured, or None.
    """

    name: str
    labels: tuple[str, ...]
    colours: tuple[str, ...]
    phases: Mapping[str, str] | None = None
    reorder: bool = False
    turn: bool = False
    numbers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    orientation: str | None = None
    codes: Mapping[str, Code] = field(default_factory=dict)
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    declared: tuple[MeasureRule, ...] = ()
    wall: WallRule | None = None

    def spelled(self) -> dict[str, str]:
        """Its labels by their names in lower case, to find them however a file spells them."""
        return {label.lower(): label for label in self.labels}

    @property
    def phase_names(self) -> tuple[str, ...]:
        """Names of the phases with the largest and the smallest volume; empty for a static anatomy."""
        rule = self.phases or {}
        return tuple(rule[size] for size in ("largest", "smallest") if size in rule)

    @property
    def measures(self) -> tuple[MeasureRule, ...]:
        """The declared measures, or by default volume, surface and extent of each structure."""
        return self.declared or default_rules(self.labels, self.phase_names)

    def __repr__(self) -> str:
        names = self.labels if len(self.labels) < 5 else (*self.labels[:3], "...")
        return f"Anatomy({self.name!r}, {counted(len(self.labels), 'label')}: {', '.join(names)})"


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
        "orientation": anatomy.orientation,
        "codes": {
            label: {
                "value": code.value,
                "meaning": code.meaning,
                "category": {"value": code.category[0], "meaning": code.category[1]},
            }
            for label, code in anatomy.codes.items()
        },
        "unions": {name: list(members) for name, members in anatomy.unions.items()},
        "measures": rules_to_json(anatomy.declared),
        "wall": None if anatomy.wall is None else wall_to_json(anatomy.wall),
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)  # the text "false" would be true
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _phases(value: Any) -> dict[str, str] | None:
    return None if value is None else {key: _text(text) for key, text in value.items()}


def _numbers(value: Any) -> dict[str, dict[int, str]]:
    return {
        layout: {int(number): _text(label) for number, label in numbers.items()}
        for layout, numbers in value.items()
    }


def _views(value: Any) -> dict[str, View]:
    return {
        name: View(_text(view["axis"]), _text(view["towards"]), float(view.get("degrees", 0)))
        for name, view in value.items()
    }


def _orientation(value: Any) -> str | None:
    if value is not None and sorted("RAS"["RLAPSI".index(code) // 2] for code in _text(value)) != list("ARS"):
        raise ValueError(value)
    return value


def _code(value: Any) -> tuple[str, str]:
    number, meaning = _text(value["value"]), _text(value["meaning"])
    # The lengths that DICOM allows for a coded value and its meaning.
    if not (number.isascii() and number.isdigit() and len(number) <= 16 and 0 < len(meaning) <= 64):
        raise ValueError(value)
    return number, meaning


def _codes(value: Any) -> dict[str, Code]:
    return {
        label: Code(*_code(code), *([_code(code["category"])] if "category" in code else []))
        for label, code in value.items()
    }


def _unions(value: Any) -> dict[str, tuple[str, ...]]:
    return {_text(name): _texts(members) for name, members in value.items()}


def from_json(data: Any, where: str | Path) -> Anatomy:
    """An anatomy from the contents of its JSON file.

    Raises:
        BadFileError: an entry is missing or has the wrong type; the message names ``where``.
    """
    if not isinstance(data, Mapping):
        raise BadFileError(f"{where}: not an anatomy; give an object with 'name', 'labels' and 'colours'")

    def entry(name: str, make: Callable[[Any], T], expected: str, *default: T) -> T:
        if name not in data and default:
            return default[0]
        try:
            return make(data[name])
        except MALFORMED as error:
            have = f"is {data[name]!r}" if name in data else "is missing"
            raise BadFileError(f"{where}: the entry {name!r} {have}; give {expected}") from error

    anatomy = Anatomy(
        name=entry("name", _text, "the anatomy's name"),
        labels=entry("labels", _texts, f"a list of names, '{BACKGROUND}' first"),
        colours=entry("colours", _texts, 'a list of colours like "#d1495b", one per label'),
        phases=entry("phases", _phases, 'null, or an object with "by", "largest" and "smallest"', None),
        reorder=entry("reorder", _flag, "true or false", False),
        turn=entry("turn", _flag, "true or false", False),
        numbers=entry("numbers", _numbers, 'the numbers of each layout, like {"pairs": {"1": LABEL}}', {}),
        views=entry("views", _views, 'an object of views, each with "axis", "towards" and "degrees"', {}),
        orientation=entry(
            "orientation", _orientation, 'null, or three of R or L, A or P, S or I: "RAS"', None
        ),
        codes=entry("codes", _codes, 'SNOMED CT codes by label, {"value": DIGITS, "meaning": TEXT}', {}),
        unions=entry("unions", _unions, "an object of lists of labels by the name of their union", {}),
        declared=entry("measures", rules_from_json, 'a list of measures, each with "name" and "rule"', ()),
        wall=entry(
            "wall",
            wall_from_json,
            'null, or an object with "cavity", "wall", "beside", "phase", "to" and 17 "segments"',
            None,
        ),
    )
    _refuse_strange_names(anatomy, where)
    return anatomy


def _refuse_strange_names(anatomy: Anatomy, where: str | Path) -> None:
    """Check that every name in an anatomy is one of its labels or phases.

    Raises:
        BadFileError: an unknown name is used; the message names ``where``.
    """
    if anatomy.labels[:1] != (BACKGROUND,) or len(anatomy.colours) != len(anatomy.labels):
        raise BadFileError(
            f"{where}: 'labels' must start with '{BACKGROUND}' and 'colours' have one entry each"
        )
    if not 2 <= len(anatomy.labels) <= MOST_CLASSES or len(set(anatomy.labels)) < len(anatomy.labels):
        raise BadFileError(
            f"{where}: {len(anatomy.labels)} 'labels'; give 2 to {MOST_CLASSES} different names, "
            f"including '{BACKGROUND}'"
        )
    for colour in anatomy.colours:
        if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            raise BadFileError(f"{where}: the colour {colour[:40]!r}; write it as #rrggbb, e.g. #d1495b")
    for name, view in anatomy.views.items():
        for label in (view.axis, view.towards):
            if label not in anatomy.labels:
                raise BadFileError(f"{where}: view {name} uses {label!r}, which is not among the labels")
    for label in anatomy.codes:
        if label not in anatomy.labels[1:]:
            raise BadFileError(f"{where}: 'codes' uses {label!r}, which is not among the structures")
    for name, members in anatomy.unions.items():
        if name in anatomy.labels or not members or not set(members) <= set(anatomy.labels[1:]):
            raise BadFileError(
                f"{where}: the union {name!r} needs a name of its own and a list of structures"
            )
    if strange := unknown_names(anatomy.declared, anatomy.wall, anatomy.labels, anatomy.phase_names):
        raise BadFileError(
            f"{where}: 'measures' or 'wall' uses {strange[0]!r}, which is no structure and no phase"
        )


def _refuse_strange_entries(data: Mapping[str, Any], anatomy: Anatomy, path: Path) -> None:
    """Check a user's file for what has no effect, or not the one that was meant.

    The anatomies in priors are not checked: those of later versions may have more entries.

    Raises:
        BadFileError: an entry is unknown, a number means no label, 0 means a structure, or the phases are
            those of no structure.
    """
    if others := [name for name in data if name not in to_json(anatomy) and not name.startswith("_")]:
        raise BadFileError(
            f"{path}: the entry {others[0][:40]!r} does not exist; entries are {', '.join(to_json(anatomy))}"
        )
    for layout, numbers in anatomy.numbers.items():
        for number, label in numbers.items():
            if label not in (*anatomy.labels, UNKNOWN_NAME):
                raise BadFileError(
                    f"{path}: number {number} of {layout} is {label[:40]!r}, which is not among the labels"
                )
            if number == 0 and label in anatomy.labels[1:]:
                raise BadFileError(
                    f"{path}: number 0 of {layout} is {label!r}, but can only be '{BACKGROUND}' or "
                    f"'{UNKNOWN_NAME}'"
                )
    rule = anatomy.phases
    if rule is not None and (
        rule.keys() not in ({"by"}, {"by", "largest", "smallest"})
        or rule["by"] not in anatomy.labels[1:]
        or len(set(rule.values())) < len(rule)
    ):
        raise BadFileError(
            f"{path}: 'phases' needs a structure as 'by', and different names as 'largest' and 'smallest'"
        )


def anatomy_names() -> list[str]:
    """Names of the bundled anatomies."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_anatomy(name: str | Path) -> Anatomy:
    """Load a bundled anatomy by name, or an anatomy from a JSON file.

    Raises:
        BadSettingError: no such name or file.
        BadFileError: the file lacks an entry, has an unknown one, or is not JSON.
    """
    path = FOLDER / f"{name}.json" if str(name) in anatomy_names() else Path(name)
    if not path.is_file():
        known = ", ".join(anatomy_names())
        raise BadSettingError(
            f"{name}: no such anatomy; give one of {known}, or a JSON file like theirs", options=["anatomy"]
        )
    data = read_json(path)
    anatomy = from_json(data, path)
    _refuse_strange_entries(data, anatomy, path)
    return anatomy
