"""Predict Dice and a warning light from signs: a model fitted for a prior and stored in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.errors import MALFORMED, BadFileError
from nisf.quality.families import FAMILIES, family, words
from nisf.quality.judgement import Judgement, Light
from nisf.quality.signs import Signs

Number = float | Float[np.ndarray, "*n"]

FORMAT = 1
RED_DICE, AMBER_DICE = 0.7, 0.8
"""Mean predicted Dice below which the light is red, or amber."""
RED_WORST, AMBER_WORST = 0.5, 0.7
"""Predicted Dice of the worst structure below which the light is red, or amber."""
RED_ALARM, AMBER_ALARM = 2.0, 1.5
"""Strangeness, relative to the strangest good segmentation, above which the light is red, or amber."""
LEAST_COST = 0.1
"""Minimum loss in log odds of Dice for which a sign is given as a reason."""
REASONS = 4
"""Maximum number of reasons."""
LEAST, MOST = 0.03, 0.97
"""Range of predicted Dice, which keeps its logit finite."""


def logit(dice: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Log odds of Dice, clipped to `LEAST` and `MOST`."""
    kept = np.clip(dice, LEAST, MOST)
    return np.log(kept / (1 - kept))


@dataclass(frozen=True, eq=False)
class Usual:
    """The usual range of one sign in good cases.

    Attributes:
        low: 2.5th percentile, or further from the middle if the family requires it.
        middle: median.
        high: 97.5th percentile, likewise.
        most: largest strangeness of a case whose segmentation was good nevertheless.
    """

    low: float
    middle: float
    high: float
    most: float

    def strangeness(self, sign: str, value: Number) -> Number:
        """How far values are on the bad side: 0 in the middle, 1 at the end of the usual range."""
        below, above = (
            (self.middle - value) / (self.middle - self.low),
            (value - self.middle) / (self.high - self.middle),
        )
        bad = family(sign).bad
        return below if bad == "low" else above if bad == "high" else np.maximum(below, above)


@dataclass(frozen=True, eq=False)
class Curve:
    """What one sign says about one structure's Dice: log odds as a piecewise linear function of strangeness.

    Attributes:
        knots: strangeness, ascending (m,).
        odds: log odds of Dice, descending (m,).
        weight: weight of the sign, not negative.
    """

    knots: Float[np.ndarray, "m"]
    odds: Float[np.ndarray, "m"]
    weight: float

    def __call__(self, strangeness: Number) -> Number:
        return np.interp(strangeness, self.knots, self.odds)


@dataclass(frozen=True, eq=False)
class Signature:
    """Distribution of the signatures of the training set.

    Attributes:
        mean: (l,).
        whitening: matrix that makes their covariance the identity (l, l).
    """

    mean: Float[np.ndarray, "l"]
    whitening: Float[np.ndarray, "l l"]

    def distance(self, signature: Float[np.ndarray, "l"]) -> float:
        """Mahalanobis distance over the square root of the dimension: about 1 in the training set."""
        return float(np.linalg.norm(self.whitening @ (signature - self.mean)) / np.sqrt(len(self.mean)))


