"""Sections: what is seen of a structure in one slice, and whether it is drawn.

Near its end a structure either reaches a slice or does not, and a network that learns by overlap draws a
whole section there on little evidence. The network's confidence in its most confident pixels separates real
sections from spurious ones. How far up the ventricle is drawn is a convention besides: `Enclosure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from nisf.data.anatomy import Anatomy

SUREST = 0.9
"""Quantile of a section's probabilities that says how sure it is."""


@dataclass(frozen=True)
class Enclosure:
    """How much of a cavity has to be surrounded by its wall in a basal slice for the slice to count.

    The rule of the Society for Cardiovascular Magnetic Resonance for the left ventricle is one half
    (Schulz-Menger et al., J Cardiovasc Magn Reson 22:19, 2020).

    Attributes:
        cavity: class of the cavity.
        wall: class of its wall.
        least: the part of the cavity's rim, 0 to 1, that touches the wall at least.
    """

    cavity: int
    wall: int
    least: float


@dataclass(frozen=True)
class SectionRules:
    """Which sections of structures are drawn.

    Attributes:
        certain: least certainty of a section of each structure, in the order of the classes, background
            excluded; 0 draws all, and so does an empty one.
        enclosure: the rule for basal slices; None draws them as the network does.
    """

    certain: tuple[float, ...] = ()
    enclosure: Enclosure | None = None


DRAWN_AS_ANSWERED = SectionRules()


def section_rules(anatomy: Anatomy, certain: tuple[float, ...], enclosed: float) -> SectionRules:
    """The rules that settings ask for.

    Args:
        anatomy: says which cavity has which wall.
        certain: see `SectionRules`.
        enclosed: least enclosed part of a cavity's rim; 0 for no such rule, and none without a declared wall.
    """
    if not enclosed or anatomy.wall is None:
        return SectionRules(certain)
    cavity, wall = (anatomy.labels.index(name) for name in (anatomy.wall.cavity, anatomy.wall.wall))
    return SectionRules(certain, Enclosure(cavity, wall, enclosed))


def certainty(probability: Float[np.ndarray, "m"]) -> float:
    """How sure a section is, from its class's probability at its m places."""
    return float(np.quantile(probability, SUREST))


def enclosed_part(section: Integer[np.ndarray, "x y"], enclosure: Enclosure) -> float:
    """The part of a cavity's rim in a slice that belongs to its wall; the rim is the pixels beside it."""
    cavity = section == enclosure.cavity
    rim = ndimage.binary_dilation(cavity) & ~cavity
    return float((section[rim] == enclosure.wall).mean())


def _slices_from_base(label: Integer[np.ndarray, "x y z"], enclosure: Enclosure) -> Int[np.ndarray, "n"]:
    """Slices with a cavity, base first: the end at which cavity and wall together are larger."""
    area = ((label == enclosure.cavity) | (label == enclosure.wall)).sum((0, 1))
    reached = np.flatnonzero(area)
    half = len(reached) // 2
    order = np.flatnonzero((label == enclosure.cavity).any((0, 1)))
    base_first = half and area[reached[:half]].sum() >= area[reached[-half:]].sum()
    return order if base_first else order[::-1]


def open_at_base(
    label: Integer[np.ndarray, "x y z"],
    enclosure: Enclosure,
    out: Bool[np.ndarray, "x y z k"],
    said: Bool[np.ndarray, "x y z k"] | None = None,
) -> None:
    """Bar a cavity and its wall in basal slices, from the base inwards until one is enclosed enough.

    A cavity that is enclosed nowhere is left as it is: then the wall is missing, not the valve in view.

    Args:
        label: class of each voxel.
        enclosure: the rule.
        out: what is barred; these sections are added.
        said: where somebody has said that a structure is; a slice with such a voxel is enclosed enough.
    """
    order = _slices_from_base(label, enclosure)
    both = [enclosure.cavity, enclosure.wall]
    drawn = [
        (said is not None and bool(said[:, :, z, both].any()))
        or enclosed_part(label[:, :, z], enclosure) >= enclosure.least
        for z in order
    ]
    if True not in drawn:
        return
    for z in order[: drawn.index(True)]:
        for k in both:
            _bar_section(label, int(z), k, out)


def _bar_section(
    label: Integer[np.ndarray, "x y z"], z: int, k: int, out: Bool[np.ndarray, "x y z k"]
) -> None:
    """Bar the section of one class in one slice, with room: between slices it may be larger than there."""
    pixel = np.argwhere(label[:, :, z] == k)
    if not len(pixel):
        return
    first, last = pixel.min(0), pixel.max(0)
    room = 2 + (last - first) // 2
    x, y = (slice(a, b) for a, b in zip((first - room).clip(0), last + room + 1, strict=True))
    out[x, y, z, k] = True


def doubtful(
    label: Integer[np.ndarray, "x y z"],
    certain: Sequence[float],
    ask: Callable[[Int[np.ndarray, "m"]], Float[np.ndarray, "m k"]],
    said: Bool[np.ndarray, "x y z k"] | None = None,
) -> Bool[np.ndarray, "x y z k"]:
    """Where structures have sections that are less sure than they should be; with room around each.

    Args:
        label: class of each voxel, as the field answers.
        certain: least certainty of a section of each structure, in the order of the classes, background
            excluded; 0 draws all.
        ask: class probabilities of voxels, by their flat indices.
        said: where somebody has said that a structure is; a section with such a voxel is not doubted.
    """
    out = np.zeros((*label.shape, len(certain) + 1), dtype=bool)
    for k, least in enumerate(certain, start=1):
        for z in range(label.shape[2]) if least > 0 else ():
            pixel = np.argwhere(label[:, :, z] == k)
            if not len(pixel) or (said is not None and said[*pixel.T, z, k].any()):
                continue
            flat = np.ravel_multi_index((*pixel.T, np.full(len(pixel), z)), label.shape)
            if certainty(ask(flat)[:, k]) < least:
                _bar_section(label, z, k, out)
    return out
