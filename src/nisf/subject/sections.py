"""Sections: the part of a structure in one slice, and whether it is kept.

Near its end a structure either reaches a slice or does not, and a network trained on overlap draws a whole
section there on little evidence. The network's confidence in its most confident pixels separates real
sections from spurious ones. How far towards the base a ventricle is drawn is also a convention: `Enclosure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from nisf.data.anatomy import Anatomy

SUREST = 0.9
"""Quantile of a section's probabilities that defines its certainty."""


@dataclass(frozen=True)
class Enclosure:
    """The rule for basal slices: how much of a cavity's rim its wall must surround.

    The rule of the Society for Cardiovascular Magnetic Resonance for the left ventricle is one half
    (Schulz-Menger et al., J Cardiovasc Magn Reson 22:19, 2020).

    Attributes:
        cavity: class of the cavity.
        wall: class of its wall.
        least: minimum fraction of the cavity's rim that touches the wall.
    """

    cavity: int
    wall: int
    least: float


@dataclass(frozen=True)
class SectionRules:
    """Which sections of structures are kept.

    Attributes:
        certain: minimum certainty of a section of each structure, in the order of the classes, background
            excluded; 0, or an empty tuple, keeps all.
        enclosure: the rule for basal slices; None keeps the network's answer.
    """

    certain: tuple[float, ...] = ()
    enclosure: Enclosure | None = None


DRAWN_AS_ANSWERED = SectionRules()


def section_rules(anatomy: Anatomy, certain: tuple[float, ...], enclosed: float) -> SectionRules:
    """The rules that the settings define.

    Args:
        anatomy: names the cavity and its wall.
        certain: see `SectionRules`.
        enclosed: minimum enclosed fraction of a cavity's rim; 0, or no declared wall, means no such rule.
    """
    if not enclosed or anatomy.wall is None:
        return SectionRules(certain)
    cavity, wall = (anatomy.labels.index(name) for name in (anatomy.wall.cavity, anatomy.wall.wall))
    return SectionRules(certain, Enclosure(cavity, wall, enclosed))


def certainty(probability: Float[np.ndarray, "m"]) -> float:
    """Certainty of a section, from its class's probability at its m points."""
    return float(np.quantile(probability, SUREST))


def enclosed_part(section: Integer[np.ndarray, "x y"], enclosure: Enclosure) -> float:
    """Fraction of a cavity's rim in a slice that belongs to its wall; the rim is the pixels next to it."""
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
    """Bar a cavity and its wall in basal slices, from the base inwards up to the first enclosed slice.

    A cavity that is not enclosed in any slice is kept: then the wall is missing altogether.

    Args:
        label: class of each voxel.
        enclosure: the rule.
        out: what is barred; these sections are added.
        said: where a person marked a structure as present; a slice with such a voxel counts as enclosed.
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
    """Bar the section of one class in one slice, with a margin: it may be larger between slices."""
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
    """Voxels of sections that are not certain enough, with a margin around each.

    Args:
        label: class of each voxel, as the field gives it.
        certain: minimum certainty of a section of each structure, in the order of the classes, background
            excluded; 0 keeps all.
        ask: returns class probabilities of voxels, given their flat indices.
        said: where a person marked a structure as present; a section with such a voxel is kept.
    """
    out = np.zeros((*label.shape, len(certain) + 1), dtype=bool)
    sections: list[tuple[int, int]] = []
    voxels: list[np.ndarray] = []
    for k, least in enumerate(certain, start=1):
        for z in range(label.shape[2]) if least > 0 else ():
            pixel = np.argwhere(label[:, :, z] == k)
            if not len(pixel) or (said is not None and said[*pixel.T, z, k].any()):
                continue
            sections.append((k, z))
            voxels.append(np.ravel_multi_index((*pixel.T, np.full(len(pixel), z)), label.shape))
    if not sections:
        return out
    # One question for all sections: each costs a GPU about the same, however small it is.
    answers = np.split(ask(np.concatenate(voxels)), np.cumsum([len(flat) for flat in voxels])[:-1])
    for (k, z), probability in zip(sections, answers, strict=True):
        if certainty(probability[:, k]) < certain[k - 1]:
            _bar_section(label, z, k, out)
    return out
