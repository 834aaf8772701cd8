"""How the help shows the options of the subcommands."""

from __future__ import annotations

import dataclasses
import inspect
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from docstring_parser import parse_from_object
from tyro.conf import arg


@cache
def tidy_help(command: Any) -> None:
    """Change the annotations of a subcommand so that its help is easy to read.

    The parser by itself keeps the line breaks of the source in the help of an option, calls a list of inputs
    optional, and writes ``{None}|INT`` and ``(default: None)`` for an option that can be left out.

    Args:
        command: dataclass whose fields are options. Its bases and its groups of options are changed too.
    """
    described = {entry.arg_name: entry.description or "" for entry in parse_from_object(command).params}
    own = {field.name: field for field in dataclasses.fields(command)}
    for base in command.__bases__:
        if dataclasses.is_dataclass(base):
            tidy_help(base)
    for name, kind in inspect.get_annotations(command, eval_str=True).items():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            tidy_help(kind)
        elif name in described:
            command.__annotations__[name] = _shown(kind, own[name].default, described[name])


def _shown(kind: Any, default: Any, description: str) -> Any:
    """The annotation of an option with its help, its placeholder and what is said of its default."""
    bare, *given = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    placeholder = "TEXT" if bare is str else None
    hint = None
    if default is dataclasses.MISSING:
        hint = "(required)"
    elif default is None:
        hint, placeholder = "", _placeholder(bare)
    elif default is False or default == ():
        hint = ""
    ours = arg(help=" ".join(description.split()), help_behavior_hint=hint, metavar=placeholder)
    annotated: Any = Annotated
    return annotated[(bare, ours, *given)]  # what the option itself states comes last, and prevails


def _placeholder(kind: Any) -> str:
    """What the help shows for the value of an option that is unset by default, e.g. ``INT``."""
    (kind,) = (part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        return "{" + ",".join(get_args(kind)) + "}"
    return "TEXT" if kind is str else str(kind.__name__).upper()
