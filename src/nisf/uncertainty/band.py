"""The 90 % band around a case's volume curves.

At a phase whose volume is a measure, the band has the width of that measure's interval
(`nisf.uncertainty.intervals`), before this is clipped; between frames it is interpolated.
At any other time, the spread is that of the frame itself, and its scale is interpolated by volume between the
scales of the phases: that of the largest volume applies to large volumes, that of the smallest to small ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import Anatomy
from nisf.measures.case import CaseMeasures
from nisf.measures.formulas import column
from nisf.uncertainty.scale import Scale
from nisf.uncertainty.spread import Spreading


@dataclass(frozen=True)
class Anchor:
    """A measure of a structure's volume at a phase, with a known scale.

    Attributes:
        ml: the volume at the phase.
        scale: scale of the measure.
        per_ml: units of the measure per mL.
    """

    ml: float
    scale: Scale
    per_ml: float = 1.0

    def half_ml(self, spread_ml: float) -> float:
        """Half width of the interval of a volume with this spread, mL."""
        return self.scale.half_width(spread_ml * self.per_ml) / self.per_ml


def anchors_of(
    anatomy: Anatomy, measures: CaseMeasures, scales: Mapping[str, Scale]
) -> dict[str, list[Anchor]]:
    """The volumes of each structure whose intervals are known.

    Args:
        anatomy: declares the measures.
        measures: measures of the case, with its curve.
        scales: scales of each measure, by column name.
    """
    assert measures.curve is not None
    out: dict[str, list[Anchor]] = {name: [] for name in anatomy.labels[1:]}
    for rule in anatomy.measures:
        scale = scales.get(column(rule, anatomy.measures))
        known = rule.phase is None or rule.phase in measures.phases
        if rule.rule not in ("volume", "mass") or rule.structure is None or scale is None or not known:
            continue
        time = float(measures.curve.times[0]) if rule.phase is None else measures.phases[rule.phase]
        per_ml = rule.g_per_ml if rule.rule == "mass" else 1.0
        out[rule.structure].append(Anchor(measures.curve.at(rule.structure, time), scale, per_ml))
    return out


def half_width(anchors: Sequence[Anchor], ml: float, spread_ml: float) -> float:
    """Half width of the band at a volume of ``ml`` with this spread, mL; NaN without anchors."""
    if not anchors:
        return float("nan")
    ordered = sorted(anchors, key=lambda anchor: anchor.ml)
    halves = [anchor.half_ml(spread_ml) for anchor in ordered]
    return float(np.interp(ml, [anchor.ml for anchor in ordered], halves))


def band_of(
    anatomy: Anatomy, measures: CaseMeasures, scales: Mapping[str, Scale], spreading: Spreading
) -> dict[str, Float[np.ndarray, "t"]]:
    """Half width of the band at the curve's times, mL, of each structure that has anchors.

    Args:
        anatomy: see `anchors_of`. Likewise:
        measures: measures of the case, with a curve.
        scales: scales of the measures.
        spreading: `Spreading` of the case's subject; frames that were not examined yet are examined.
    """
    curve = measures.curve
    assert curve is not None
    names = anatomy.labels[1:]
    anchors = anchors_of(anatomy, measures, scales)
    halves = np.full((len(names), len(curve.times)), np.nan)
    for t, time in enumerate(curve.times):
        ml = np.array([curve.ml[name][t] for name in names])
        spread = np.sqrt(spreading.at([float(time)]).squares(ml[None], lambda volumes: volumes[0]))
        halves[:, t] = [half_width(anchors[n], v, s) for n, v, s in zip(names, ml, spread, strict=True)]
    return {name: halves[k] for k, name in enumerate(names) if anchors[name]}
