"""Tables of settings: help, type, and value in each preset.

The help texts are the field docstrings of the dataclasses in `nisf.config.schema`, read from their source.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nisf.config.bounds import bounds_of
from nisf.config.presets import PRESETS
from nisf.config.schema import Config, unused

KINDS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    tuple[float, ...]: "list of numbers",
}
"""Types of settings in words; choices have their own."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: as ``--set`` takes it, ``section.name``.
        help: one line of help.
        kind: its choices, separated by commas, or its type in words.
        values: by preset, as ``--set`` takes it; None where it does not apply to the preset's kind of
            field.
    """

    name: str
    help: str
    kind: str
    values: Mapping[str, str | None]


@dataclass(frozen=True)
class Section:
    """One section of the settings.

    Attributes:
        name: prefix before the dot.
        help: one line of help.
        settings: in the order of the dataclass.
    """

    name: str
    help: str
    settings: tuple[Setting, ...]

    def used_by(self, presets: Sequence[str]) -> list[str]:
        """The presets to which at least one of these settings applies."""
        return [name for name in presets if any(s.values[name] is not None for s in self.settings)]


def sections() -> list[Section]:
    """All settings, in the order of `nisf.config.schema.Config`."""
    config = Config()
    # The preset's name is the one entry that is not a section.
    return [_section(f.name, type(getattr(config, f.name))) for f in fields(Config) if f.name != "preset"]


def _section(section: str, kind: type) -> Section:
    about, helps = docstrings(kind)
    hints, bounds = typing.get_type_hints(kind), bounds_of(kind)
    settings = []
    for field in fields(kind):  # ty: ignore[invalid-argument-type]
        name = f"{section}.{field.name}"
        values = {
            preset: None
            if name in unused(config.field.kind)
            else written(getattr(getattr(config, section), field.name))
            for preset, config in PRESETS.items()
        }
        kind_told = _kind(hints[field.name])
        if field.name in bounds:
            kind_told = f"{kind_told}, {bounds[field.name].told()}"
        settings.append(Setting(name, helps.get(field.name, ""), kind_told, values))
    return Section(section, about, tuple(settings))


def docstrings(kind: type) -> tuple[str, dict[str, str]]:
    """The docstring of a class and those of its fields, each as one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return " ".join((ast.get_docstring(tree) or "").split()), found


def _kind(hint: Any) -> str:
    """The type of a setting in words."""
    return KINDS[hint] if hint in KINDS else ", ".join(typing.get_args(hint))


def written(value: Any) -> str:
    """A value as ``--set`` takes it; an empty list is ``none``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(written, value)) or "none"
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
