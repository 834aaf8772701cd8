"""Agreement of a segmentation with a reference: Dice, surface distances in mm, volumes in mL.

Conventions are those of MONAI 1.x, which the tests compare with: the surface of a mask is its voxels with a
face neighbour outside (beyond the array counts as outside), distances are between voxel centres, HD95 is the
larger of the two directed 95th percentiles, ASSD is the mean over both directed sets. Two cases that MONAI
does not handle are defined here:

- *unknown* voxels belong to neither side, so a face towards one is not a surface. The surface in a single
  labelled slice is therefore its outline. As a whole disc, its inside would have distance zero and make any
  result look good. Axes of one voxel are treated likewise;
- a structure that only one side has gets the diagonal of the volume as its distance, so that means over
  cases include it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from nisf.data.case import BACKGROUND, UNKNOWN
from nisf.types import Vector

Mask = Bool[np.ndarray, "x y z"]
LabelVolume = Integer[np.ndarray, "x y z"]
Labels = Any
"""Class indices as an array or a tensor."""
Distances = tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*m"]]


@dataclass(frozen=True)
class Score:
    """Agreement on one class in one volume (one frame of one case).

    Attributes:
        case: name of the case.
        phase: ``ED``, ``ES``, or the time as ``t=0.37``.
        frame: index into the reference stack's times.
        label: name of the class.
        dice: in [0, 1].
        hd95_mm: 95th percentile Hausdorff distance; the volume's diagonal if missed or spurious.
        assd_mm: average symmetric surface distance; likewise.
        volume_ml: predicted volume within the scored voxels.
        reference_ml: the reference's volume there.
        difference_ml: predicted minus reference.
        missed: the reference has the structure and the prediction has not.
        spurious: the prediction has the structure and the reference has not.
    """

    case: str
    phase: str
    frame: int
    label: str
    dice: float
    hd95_mm: float
    assd_mm: float
    volume_ml: float
    reference_ml: float
    difference_ml: float
    missed: bool
    spurious: bool


def dice(prediction: Bool[np.ndarray, "*size"], reference: Bool[np.ndarray, "*size"]) -> float:
    """Dice coefficient, twice the common voxels over all voxels of both; NaN if both are empty.

    Source: Dice, Ecology 26(3), 1945.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(prediction, reference)
    total = int(prediction.sum()) + int(reference.sum())
    return 2.0 * int((prediction & reference).sum()) / total if total else float("nan")


def dice_of_structures(predicted: Labels, label: Labels, classes: int) -> Float[np.ndarray, "structures"]:
    """Dice of each structure over n points of one subject (k - 1,); NaN where the reference has none.

    Args:
        predicted: class indices (n,), an array or a tensor.
        label: the reference's.
        classes: k, background included.
    """
    out = np.full(classes - 1, np.nan)
    for k in range(1, classes):
        a, b = predicted == k, label == k
        if b.any():
            out[k - 1] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    return out


def volume_ml(mask: Mask, spacing: Vector) -> float:
    """Volume of a mask in mL, at ``spacing`` mm per voxel."""
    return int(mask.sum()) * float(np.prod(np.asarray(spacing, dtype=np.float64))) / 1000.0


