"""Settings as JSON, and single settings by name: ``train.steps=3000``."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, TypeVar

from nisf.config.schema import Config
from nisf.errors import BadFileError, BadSettingError

T = TypeVar("T")

# Evaluating the annotations takes longer than all the rest.
_hints = functools.cache(typing.get_type_hints)


def to_dict(config: Any) -> dict[str, Any]:
    """Settings as plain nested dictionaries, for JSON."""
    return asdict(config)


def from_dict(kind: type[T], data: Mapping[str, Any], where: str = "settings") -> T:
    """Settings from JSON; missing and unknown entries are errors.

    Raises:
        BadFileError: an entry is unknown, missing or of the wrong kind.
    """
    hints = _hints(kind)
    names = {f.name for f in fields(kind)}  # ty: ignore[invalid-argument-type]
    if not isinstance(data, Mapping) or set(data) != names:
        have = set(data) if isinstance(data, Mapping) else set()
        raise BadFileError(
            f"{where}: unknown entries {sorted(have - names)}, missing entries {sorted(names - have)}; "
            "it was written by another version of nisf"
        )
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        value = data[name]
        if hasattr(hint, "__dataclass_fields__"):
            values[name] = from_dict(hint, value, f"{where}.{name}")
        elif hint == tuple[float, ...]:
            if not isinstance(value, list | tuple) or not all(type(x) in (int, float) for x in value):
                raise BadFileError(f"{where}.{name}: {value!r} is not a list of numbers")
            values[name] = tuple(float(x) for x in value)
        elif choices := typing.get_args(hint):
            if value not in choices:
                raise BadFileError(f"{where}.{name}: {value!r} is not one of {', '.join(choices)}")
            values[name] = value
        elif type(value) is hint or (hint is float and type(value) is int):
            values[name] = hint(value)
        else:
            raise BadFileError(f"{where}.{name}: {value!r} is not a {hint.__name__}")
    try:
        return kind(**values)
    except BadSettingError as error:
        raise BadFileError(f"{where}.{error}") from error


def override(config: Config, assignments: Sequence[str]) -> Config:
    """Return ``config`` with some settings replaced.

    Args:
        config: settings to start from.
        assignments: ``section.name=value`` each.

    Raises:
        BadSettingError: a setting does not exist or its value has the wrong type.
    """
    changes: dict[str, dict[str, Any]] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        section, dot, name = path.partition(".")
        part = getattr(config, section, None)
        if not equals or not dot or not is_dataclass(part) or isinstance(part, type):
            sections = [s for s in Config.__dataclass_fields__ if s != "preset"]
            raise BadSettingError(
                f"{text}: write section.name=value, with one of the sections {', '.join(sections)}"
            )
        hints = _hints(type(part))
        if name not in hints:
            raise BadSettingError(f"{text}: {section} has no setting {name}; it has {', '.join(hints)}")
        changes.setdefault(section, {})[name] = _value(hints[name], value, text)
    # All at once: settings that only fit together can be given in any order.
    sections = {}
    for section, values in changes.items():
        try:
            sections[section] = replace(getattr(config, section), **values)
        except BadSettingError as error:
            mine = any(str(error).startswith(f"{name}=") for name in values)
            raise BadSettingError(f"{section}.{error}" if mine else str(error)) from error
    return replace(config, **sections)


def _value(kind: Any, value: str, text: str) -> Any:
    """``value`` as ``kind``."""
    if kind == tuple[float, ...]:
        try:
            return tuple(float(part) for part in value.split(",") if part)
        except ValueError as error:
            raise BadSettingError(f"{text}: give numbers with commas between them") from error
    choices = typing.get_args(kind)
    if choices:
        if value not in choices:
            raise BadSettingError(f"{text}: give one of {', '.join(choices)}")
        return value
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise BadSettingError(f"{text}: give true or false")
        return value.lower() == "true"
    try:
        return kind(value)
    except ValueError as error:
        raise BadSettingError(f"{text}: {value!r} is not a number of the kind {kind.__name__}") from error
