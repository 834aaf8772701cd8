"""Error bars on measures: the spread of each measure, scaled such that 90 % of the intervals hold the truth.

Split-conformal prediction with normalised scores (Lei et al., JASA 2018, section 5.2): on validation cases, a
measure's error is divided by its spread (`nisf.uncertainty.spread`). The 90 % quantile of this ratio, with
the correction for a finite number of cases, is the factor for the spread of new cases. The median spread of
the validation cases is added to each spread first, because a few cases cannot show that an easy-looking case
really has smaller errors.

The spread only reflects the field's own uncertainty. On another scanner or in a poor image, errors are
larger. Intervals therefore widen with the error that the warning light predicts (`nisf.quality`), where it is
larger than that of the median validation case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import Anatomy
from nisf.data.measure_rules import MeasureRule
from nisf.errors import MALFORMED, BadFileError
from nisf.measures.case import CaseMeasures
from nisf.measures.curve import VolumeCurve
from nisf.measures.formulas import column, index_column, values_of
from nisf.quality.judgement import Judgement, judgement_for_intervals
from nisf.subject.subject import Subject
from nisf.uncertainty.band import band_of
from nisf.uncertainty.scale import Scale
from nisf.uncertainty.spread import Frames, Spreading

LEVEL = 0.9
"""Fraction of the intervals that should hold the truth."""
FROM_VOLUMES = ("volume", "mass", "difference", "percentage")
"""Rules of measures that are computed from volumes at the named phases only."""

UNJUDGED = "the segmentation was not judged, so its intervals assume a typical case and may be too narrow"
"""Note on measures whose intervals could not be widened."""


@dataclass(frozen=True)
class Intervals:
    """The error bars of a prior.

    Attributes:
        scales: scales of each measure, by column name.
        draws: number of draws that the spread includes.
        usual_error: 1 minus the predicted Dice of the median validation case; None if it was not predicted.
    """

    scales: Mapping[str, Scale]
    draws: int = 0
    usual_error: float | None = None

    @classmethod
    def from_json(cls, entries: Mapping[str, Any], source: str) -> Intervals:
        """Read the error bars from a prior's appendix.

        Args:
            entries: entries of the appendix.
            source: the appendix's name, for messages.

        Raises:
            BadFileError: an entry is missing, or is not a number of at least 0.
        """
        try:
            scales = {
                str(name): Scale(float(scale["factor"]), float(scale["floor"]))
                for name, scale in entries["measures"].items()
            }
            draws = int(entries["draws"])
            usual = None if entries.get("usual_error") is None else float(entries["usual_error"])
        except MALFORMED as error:
            raise BadFileError(
                f"{source}: the appendix 'intervals' has no usable {error}; delete or fit it again"
            ) from error
        numbers = np.array([(scale.factor, scale.floor) for scale in scales.values()])
        usable = np.isfinite(numbers).all() and (numbers >= 0).all() and (usual is None or 0 < usual <= 1)
        if not usable or not 0 <= draws <= 256:
            raise BadFileError(
                f"{source}: the appendix 'intervals' has factors that are negative or not finite, {draws} "
                f"draws, or a usual error of {usual}; delete or fit it again"
            )
        return cls(scales, draws, usual)

    def to_json(self) -> dict[str, Any]:
        """Entries of the appendix."""
        scales = {
            name: {"factor": float(f"{scale.factor:.5g}"), "floor": float(f"{scale.floor:.5g}")}
            for name, scale in self.scales.items()
        }
        usual = None if self.usual_error is None else float(f"{self.usual_error:.5g}")
        return {"level": LEVEL, "draws": self.draws, "usual_error": usual, "measures": scales}

    def of_case(self, judgement: Judgement | None) -> dict[str, Scale]:
        """The scales for a case: the fitted ones times `widening`; unchanged if the case was not judged."""
        if judgement is None or self.usual_error is None:
            return dict(self.scales)
        wider = widening(judgement.mean, self.usual_error)
        return {name: Scale(scale.factor * wider, scale.floor) for name, scale in self.scales.items()}


def widening(predicted_dice: float, usual_error: float) -> float:
    """Factor by which the intervals of a case are wider than those of the median validation case; at least 1.

    Args:
        predicted_dice: predicted Dice of the case, the mean over structures.
        usual_error: see `Intervals`.
    """
    return max(1.0, (1.0 - predicted_dice) / usual_error)


def intervals_of(subject: Subject) -> Intervals | None:
    """The error bars of a subject's prior; None if none were fitted.

    Raises:
        BadFileError: the prior's appendix is damaged.
    """
    entries = subject.prior.appendices.get("intervals")
    return None if entries is None else Intervals.from_json(entries, subject.prior.source or "the prior")


def with_intervals(
    measures: CaseMeasures,
    subject: Subject,
    *,
    spreading: Spreading | None = None,
    memory_mb: float = 512.0,
) -> CaseMeasures:
    """Add the 90 % intervals and the curve's band to measures, where the prior has fitted scales.

    Args:
        measures: measures of the subject.
        subject: its prior contains the scales, its summary the predicted quality of its segmentation.
        spreading: frames examined while the subject was rendered; examined now if None.
        memory_mb: working memory, MiB.

    Raises:
        BadFileError: the prior's appendix is damaged.
    """
    found = intervals_of(subject)
    if found is None or not subject.stacks or measures.curve is None:
        return measures
    if spreading is None:
        spreading = Spreading(subject, draws=found.draws, memory_mb=memory_mb)
    anatomy = subject.prior.anatomy
    spreads = spreads_of(anatomy, measures, spreading.at(times_of(anatomy, measures)))
    judgement = judgement_for_intervals(subject)
    scales = found.of_case(judgement)
    widths = {name: scale.half_width(spreads[name]) for name, scale in scales.items() if name in spreads}
    ends = {
        name: _ends(limits_of(rule, anatomy), value, widths[name])
        for name, rule in _rules(anatomy).items()
        if name in widths and (value := measures.values.get(name)) is not None
    }
    intervals = {**measures.intervals, **ends, **_derived(anatomy, measures, ends)}
    band = band_of(anatomy, measures, scales, spreading)
    unjudged = judgement is None and found.usual_error is not None
    notes = (*measures.notes, UNJUDGED) if unjudged else measures.notes
    return replace(measures, intervals=intervals, band_ml=band, notes=notes)


def _ends(limits: tuple[float, float], value: float, half: float) -> tuple[float, float]:
    """Interval around a value, clipped to the limits of its measure unless the value is beyond them."""
    low, high = limits
    return max(value - half, min(low, value)), min(value + half, max(high, value))


def limits_of(rule: MeasureRule, anatomy: Anatomy) -> tuple[float, float]:
    """The smallest and the largest value that a measure computed from volumes can have.

    A volume is not negative, nor is the largest volume of a structure minus its smallest, as a stroke volume.
    This over the largest volume, as an ejection fraction, is 100 % at most. Any other difference or ratio may
    be negative, or more than 100 %.
    """
    by_name = {other.name: other for other in anatomy.measures}
    first, second = ([by_name[term] for term in rule.terms] + [None, None])[:2]
    if rule.rule in ("volume", "mass"):
        return 0.0, np.inf
    if first is None or second is None:
        return -np.inf, np.inf
    if rule.rule == "difference":
        phases = anatomy.phases or {}
        one = first.rule == second.rule == "volume" and first.structure == second.structure
        ordered = (first.phase, second.phase) == (phases.get("largest"), phases.get("smallest"))
        return (0.0 if one and ordered else -np.inf), np.inf
    of_it = first.rule == "difference" and first.terms[0] == second.name
    low = limits_of(first, anatomy)[0] if limits_of(second, anatomy)[0] == 0 else -np.inf
    return low, (100.0 if of_it and low == 0 else np.inf)


def _derived(
    anatomy: Anatomy, measures: CaseMeasures, ends: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Intervals of multiples of a measure that has one: cardiac outputs and indexed measures."""
    rules, out = anatomy.measures, dict[str, tuple[float, float]]()
    by_name = {rule.name: column(rule, rules) for rule in rules}
    pairs = [
        (column(rule, rules), by_name[rule.terms[0]])
        for rule in rules
        if rule.rule == "output" and len(rule.terms) == 1
    ]
    pairs += [(index_column(rule, rules), by_name[rule.name]) for rule in rules if rule.index]
    for name, term in pairs:
        value, base = measures.values.get(name), measures.values.get(term)
        known = {**ends, **out}
        if value is not None and base and term in known:
            low, high = known[term]
            out[name] = (low * value / base, high * value / base)
    return out