def diagonal_mm(shape: Sequence[int], spacing: Vector) -> float:
    """Diagonal between the outer corners of a volume, mm: longer than any distance inside it."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing, dtype=np.float64)))


def surface_distances(
    prediction: Mask,
    reference: Mask,
    spacing: Vector,
    *,
    known: Mask | None = None,
    outlines: bool = False,
) -> Distances:
    """Distance in mm of each surface voxel of one mask to the other mask's nearest, both ways.

    Args:
        prediction: (x, y, z) booleans, not empty where known.
        reference: (x, y, z) booleans, not empty where known.
        spacing: mm per voxel along x, y, z.
        known: where to score; everywhere if None.
        outlines: whether only the outline in each slice is a surface; otherwise the face where the structure
            ends is one too. Use it for part of a volume, whose first and last slice are not real ends.

    Returns:
        From the n surface voxels of the prediction, and from the m of the reference.

    Raises:
        ValueError: a mask is empty, the shapes differ, or the spacing is not three positive numbers.
    """
    _check_shapes(prediction, reference)
    sampling = np.asarray(spacing, dtype=np.float64)
    if sampling.shape != (3,) or not np.isfinite(sampling).all() or sampling.min() <= 0:
        raise ValueError(f"a spacing is three positive numbers of mm, not {list(spacing)}")
    if known is not None:
        _check_shapes(prediction, known)
        prediction, reference = prediction & known, reference & known
    if not prediction.any() or not reference.any():
        raise ValueError("no distance to an empty mask")
    # Only the union's bounding box plus one voxel (the neighbours that define a surface) matters.
    box = ndimage.find_objects((prediction | reference).view(np.uint8))[0]
    crop = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    inside = np.ones(prediction[crop].shape, dtype=bool) if known is None else known[crop]
    flat = tuple(size == 1 or (outlines and axis == 2) for axis, size in enumerate(prediction.shape))
    surfaces = [_surface(mask[crop], inside, flat) for mask in (prediction, reference)]
    first, second = surfaces
    to_second = ndimage.distance_transform_edt(~second, sampling=sampling)
    to_first = ndimage.distance_transform_edt(~first, sampling=sampling)
    return np.asarray(to_second)[first], np.asarray(to_first)[second]


def score_volume(
    prediction: LabelVolume,
    reference: LabelVolume,
    spacing: Vector,
    labels: Sequence[str],
    *,
    scored: Collection[str] | None = None,
    positions: Collection[int] | None = None,
    missing_mm: float | None = None,
    outlines: bool = False,
    case: str = "",
    phase: str = "",
    frame: int = 0,
) -> list[Score]:
    """Score the classes of one volume.

    Only voxels that the reference knows (not `UNKNOWN`) count, on both sides; with ``positions``, only
    these slices (e.g. the hidden ones). Distances are measured in 3D among the voxels that count.

    A reference without any background was drawn for some classes only: the readers set its 0 to unknown,
    because other classes may be hidden there. Then only classes drawn in this volume are scored, on all of
    their labelled slices; otherwise a prediction that is too large would not be penalised.

    Args:
        prediction: class indices (x, y, z).
        reference: class indices (x, y, z), `UNKNOWN` where unlabelled.
        spacing: mm per voxel along x, y, z.
        labels: class names by number.
        scored: names of the classes to score; all but the background if None.
        positions: indices along z to score; all if None.
        missing_mm: distance assigned to a structure that only one side has; the volume's diagonal if None.
        outlines: see `surface_distances`.
        case: recorded in the scores, like ``phase`` and ``frame``.

    Returns:
        One score per class that either side has, in the order of ``labels``.

    Raises:
        ValueError: the shapes differ, or a scored name is not among the labels.
    """
    _check_shapes(prediction, reference)
    wanted = set(labels[1:] if scored is None else scored) - {BACKGROUND}
    if not wanted <= set(labels):
        raise ValueError(f"{case}: cannot score {sorted(wanted - set(labels))}; labels are {list(labels)}")
    known, partly_drawn = _known(reference, positions)
    far = diagonal_mm(reference.shape, spacing) if missing_mm is None else missing_mm
    scores = []
    for number, name in enumerate(labels):
        ours, theirs = known & (prediction == number), known & (reference == number)
        has_ours, has_theirs = bool(ours.any()), bool(theirs.any())
        if name not in wanted or not (has_ours or has_theirs) or (partly_drawn and not has_theirs):
            continue
        hd95_mm = assd_mm = far
        if has_ours and has_theirs:
            distances = surface_distances(ours, theirs, spacing, known=known, outlines=outlines)
            hd95_mm, assd_mm = _hd95(distances), _assd(distances)
        volume, reference_ml = volume_ml(ours, spacing), volume_ml(theirs, spacing)
        numbers = (dice(ours, theirs), hd95_mm, assd_mm, volume, reference_ml, volume - reference_ml)
        scores.append(Score(case, phase, frame, name, *numbers, not has_ours, not has_theirs))
    return scores


def _known(reference: LabelVolume, positions: Collection[int] | None) -> tuple[Mask, bool]:
    """Voxels to score, and whether the annotators drew only some classes; see `score_volume`."""
    known = reference != UNKNOWN
    partly_drawn = not (reference == 0).any()
    if partly_drawn:
        known = np.broadcast_to(known.any(axis=(0, 1)), known.shape).copy()
    if positions is not None:
        known &= np.isin(np.arange(reference.shape[2]), list(positions))
    return known, partly_drawn


def _check_shapes(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(f"volumes to compare must have the same shape, not {first.shape} and {second.shape}")


def _surface(mask: Mask, known: Mask, flat: tuple[bool, ...]) -> Mask:
    """Voxels of ``mask`` with a known face neighbour outside it; ``flat`` axes have no border."""
    width = [(0, 0) if one else (1, 1) for one in flat]
    outside = np.pad(known & ~mask, width, constant_values=True)
    face = ndimage.generate_binary_structure(3, 1)
    for axis, one in enumerate(flat):
        if one:  # an axis of one voxel has no neighbours
            face &= np.expand_dims(np.array([False, True, False]), [a for a in range(3) if a != axis])
    touched = np.asarray(ndimage.binary_dilation(outside, face))
    surface = mask & touched[tuple(slice(None) if one else slice(1, -1) for one in flat)]
    # Completely enclosed by unknown voxels: the extent of the known voxels is used.
    return surface if surface.any() else mask


def _hd95(distances: Distances) -> float:
    """95th percentile Hausdorff distance, mm: the larger of both directed percentiles."""
    return max(float(np.percentile(directed, 95.0)) for directed in distances)


def _assd(distances: Distances) -> float:
    """Average symmetric surface distance, mm: the mean over the surface voxels of both masks.

    Source: Heimann et al., IEEE TMI 28(8), 2009, section IV-C.
    """
    return float(np.concatenate(distances).mean())
