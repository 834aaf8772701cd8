"""Compute the measures that an anatomy declares from volumes over the cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from nisf.data.anatomy import Anatomy
from nisf.data.measure_rules import MEASURED, RATES, MeasureRule, unit
from nisf.measures.curve import VolumeCurve

Convention = Literal["field", "slices"]
"""Integration of the continuous field, or summation of slices on the measured grid."""
CONVENTIONS: tuple[Convention, ...] = ("field", "slices")
BY_HAND = ("volume", "mass", "difference", "percentage", "output")
"""Rules whose measures are given by both conventions."""
SHAPES = ("surface", "extent")
"""Rules whose measures need the shape of a structure at one time."""
MS_A_MINUTE = 60_000.0

Shapes = Mapping[tuple[str, str | None], tuple[float, float]]
"""Surface area in mm2 and maximum extent in mm, by structure and phase."""


def column(rule: MeasureRule, rules: Sequence[MeasureRule], convention: Convention = "field") -> str:
    """Column name of a measure: its name, the convention unless it is the default, and its unit."""
    middle = "" if convention == "field" else f"_{convention}"
    return f"{rule.name}{middle}_{unit(rule, rules)}"


def index_column(rule: MeasureRule, rules: Sequence[MeasureRule]) -> str:
    """Column name of a measure indexed to body surface area."""
    return f"{rule.name}_index_{unit(rule, rules)}_per_m2"


def values_of(
    anatomy: Anatomy,
    curve: VolumeCurve,
    phases: Mapping[str, float],
    *,
    shapes: Shapes | None = None,
    body_m2: float | None = None,
) -> dict[str, float | None]:
    """All measures that the anatomy declares, by column name; None where a measure is unknown.

    Args:
        anatomy: declares the measures.
        curve: volumes at the measured times.
        phases: times of the known phases, as fractions of the cycle.
        shapes: surfaces and extents, if the anatomy declares any.
        body_m2: body surface area, for indexed measures.
    """
    rules = anatomy.measures
    field = _by_rule(rules, curve, phases, shapes or {}, "field")
    slices = _by_rule(rules, curve, phases, {}, "slices")
    out = {column(rule, rules): field[rule.name] for rule in rules}
    if body_m2 is not None:
        for rule in rules:
            if rule.index:
                value = field[rule.name]
                out[index_column(rule, rules)] = None if value is None else value / body_m2
    for rule in rules:
        if rule.rule in BY_HAND:
            out[column(rule, rules, "slices")] = slices[rule.name]
    return out


def _by_rule(
    rules: Sequence[MeasureRule],
    curve: VolumeCurve,
    phases: Mapping[str, float],
    shapes: Shapes,
    convention: Convention,
) -> dict[str, float | None]:
    """The measures by name, each computed from the curve or from earlier measures."""
    found: dict[str, float | None] = {}
    for rule in rules:
        if rule.rule in MEASURED:
            found[rule.name] = _measured(rule, curve, phases, shapes, convention)
        elif rule.rule in RATES:
            assert rule.structure is not None
            found[rule.name] = curve.steepest(rule.structure, rise=rule.rule == "steepest_rise")
        elif rule.rule == "cycles_per_minute":
            found[rule.name] = MS_A_MINUTE / curve.cycle_ms if curve.cycle_ms else None
        else:
            found[rule.name] = _combined(rule, [found[term] for term in rule.terms], curve.cycle_ms)
    return found


def _measured(
    rule: MeasureRule,
    curve: VolumeCurve,
    phases: Mapping[str, float],
    shapes: Shapes,
    convention: Convention,
) -> float | None:
    """Volume, mass, surface area or extent of one structure at one phase."""
    if rule.structure is None or (rule.phase is not None and rule.phase not in phases):
        return None
    if rule.rule in SHAPES:
        shape = shapes.get((rule.structure, rule.phase))
        return None if shape is None else shape[0 if rule.rule == "surface" else 1]
    time = float(curve.times[0]) if rule.phase is None else phases[rule.phase]
    if convention == "field":
        volume = curve.at(rule.structure, time)
    else:
        volume = curve.slices_at(rule.structure, time)
    return None if volume is None else volume * (rule.g_per_ml if rule.rule == "mass" else 1.0)


def _combined(rule: MeasureRule, terms: Sequence[float | None], cycle_ms: float | None) -> float | None:
    """A measure that combines others; None if one of them is unknown."""
    known = [term for term in terms if term is not None]
    if len(known) < len(terms):
        return None
    if rule.rule == "difference":
        return known[0] - known[1]
    if rule.rule == "percentage":
        return 100 * known[0] / known[1] if known[1] > 0 else None
    if rule.rule == "output":
        return known[0] * MS_A_MINUTE / cycle_ms / 1000 if cycle_ms else None
    raise NotImplementedError(f"the rule {rule.rule} has no formula")