def measured_columns(anatomy: Anatomy) -> tuple[str, ...]:
    """Columns of the measures computed from volumes at the named phases."""
    return tuple(_rules(anatomy))


def _rules(anatomy: Anatomy) -> dict[str, MeasureRule]:
    """Rules of the measures computed from volumes at the named phases, by column name."""
    rules = anatomy.measures
    return {column(rule, rules): rule for rule in rules if rule.rule in FROM_VOLUMES}


def times_of(anatomy: Anatomy, measures: CaseMeasures) -> list[float]:
    """The times to which measures refer: those of the named phases, and the first for those at no phase."""
    assert measures.curve is not None
    times, first = list(measures.phases.values()), float(measures.curve.times[0])
    timeless = any(rule.rule in ("volume", "mass") and rule.phase is None for rule in anatomy.measures)
    return [*times, first] if first not in times and (timeless or not times) else times


def values_at(
    anatomy: Anatomy, measures: CaseMeasures, volumes: Float[np.ndarray, "t s"]
) -> dict[str, float | None]:
    """Compute the measures that follow from volumes at the named phases.

    Args:
        anatomy: declares the measures.
        measures: gives the times of the phases.
        volumes: volumes of the structures in the order of the classes, at the times of `times_of`, mL.
    """
    times, phases = np.array(times_of(anatomy, measures)), measures.phases
    order = np.argsort(times, kind="stable")
    names = anatomy.labels[1:]
    curve = VolumeCurve(times[order], {name: volumes[order, k] for k, name in enumerate(names)})
    found = values_of(anatomy, curve, phases)
    return {name: found[name] for name in measured_columns(anatomy)}