@dataclass(frozen=True, eq=False)
class QualityModel:
    """Predicts Dice from signs.

    Attributes:
        structures: in the order of their classes.
        usual: usual range of each sign.
        offset: log odds of each structure's Dice without any signs.
        curves: curves of each structure, by sign.
        signature: signature of the training set; None if the prior's subjects have none.
    """

    structures: tuple[str, ...]
    usual: Mapping[str, Usual]
    offset: Mapping[str, float]
    curves: Mapping[str, Mapping[str, Curve]]
    signature: Signature | None

    def strangeness(self, signs: Signs) -> dict[str, float]:
        """Strangeness of each sign that the model knows."""
        return {
            name: float(usual.strangeness(name, signs[name]))
            for name, usual in self.usual.items()
            if name in signs and np.isfinite(signs[name])
        }

    def dice(self, strange: Mapping[str, float]) -> dict[str, float]:
        """Predicted Dice of each structure; missing signs count as usual."""
        found = {}
        for structure in self.structures:
            odds = self.offset[structure]
            for name, curve in self.curves[structure].items():
                odds += curve.weight * float(curve(strange.get(name, 0.5)))
            found[structure] = float(np.clip(1 / (1 + np.exp(-odds)), LEAST, MOST))
        return found

    def light(self, signs: Sequence[Signs]) -> Judgement:
        """Judge a case.

        Args:
            signs: signs of each examined frame, at least one.
        """
        strange = [self.strangeness(found) for found in signs]
        each = [self.dice(found) for found in strange]
        dice = {s: float(np.mean([one[s] for one in each])) for s in self.structures}
        mean = float(np.mean(list(dice.values())))
        alarms = self._alarms(strange)
        alarm = max(alarms.values(), default=0.0)
        worst = min(dice.values())
        red = mean < RED_DICE or worst < RED_WORST or alarm > RED_ALARM
        amber = mean < AMBER_DICE or worst < AMBER_WORST or alarm > AMBER_ALARM
        light: Light = "red" if red else "amber" if amber else "green"
        reasons = () if light == "green" else self._reasons(signs, strange, alarms)
        return Judgement(light, dice, mean, reasons)

    def _alarms(self, strange: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Strangeness of each sign relative to good segmentations, for the strangest frame."""
        return {
            name: max(found.get(name, 0.0) for found in strange) / usual.most
            for name, usual in self.usual.items()
            if family(name).alarms
        }

    def _reasons(
        self, signs: Sequence[Signs], strange: Sequence[Mapping[str, float]], alarms: Mapping[str, float]
    ) -> tuple[str, ...]:
        """Signs beyond those of all good cases, the strangest first; then those that lower Dice most."""
        ranked = sorted((name for name in alarms if alarms[name] > AMBER_ALARM), key=lambda n: -alarms[n])
        cost: dict[str, float] = {}
        for structure in self.structures:
            for name, curve in self.curves[structure].items():
                most = max(found.get(name, 0.5) for found in strange)
                lost = curve.weight * float(curve(0.5) - curve(most))
                cost[name] = cost.get(name, 0.0) + lost / len(self.structures)
        ranked += sorted((name for name in cost if cost[name] > LEAST_COST), key=lambda n: -cost[n])
        reasons: list[str] = []
        for name in ranked:
            frame = int(np.argmax([found.get(name, -np.inf) for found in strange]))
            if name in signs[frame]:
                reasons.append(words(name, high=bool(signs[frame][name] > self.usual[name].middle)))
        return tuple(dict.fromkeys(reasons))[:REASONS]


def with_features(signs: Signs, signature: np.ndarray | None, known: Signature | None) -> Signs:
    """Add to signs the distance of the signature from those of the training set."""
    if signature is None or known is None:
        return signs
    return {**signs, "features": known.distance(np.asarray(signature, dtype=np.float64))}


def to_json(model: QualityModel) -> dict[str, Any]:
    """The entries of ``quality.json``, without the prior's fingerprint."""

    def numbers(values: np.ndarray) -> list[float]:
        return [float(f"{value:.5g}") for value in values]

    return {
        "format": FORMAT,
        "structures": list(model.structures),
        "usual": {k: numbers(np.array([u.low, u.middle, u.high, u.most])) for k, u in model.usual.items()},
        "dice": {
            structure: {
                "offset": float(f"{model.offset[structure]:.5g}"),
                "signs": {
                    name: {
                        "weight": float(f"{c.weight:.5g}"),
                        "strangeness": numbers(c.knots),
                        "log_odds": numbers(c.odds),
                    }
                    for name, c in model.curves[structure].items()
                },
            }
            for structure in model.structures
        },
        "signature": None
        if model.signature is None
        else {
            "mean": numbers(model.signature.mean),
            "whitening": [numbers(row) for row in model.signature.whitening],
        },
    }


def from_json(data: Mapping[str, Any], structures: Sequence[str], where: str) -> QualityModel:
    """Read a model from the entries of ``quality.json``.

    Raises:
        BadFileError: it is of another version or for other structures, or an entry is missing or wrong; the
            message names ``where``.
    """
    if data.get("format") != FORMAT or data.get("structures") != list(structures):
        raise BadFileError(
            f"{where}: not written for {', '.join(structures)} by this version of nisf; fit it again, or "
            "delete it"
        )
    try:
        usual = {name: Usual(*_numbers(values, 4)) for name, values in data["usual"].items()}
        curves = {s: {n: _curve(c) for n, c in data["dice"][s]["signs"].items()} for s in structures}
        offset = {s: float(_numbers([data["dice"][s]["offset"]], 1)[0]) for s in structures}
        signature = None if data["signature"] is None else _signature(data["signature"])
        strange = [name for name in usual if name.split("/")[0] not in FAMILIES]
        if strange or any(not set(signs) <= set(usual) for signs in curves.values()):
            raise ValueError(strange)
    except MALFORMED as error:
        raise BadFileError(
            f"{where}: entry {error} is missing or wrong; fit it again, or delete it"
        ) from error
    return QualityModel(tuple(structures), usual, offset, curves, signature)


def _numbers(values: Any, count: int | None = None) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all() or count not in (None, len(found)):
        raise ValueError(values)
    return found


def _curve(data: Any) -> Curve:
    knots = _numbers(data["strangeness"])
    odds = _numbers(data["log_odds"], len(knots))
    if not len(knots) or (np.diff(knots) <= 0).any():
        raise ValueError("strangeness")
    return Curve(knots, odds, float(_numbers([data["weight"]], 1)[0]))


def _signature(data: Any) -> Signature:
    mean = _numbers(data["mean"])
    return Signature(mean, np.stack([_numbers(row, len(mean)) for row in data["whitening"]]))
