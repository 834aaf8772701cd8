"""Group DICOM images into stacks; series that a scanner split are joined again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nisf.io.dicom.frames import in_turn
from nisf.io.dicom.guess import OTHER, SHORT_AXIS, Guess, guess
from nisf.io.dicom.names import Identifiers
from nisf.io.dicom.scan import Instance

PARALLEL = float(np.cos(np.radians(1.0)))


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """Images that form one stack.

    Attributes:
        number: display number: the scanner's, with a dot and a count if one series became several.
        numbers: numbers of all series that were joined.
        description: without identifiers and dates.
        instances: its images, in any order, with their files and UIDs.
        positions: number of parallel slices.
        frames: usual number of images at a position.
        notes: remarks to show when it is used.
    """

    number: str
    numbers: tuple[str, ...]
    description: str
    modality: str
    instances: tuple[Instance, ...]
    positions: int
    frames: int
    guess: Guess
    notes: tuple[str, ...] = field(default=())

    @property
    def placed(self) -> bool:
        """Whether its headers give its position in the patient."""
        return self.instances[0].place is not None and self.instances[0].axes is not None

    @property
    def weight(self) -> tuple[bool, int]:
        """Order of preference among several: cines first, then by number of images."""
        return self.frames > 1, len(self.instances)


def group(instances: Sequence[Instance], identifiers: Identifiers) -> list[DicomSeries]:
    """The series of one study, by number."""
    groups: list[list[Instance]] = []
    by_key: dict[tuple[object, ...], list[list[Instance]]] = {}
    for one in instances:
        beside = by_key.setdefault(_key(one), [])
        for found in beside:
            if _parallel(found[0], one):
                found.append(one)
                break
        else:
            beside.append([one])
            groups.append(beside[-1])
    groups.sort(key=lambda found: (found[0].series_number or 0, -len(found)))
    groups = _joined(groups)
    sharing = Counter(number for found in groups for number in _numbers(found)[:1])
    counted: Counter[str] = Counter()
    out = []
    for found in groups:
        numbers = _numbers(found)
        number = numbers[0]
        if sharing[number] > 1:
            counted[number] += 1
            number = f"{number}.{counted[number]}"
        out.append(_series(found, number, numbers, groups, identifiers))
    return out


def positions_of(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Images by position along the normal, in its direction; all must be parallel and have positions."""
    normal = instances[0].normal
    assert normal is not None
    along = [float(normal @ one.place) for one in instances if one.place is not None]
    thickness = instances[0].thickness or 0.0
    tolerance = min(max(0.1 * thickness, 0.01), 0.5)
    out: list[list[Instance]] = []
    last = -np.inf
    for index in np.argsort(along, kind="stable"):
        if along[index] - last > tolerance:
            out.append([])
            last = along[index]
        out[-1].append(instances[index])
    return out


def _key(one: Instance) -> tuple[object, ...]:
    spacing = tuple(round(size, 3) for size in one.spacing)
    placed = one.place is not None and one.axes is not None
    echo = None if one.echo is None else round(one.echo, 2)
    return one.series_uid, one.image_type, one.columns, one.rows, spacing, placed, echo, one.colour


def _parallel(a: Instance, b: Instance) -> bool:
    if a.axes is None or b.axes is None:
        return a.axes is b.axes
    return bool((np.sum(a.axes * b.axes, axis=1) > PARALLEL).all())


def _numbers(found: list[Instance]) -> tuple[str, ...]:
    numbers = sorted({one.series_number for one in found if one.series_number is not None})
    return tuple(str(number) for number in numbers) or ("0",)


def _places(found: list[Instance]) -> list[list[Instance]]:
    placed = found[0].place is not None and found[0].axes is not None
    return positions_of(found) if placed else [found]


def _frames(places: list[list[Instance]]) -> int:
    return Counter(len({one.identity for one in images}) for images in places).most_common(1)[0][0]


def _plain(description: str) -> str:
    """A description without its numbers, which is common to the parts of a split series."""
    return re.sub(r"[\W\d_]+", " ", description.lower()).strip()


def _joined(groups: list[list[Instance]]) -> list[list[Instance]]:
    """Join groups that form a stack only together."""
    out: list[list[Instance]] = []
    for found in groups:
        for other in out:
            if _one_stack(other, found):
                other.extend(found)
                break
        else:
            out.append(list(found))
    return out


def _one_stack(a: list[Instance], b: list[Instance]) -> bool:
    """Whether two groups are parts of one stack: similar, parallel, and adjacent or consecutive."""
    first, second = a[0], b[0]
    placed = first.place is not None and first.axes is not None and second.place is not None
    if not placed or first.series_uid == second.series_uid:
        return False
    # In some anonymised data each image has a frame of reference of its own, which says nothing.
    spaces = [{one.space_uid for one in group} for group in (a, b)]
    if spaces[0] != spaces[1] and all(len(found) == 1 for found in spaces):
        return False
    if _key(first)[1:] != _key(second)[1:] or not _parallel(first, second):
        return False
    if _plain(first.description) != _plain(second.description):
        return False
    both = _places(a + b)
    mine = {id(one) for one in a}
    parts = [
        ([one for one in images if id(one) in mine], [one for one in images if id(one) not in mine])
        for images in both
    ]
    shared = [part for part in parts if part[0] and part[1]]
    if shared and all(in_turn(part) for part in shared):
        return True
    own, others = _places(a), _places(b)
    if abs(_frames(own) - _frames(others)) > 0.2 * max(_frames(own), _frames(others)):
        return False
    return len(others) < 3 or 2 * len(shared) < min(len(own), len(others))


def _series(
    found: list[Instance],
    number: str,
    numbers: tuple[str, ...],
    groups: list[list[Instance]],
    identifiers: Identifiers,
) -> DicomSeries:
    first = found[0]
    places = _places(found)
    frames = _frames(places)
    description = identifiers.plain(first.description)
    normal = first.normal if first.place is not None else None
    notes = []
    for other in groups:
        beside = other is not found and {one.series_uid for one in other} & {one.series_uid for one in found}
        if beside and len(other) <= len(found) and _parallel(first, other[0]) and first.echo == other[0].echo:
            size = f"{other[0].columns} x {other[0].rows}"
            if other[0].image_type == first.image_type and not other[0].colour:
                notes.append(
                    f"{len(other)} images of {size} pixels beside {len(found)} of {first.columns} x "
                    f"{first.rows}: only the latter are used"
                )
    guessed = guess(description, normal, len(places), frames, first.modality)
    if first.colour:
        guessed = Guess(OTHER, "colour")
    return DicomSeries(
        number, numbers, description, first.modality, tuple(found), len(places), frames, guessed, tuple(notes)
    )


def short_axis(series: Sequence[DicomSeries]) -> DicomSeries | None:
    """The short-axis stack of a study, of several the one with most images; its only series if it has one."""
    stacks = [one for one in series if one.guess.shows == SHORT_AXIS]
    if stacks:
        return max(stacks, key=lambda one: one.weight)
    only = series[0] if len(series) == 1 else None
    return only if only is not None and only.guess.shows == OTHER and only.placed else None


def only_volume(series: Sequence[DicomSeries]) -> DicomSeries | None:
    """The only series with several slices whose positions are known; of a single series, that one."""
    volumes = [one for one in series if one.placed and one.positions > 1 and not one.instances[0].colour]
    return volumes[0] if len(volumes) == 1 else series[0] if len(series) == 1 else None
