"""Learn from labelled cases, good and degraded, how signs predict Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import isotonic_regression, nnls

from nisf.quality.families import FAMILIES, family
from nisf.quality.model import Curve, QualityModel, Signature, Usual, logit, with_features
from nisf.quality.signs import Signs

KNOTS = 12
RIDGE = 3.0
"""Strength of the L2 penalty on the weights, in frames."""
SHRINKAGE = 0.1
"""Shrinkage of the signatures' covariance towards its diagonal."""
FINE = 0.85
"""Mean Dice above which a segmentation counts as good, even of a degraded image."""
LEAST_SHARE = 0.5
"""Signs that are known in a smaller fraction of the frames are left out."""


@dataclass(frozen=True, eq=False)
class Example:
    """One frame of a labelled case.

    Attributes:
        patient: all copies of a patient stay in one fold of the cross-fitting.
        good: whether the case is as it was measured.
        sound: whether its slices are in order and its millimetres are right.
        signs: signs of the frame and its case.
        signature: see `nisf.subject.subject.Subject.signature`.
        dice: Dice of each structure, in the order of the classes; NaN where unknown.
        weight: weight of the example.
    """

    patient: str
    good: bool
    sound: bool
    signs: Signs
    signature: np.ndarray | None
    dice: np.ndarray
    weight: float = 1.0


def learn_signature(signatures: Sequence[np.ndarray]) -> Signature:
    """Mean and whitening of the signatures of the good cases."""
    rows = np.stack(signatures).astype(np.float64)
    covariance = np.cov(rows.T) if len(rows) > 1 else np.eye(rows.shape[1])
    covariance = np.atleast_2d(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance) + 1e-6)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-6 * values.max())
    return Signature(rows.mean(0), (vectors / np.sqrt(values)).T)


def usual_values(
    name: str, values: Float[np.ndarray, "n"], good: Bool[np.ndarray, "n"], fine: Bool[np.ndarray, "n"]
) -> Usual:
    """The usual range of a sign.

    Args:
        name: name of the sign.
        values: values of the sign, all finite.
        good: marks cases as they were measured.
        fine: marks cases that are segmented well.
    """
    low, middle, high = np.quantile(values[good], [0.025, 0.5, 0.975])
    room = FAMILIES[name.split("/")[0]].room
    found = Usual(float(min(low, middle - room)), float(middle), float(max(high, middle + room)), 1.0)
    most = float(np.max(found.strangeness(name, values[good | fine])))
    return replace(found, most=max(1.0, most))


def learn_curve(
    strange: Float[np.ndarray, "n"], odds: Float[np.ndarray, "n"], weight: Float[np.ndarray, "n"]
) -> Curve:
    """Log odds that never rise with strangeness: isotonic regression, evaluated at a few quantiles."""
    order = np.argsort(strange)
    x, y, w = strange[order], odds[order], weight[order]
    fitted = isotonic_regression(y, weights=w, increasing=False).x
    edges = np.unique(np.round(np.linspace(0, len(x), KNOTS + 1)).astype(int))
    parts = [slice(a, b) for a, b in pairwise(edges)]
    knots = np.array([np.average(x[part], weights=w[part]) for part in parts])
    values = np.array([np.average(fitted[part], weights=w[part]) for part in parts])
    knots, index = np.unique(np.round(knots, 6), return_index=True)
    return Curve(knots, values[index], 0.0)


def learn(examples: Sequence[Example], structures: Sequence[str]) -> QualityModel:
    """Fit a model to labelled frames.

    Each sign's curve is fitted separately. Then all signs are weighted jointly, with non-negative weights, so
    that correlation with another sign cannot reverse the meaning of a sign.

    Args:
        examples: good and degraded frames.
        structures: in the order of the classes.

    Raises:
        ValueError: there is no good frame.
    """
    good = [e for e in examples if e.good]
    if not good:
        raise ValueError("no frame is of a good case")
    signature = None
    if all(e.signature is not None for e in good):
        signature = learn_signature([e.signature for e in good if e.signature is not None])
    rows = [with_features(e.signs, e.signature, signature) for e in examples]
    names = sorted({name for row in rows for name in row if name.split("/")[0] in FAMILIES})
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows])
    is_good = np.array([e.good for e in examples])
    fine = np.array([e.sound and bool(np.nanmean(e.dice) >= FINE) for e in examples])
    usual, strange = {}, {}
    for name, values in zip(names, table.T, strict=True):
        known = np.isfinite(values)
        if known[is_good].mean() < LEAST_SHARE:
            continue
        usual[name] = usual_values(name, values[known], is_good[known], fine[known])
        strange[name] = np.where(known, usual[name].strangeness(name, np.where(known, values, 0.0)), 0.5)
    weight = np.array([e.weight for e in examples])
    dice = np.array([e.dice for e in examples], dtype=np.float64)
    offset, curves = {}, {}
    for k, structure in enumerate(structures):
        offset[structure], curves[structure] = _weigh(strange, dice[:, k], weight)
    kept = {name for signs in curves.values() for name in signs}
    usual = {name: found for name, found in usual.items() if name in kept or family(name).alarms}
    return QualityModel(tuple(structures), usual, offset, curves, signature)


def _weigh(
    strange: Mapping[str, np.ndarray], dice: Float[np.ndarray, "n"], weight: Float[np.ndarray, "n"]
) -> tuple[float, dict[str, Curve]]:
    """Fit the offset and the weights of one structure's curves."""
    known: Bool[np.ndarray, "n"] = np.isfinite(dice)
    odds, w = logit(dice[known]), weight[known]
    curves = {name: learn_curve(values[known], odds, w) for name, values in strange.items()}
    columns = np.stack([curves[name](strange[name][known]) for name in curves], axis=1)
    mean, target = np.average(columns, axis=0, weights=w), float(np.average(odds, weights=w))
    root = np.sqrt(w)[:, None]
    system = np.concatenate([root * (columns - mean), np.sqrt(RIDGE) * np.eye(len(curves))])
    right = np.concatenate([root[:, 0] * (odds - target), np.zeros(len(curves))])
    weights, _ = nnls(system, right)
    kept = {
        name: Curve(curve.knots, curve.odds, float(value))
        for (name, curve), value in zip(curves.items(), weights, strict=True)
        if value > 1e-3
    }
    return target - float(weights @ mean), kept
