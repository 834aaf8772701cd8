"""The measures that an anatomy declares in its JSON file; `nisf.measures` computes them.

The column of a measure is its name and its unit, e.g. ``lv_edv_ml``. The unit follows from the rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

UNITS = {
    "volume": "ml",
    "mass": "g",
    "surface": "mm2",
    "extent": "mm",
    "difference": "",
    "percentage": "percent",
    "output": "l_per_min",
    "steepest_rise": "ml_per_s",
    "steepest_fall": "ml_per_s",
    "cycles_per_minute": "bpm",
}
"""Unit of each rule's measure; a difference has the unit of its terms."""

MEASURED = ("volume", "mass", "surface", "extent")
"""Rules that depend on one structure at one phase."""
RATES = ("steepest_rise", "steepest_fall")
"""Rules that depend on one structure over the whole cycle."""
SEGMENTS = 17
"""Number of segments of a wall, as defined by the American Heart Association."""
TERMS = {"difference": 2, "percentage": 2, "output": 1}
"""Rules that combine other measures, and the number of these."""


@dataclass(frozen=True)
class MeasureRule:
    """One measure of an anatomy.

    Attributes:
        name: name of its column, without the unit.
        rule: how it is computed, one of `UNITS`:
            ``volume`` of a structure at a phase; ``mass``, the volume times ``g_per_ml``; ``surface`` area
            and maximum ``extent`` likewise; ``difference`` of two measures; ``percentage``, the first of two
            over the second; ``output``, a volume times the number of cycles per minute; ``steepest_rise``
            and ``steepest_fall`` of a structure's volume over the cycle; ``cycles_per_minute``.
        structure: a label, for rules that depend on one.
        phase: one of the anatomy's named phases; None if it has none.
        terms: names of other measures, for rules that combine them.
        g_per_ml: density, for a mass.
        index: whether it is also indexed to body surface area.
        readers: deviation of readers from their consensus, in the measure's unit; None if unknown.
    """

    name: str
    rule: str
    structure: str | None = None
    phase: str | None = None
    terms: tuple[str, ...] = ()
    g_per_ml: float = 1.0
    index: bool = False
    readers: float | None = None


@dataclass(frozen=True)
class WallRule:
    """A wall around a cavity, whose thickness is measured in the 17 segments of `nisf.measures.wall`.

    Attributes:
        cavity: the structure inside.
        wall: the structure around it.
        beside: the structure whose two insertions define the rotation of the segments.
        phase: the phase at which the thickness is measured.
        to: the phase up to which thickening is measured.
        segments: names of the segments 1 to 17.
    """

    cavity: str
    wall: str
    beside: str
    phase: str
    to: str
    segments: tuple[str, ...]


def unit(rule: MeasureRule, rules: Sequence[MeasureRule]) -> str:
    """The unit in the column name of a measure.

    Args:
        rule: rule of the measure.
        rules: all rules of the anatomy, for the terms of a difference.
    """
    if rule.rule != "difference":
        return UNITS[rule.rule]
    return unit(next(other for other in rules if other.name == rule.terms[0]), rules)


def default_rules(labels: Sequence[str], phases: Sequence[str]) -> tuple[MeasureRule, ...]:
    """The measures of an anatomy that declares none: volume, surface and extent of each structure.

    Where two structures would give measures of the same name, such as "T1+" and "T1-", those of the later one
    have its class in their names.

    Args:
        labels: names of the classes, background first.
        phases: the named phases; if there are none, the only time is measured.
    """
    out: dict[str, MeasureRule] = {}
    for k, label in enumerate(labels[1:], start=1):
        name = word(label)
        rules = _of_structure(name, label, phases)
        while out.keys() & {rule.name for rule in rules}:
            name = f"{name}_{k}"
            rules = _of_structure(name, label, phases)
        out |= {rule.name: rule for rule in rules}
    return tuple(out.values())


def _of_structure(name: str, label: str, phases: Sequence[str]) -> list[MeasureRule]:
    """Volume, surface and extent of a structure at each phase, with names that begin with ``name``."""
    out = []
    for phase in phases or (None,):
        own = name if phase is None else f"{name}_{word(phase)}"
        out.append(MeasureRule(own, "volume", label, phase))
        out += [MeasureRule(f"{own}_{rule}", rule, label, phase) for rule in ("surface", "extent")]
    return out


def word(text: str) -> str:
    """A name as part of a column name: lower-case letters, digits and ``_``."""
    return re.sub(r"\W+", "_", text.lower()).strip("_") or "structure"


def rules_to_json(rules: Sequence[MeasureRule]) -> list[dict[str, Any]]:
    """The entry ``measures`` of an anatomy's file."""
    out = []
    for rule in rules:
        entry: dict[str, Any] = {"name": rule.name, "rule": rule.rule}
        for key in ("structure", "phase"):
            if getattr(rule, key) is not None:
                entry[key] = getattr(rule, key)
        if rule.terms:
            entry["terms"] = list(rule.terms)
        if rule.rule == "mass":
            entry["g_per_ml"] = rule.g_per_ml
        if rule.index:
            entry["index"] = True
        if rule.readers is not None:
            entry["readers"] = rule.readers
        out.append(entry)
    return out


def rules_from_json(data: Any) -> tuple[MeasureRule, ...]:
    """Read the measures that an anatomy's file declares.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: an entry is missing or of the wrong type.
    """
    rules: list[MeasureRule] = []
    for entry in data:
        rule = MeasureRule(
            name=str(entry["name"]),
            rule=str(entry["rule"]),
            structure=None if entry.get("structure") is None else str(entry["structure"]),
            phase=None if entry.get("phase") is None else str(entry["phase"]),
            terms=tuple(str(term) for term in entry.get("terms", ())),
            g_per_ml=float(entry.get("g_per_ml", 1.0)),
            index=bool(entry.get("index", False)),
            readers=None if entry.get("readers") is None else float(entry["readers"]),
        )
        known = {other.name for other in rules}
        if rule.rule not in UNITS or rule.name in known or word(rule.name) != rule.name:
            raise ValueError(entry)
        # Terms have to be declared earlier, which rules out cycles.
        if len(rule.terms) != TERMS.get(rule.rule, 0) or not known.issuperset(rule.terms):
            raise ValueError(entry)
        if rule.rule in (*MEASURED, *RATES) and rule.structure is None:
            raise ValueError(entry)
        rules.append(rule)
    return tuple(rules)


def wall_from_json(data: Any) -> WallRule | None:
    """Read the wall that an anatomy's file declares; None if it declares none.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: an entry is missing or of the wrong type.
    """
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise TypeError(data)
    texts = {name: str(data[name]) for name in ("cavity", "wall", "beside", "phase", "to")}
    segments = tuple(str(name) for name in data["segments"])
    if len(segments) != SEGMENTS:
        raise ValueError(segments)
    return WallRule(**texts, segments=segments)


def wall_to_json(wall: WallRule) -> dict[str, Any]:
    """The entry ``wall`` of an anatomy's file."""
    return {**asdict(wall), "segments": list(wall.segments)}


def unknown_names(
    rules: Sequence[MeasureRule], wall: WallRule | None, labels: Sequence[str], phases: Sequence[str]
) -> list[str]:
    """Structures and phases that declarations use but the anatomy does not have."""
    structures = [rule.structure for rule in rules if rule.structure is not None]
    times = [rule.phase for rule in rules if rule.phase is not None]
    if wall is not None:
        structures += [wall.cavity, wall.wall, wall.beside]
        times += [wall.phase, wall.to]
    missing = [name for name in structures if name not in labels[1:]]
    return missing + [name for name in times if name not in phases]