def spreads_of(anatomy: Anatomy, measures: CaseMeasures, frames: Frames) -> dict[str, float]:
    """The spread of each measure of a case, in the measure's unit, before scaling.

    Args:
        anatomy: declares the measures.
        measures: measures of the case, with its curve.
        frames: possible changes at its phases, in their order.
    """
    assert measures.curve is not None
    curve, times = measures.curve, times_of(anatomy, measures)
    volumes = np.array([[curve.at(name, time) for name in anatomy.labels[1:]] for time in times])

    def measure(volumes: Float[np.ndarray, "t s"]) -> Float[np.ndarray, "m"]:
        found = values_at(anatomy, measures, volumes)
        return np.array([np.nan if value is None else value for value in found.values()], dtype=np.float64)

    spread = np.sqrt(frames.squares(volumes, measure))
    return {
        name: float(value)
        for name, value in zip(measured_columns(anatomy), spread, strict=True)
        if np.isfinite(value)
    }


def quantile(scores: Sequence[float] | Float[np.ndarray, "n"], level: float = LEVEL) -> float:
    """The conformal quantile: the score of rank (n + 1) * level, rounded up; the largest if n is too small.

    Args:
        scores: non-negative, of the validation cases.
        level: fraction of new cases whose score should lie below.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    rank = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[min(rank, len(ordered)) - 1])


def fit_scale(error: Float[np.ndarray, "n"], spread: Float[np.ndarray, "n"]) -> Scale:
    """The scale of one measure from validation cases.

    Args:
        error: measured minus true, in the measure's unit, divided by the case's `widening`.
        spread: before scaling, in the measure's unit.
    """
    floor = max(float(np.median(spread)), 1e-6)
    return Scale(quantile(np.abs(error) / np.hypot(spread, floor)), floor)


def cross_fitted(
    error: Float[np.ndarray, "n"],
    spread: Float[np.ndarray, "n"],
    folds: int = 5,
    repeats: int = 20,
    fit: Callable[[np.ndarray, np.ndarray], Scale] = fit_scale,
) -> tuple[float, Float[np.ndarray, "n"]]:
    """Coverage and half widths of the intervals when each case is judged by other cases.

    Args:
        error: measured minus true.
        spread: before scaling.
        folds: number of parts into which the cases are split at random.
        repeats: number of such splits.
        fit: fits a scale to some cases.

    Returns:
        The fraction of the intervals that hold the truth, and each case's mean half width.
    """
    random, inside, widths = np.random.default_rng(0), [], np.zeros(len(error))
    for _ in range(repeats):
        fold = random.permutation(len(error)) % folds
        for part in range(folds):
            scale = fit(error[fold != part], spread[fold != part])
            for i in np.flatnonzero(fold == part):
                half = scale.half_width(float(spread[i]))
                widths[i] += half / repeats
                inside.append(abs(error[i]) <= half)
    return float(np.mean(inside)), widths
