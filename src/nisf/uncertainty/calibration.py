"""Temperatures of class probabilities, fitted on labelled voxels of validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, optimize

from nisf.data.case import UNKNOWN, Case
from nisf.data.geometry import Vector
from nisf.evaluation.calibration import Reliability, reliability
from nisf.evaluation.scores import label_volume
from nisf.subject.calibrated import LEAST, STEEPEST, Calibration, temperature_features
from nisf.subject.islands import without
from nisf.subject.rendering import Frame, empty_rendering
from nisf.subject.subject import Subject

NEAR_MM = 10.0
"""Distance from a border, in the plane, within which voxels are used; elsewhere all are certain and right."""
DECAY = 1e-3
"""Weight of the L2 penalty, which keeps weights supported by few voxels near 0."""
SHARES = np.arange(0.0, 0.52, 0.02)
"""Candidates of `nisf.subject.calibrated.Calibration.removed`."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Labelled voxels of one case near a border.

    Attributes:
        shown: class probabilities after islands and doubtful sections are removed (n, k).
        before: class probabilities before anything is removed.
        removed: whether anything was removed (n,).
        label: the true class (n,).
        border_mm: distance in the plane to a border of the segmentation (n,).
        end: whether the slice contains the first or the last section of a segmented structure, or lies
            beyond all of them (n,).
    """

    shown: Float[np.ndarray, "n k"]
    before: Float[np.ndarray, "n k"]
    removed: Bool[np.ndarray, "n"]
    label: Int[np.ndarray, "n"]
    border_mm: Float[np.ndarray, "n"]
    end: Bool[np.ndarray, "n"]

    def part(self, chosen: np.ndarray) -> Voxels:
        """A subset of the voxels."""
        return Voxels(*(values[chosen] for values in vars(self).values()))

    @classmethod
    def joined(cls, parts: Sequence[Voxels]) -> Voxels:
        """Concatenate the voxels of several cases."""
        return cls(*(np.concatenate(rows) for rows in zip(*(vars(p).values() for p in parts), strict=True)))


def border_mm(label: Int[np.ndarray, "x y"], spacing: Vector) -> Float[np.ndarray, "x y"]:
    """Distance of each pixel from the nearest one with a neighbour of another class; infinite without one."""
    edge = np.zeros(label.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(label, axis=axis) != 0
        edge |= np.pad(differs, [(0, int(a == axis)) for a in (0, 1)])
        edge |= np.pad(differs, [(int(a == axis), 0) for a in (0, 1)])
    if not edge.any():
        return np.full(label.shape, np.inf)
    return ndimage.distance_transform_edt(~edge, sampling=np.asarray(spacing)[:2])


def voxels_of(subject: Subject, case: Case, *, memory_mb: float = 512.0) -> Voxels:
    """The labelled voxels of a case's reference stack near a true or segmented border.

    Args:
        subject: fitted to the case, or to some of its slices.
        case: provides the true labels.
        memory_mb: working memory, MiB.

    Raises:
        ValueError: no labelled voxel of the reference stack is near a border.
    """
    grid, truth = subject.stacks[0].grid, label_volume(case)
    classes, parts = len(subject.prior.anatomy.labels), []
    region = np.abs(subject.region.coordinates(grid.points())).max(-1) <= 1
    for t in sorted({s.frame for s in case.labelled() if s.stack == 0}):
        drawn = empty_rendering(
            grid.at_times([grid.times[t]]), 1, classes, probabilities=True, deviations=False
        )
        frame = Frame(drawn, 0, None)
        subject.raw_answers.fill(frame, grid, float(grid.times[t]), memory_mb=memory_mb)
        assert drawn.probability is not None
        before = drawn.probability[..., 0, :]
        barred = np.zeros((before[..., 0].size, classes), dtype=bool)
        if subject.islands != "keep":
            found = subject.island_map.at(t, frame.label, memory_mb=memory_mb)
            barred[found.index] = found.structures
        shown = without(before.reshape(-1, classes), barred).reshape(before.shape)
        removed = np.asarray(barred.any(1)).reshape(grid.shape)
        parts += _near_borders(truth[..., t], before, shown, removed, region, grid.spacing)
    if not parts:
        raise ValueError(f"{case.name}: no labelled voxel near a border")
    return Voxels.joined(parts)


def _near_borders(
    truth: Int[np.ndarray, "x y z"],
    before: Float[np.ndarray, "x y z k"],
    shown: Float[np.ndarray, "x y z k"],
    removed: Bool[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    spacing: Vector,
) -> list[Voxels]:
    """The labelled voxels near a border in each slice of one frame."""
    label, parts = shown.argmax(-1), []
    spans = [np.flatnonzero((label == k).any((0, 1))) for k in range(1, shown.shape[-1])]
    ends = {int(z) for span in spans if len(span) for z in (span[0], span[-1])}
    filled = np.concatenate(spans)
    for z in range(truth.shape[2]):
        own = border_mm(label[..., z], spacing)
        near = np.minimum(own, border_mm(truth[..., z], spacing)) <= NEAR_MM
        chosen = near & inside[..., z] & (truth[..., z] != UNKNOWN)
        if not chosen.any():
            continue
        end = z in ends or not len(filled) or not filled.min() <= z <= filled.max()
        parts.append(
            Voxels(
                shown[:, :, z][chosen],
                before[:, :, z][chosen],
                removed[:, :, z][chosen],
                truth[:, :, z][chosen].astype(np.int64),
                own[chosen],
                np.full(int(chosen.sum()), end),
            )
        )
    return parts


def fit_calibration(groups: Sequence[Voxels], *, most: int = 400_000, seed: int = 0) -> Calibration:
    """Fit the temperatures by maximum likelihood, and the weight of removed parts.

    Args:
        groups: groups of voxels with equal total weight, e.g. of given and of hidden slices.
        most: maximum number of voxels used from each group, drawn at random.
        seed: seed of the random draw.
    """
    random = np.random.default_rng(seed)
    drawn = [group.part(random.permutation(len(group.label))[:most]) for group in groups]
    weight = np.concatenate([np.full(len(g.label), 1 / len(g.label)) for g in drawn]) / len(drawn)
    voxels = Voxels.joined(drawn)
    kept = ~voxels.removed
    weights = _temperatures(voxels.part(kept), weight[kept] / weight[kept].sum())
    chosen = Calibration(tuple(weights))
    gone = voxels.part(voxels.removed)
    if not len(gone.label):
        return chosen
    rows = np.arange(len(gone.label))
    losses = [
        -np.log(
            np.maximum(
                Calibration(chosen.weights, share).doubted(gone.shown, gone.before)[rows, gone.label], LEAST
            )
        )
        @ weight[voxels.removed]
        for share in SHARES
    ]
    return Calibration(chosen.weights, float(SHARES[int(np.argmin(losses))]))


def _temperatures(voxels: Voxels, weight: Float[np.ndarray, "n"]) -> list[float]:
    """Weights of the log temperature that maximise the likelihood of the true classes."""
    features = temperature_features(voxels.shown)
    logits = np.log(np.maximum(voxels.shown, LEAST)).astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    rows = np.arange(len(logits))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope = features @ weights
        power = np.exp(-np.clip(slope, -STEEPEST, STEEPEST))
        odds = np.exp(logits * power[:, None])
        total = odds.sum(1)
        value = np.log(total) - power * logits[rows, voxels.label]
        # d/d power: the mean logit minus the true one; d power/d slope is minus the power.
        by_power = (odds * logits).sum(1) / total - logits[rows, voxels.label]
        gradient = features.T @ (weight * by_power * -power * (np.abs(slope) < STEEPEST))
        return float(weight @ value + DECAY * weights @ weights), gradient + 2 * DECAY * weights

    found = optimize.minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return [float(w) for w in found.x]


def calibrated(calibration: Calibration, voxels: Voxels) -> Float[np.ndarray, "n k"]:
    """Calibrated probabilities of voxels, as `nisf.subject.calibrated.Calibrated` gives them."""
    out = calibration.cooled(voxels.shown)
    gone = voxels.removed
    out[gone] = calibration.doubted(voxels.shown[gone], voxels.before[gone])
    return out


def reliabilities(probability: Float[np.ndarray, "n k"], voxels: Voxels) -> dict[str, Reliability]:
    """Reliability of all voxels, within 2 mm of a border, further inside, in end slices and in inner ones."""
    border = voxels.border_mm <= 2
    places = {
        "all": np.ones(len(border), dtype=bool),
        "border": border & ~voxels.end,
        "inside": ~border & ~voxels.end,
        "ends": voxels.end,
    }
    return {name: reliability(probability[chosen], voxels.label[chosen]) for name, chosen in places.items()}
