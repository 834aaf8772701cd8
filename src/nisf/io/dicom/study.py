"""A study: its series, the one that is used, and its display name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nisf.errors import BadFileError
from nisf.io.dicom.guess import SHORT_AXIS
from nisf.io.dicom.names import Identifiers
from nisf.io.dicom.scan import Instance, Scan, scan
from nisf.io.dicom.series import DicomSeries, group, only_volume, short_axis


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """The series of one study.

    Attributes:
        name: name of the folder or archive, without identifiers.
        place: the same name unchanged.
        wanted: number or description of the series to use; None for the short-axis stack, or the only series.
        cine: whether the anatomy beats, so that the short-axis stack is looked for.
        body: height and weight, as far as the headers contain them.
        identifiers: what must not be shown.
        person: patient's name, ID and date of the study.
    """

    name: str
    place: str
    series: tuple[DicomSeries, ...]
    identifiers: Identifiers = field(repr=False)
    person: dict[str, str] = field(repr=False)
    wanted: str | None = None
    cine: bool = True
    body: Mapping[str, str] = field(default_factory=dict)

    def chosen(self) -> DicomSeries:
        """The series to use.

        Raises:
            BadFileError: there is none, or the requested one is missing or ambiguous.
        """
        fitting = self._fitting() if self.wanted is not None else []
        if self.wanted is None:
            found = short_axis(self.series) if self.cine else only_volume(self.series)
            if found is not None:
                return self._noting_others(found) if self.cine else found
            what = "no short-axis stack among its series" if self.cine else "not just one volume in it"
        elif len(fitting) == 1:
            return fitting[0]
        else:
            what = f"{len(fitting) or 'none'} of its series fit '{self.identifiers.hide(self.wanted)}'"
        listed = "; ".join(f"{one.number} {one.description or one.guess.shows}" for one in self.series)
        raise BadFileError(
            f"{self.name}: {what}; name one by its number or description: {listed}", options=["series"]
        )

    def _noting_others(self, chosen: DicomSeries) -> DicomSeries:
        """The chosen series, with a note that names other short-axis stacks of as many frames."""
        others = [
            one.number
            for one in self.series
            if one is not chosen and one.guess.shows == SHORT_AXIS and one.weight[0] == chosen.weight[0]
        ]
        if not others:
            return chosen
        note = f"also short-axis stacks: {', '.join(others)}, which are not used; name one to use it instead"
        return replace(chosen, notes=(*chosen.notes, note))

    def listed(self) -> list[dict[str, Any]]:
        """Each series, with a guess of what it shows and why, and whether it is used; as JSON."""
        try:
            chosen = self.chosen()
        except BadFileError:
            chosen = None
        return [
            {
                "number": one.number,
                "joined": list(one.numbers),
                "description": one.description,
                "modality": one.modality,
                "pixels": [one.instances[0].columns, one.instances[0].rows],
                "slices": one.positions,
                "frames": one.frames,
                "guess": one.guess.shows,
                "why": one.guess.why,
                "taken": chosen is not None and one.number == chosen.number,
            }
            for one in self.series
        ]

    def taken(self) -> tuple[Instance, ...]:
        """Images of the chosen series, or all images if none can be chosen."""
        try:
            return self.chosen().instances
        except BadFileError:
            return tuple(one for series in self.series for one in series.instances)

    def files(self) -> tuple[Path, ...]:
        """The files of these images."""
        return tuple(sorted({one.entry.path for one in self.taken()}))

    def wanting(self, series: str) -> DicomStudy:
        """The same study with another requested series."""
        return replace(self, wanted=series)

    def _fitting(self) -> list[DicomSeries]:
        wanted = (self.wanted or "").strip().lower()
        ways = (
            lambda one: one.number == wanted,
            lambda one: wanted in one.numbers,
            lambda one: one.description.lower() == wanted,
            lambda one: bool(wanted) and wanted in one.description.lower(),
            lambda one: one.guess.shows.lower() == wanted,
        )
        for way in ways:
            if found := [one for one in self.series if way(one)]:
                return found
        return []


def identified(found: Sequence[DicomStudy]) -> list[DicomStudy]:
    """The same studies, without hiding anything."""
    taken: set[str] = set()
    nothing = Identifiers(None)
    return [
        replace(
            study,
            name=_unlike(study.place, taken),
            identifiers=nothing,
            series=tuple(
                replace(series, description=series.instances[0].description.strip())
                for series in study.series
            ),
        )
        for study in found
    ]


def studies(root: Path) -> tuple[list[DicomStudy], Scan]:
    """The studies in a folder, zip or file, and the scan that found them.

    Raises:
        BadFileError: pydicom is missing; an archive cannot be read.
    """
    found = scan(root)
    by_uid: dict[str, list[Instance]] = {}
    for one in found.instances:
        by_uid.setdefault(one.study_uid, []).append(one)
    places = _places(root, list(by_uid.values()))
    out: list[DicomStudy] = []
    taken: set[str] = set()
    for (uid, instances), place in zip(by_uid.items(), places, strict=True):
        name = _unlike(found.identifiers.plain(place) or "study", taken)
        series = tuple(group(instances, found.identifiers))
        body = found.bodies.get(uid, {})
        out.append(DicomStudy(name, place, series, found.identifiers, found.people.get(uid, {}), body=body))
    return out, found


def _places(root: Path, groups: list[list[Instance]]) -> list[str]:
    """For each study, the topmost folder or archive that holds no other study; else the root, numbered."""
    parts = [[_parts(root, one) for one in instances] for instances in groups]
    if len(groups) == 1:
        return [parts[0][0][0]]
    places: list[str] = []
    for index, mine in enumerate(parts):
        others = {path[: len(path) - 1] for k, other in enumerate(parts) if k != index for path in other}
        for depth in range(1, min(map(len, mine))):
            tops = {path[: depth + 1] for path in mine}
            if len(tops) == 1 and not any(path[: depth + 1] in tops for path in others):
                places.append(next(iter(tops))[-1])
                break
        else:
            places.append(mine[0][0])
    return _numbered(places)


def _parts(root: Path, one: Instance) -> tuple[str, ...]:
    """The root's name, then the folders below it; archives count as folders, without ``.zip``."""
    path = one.entry.path
    inside = path.relative_to(root).parts if root.is_dir() else ()
    top = (root.resolve().name if root.is_dir() else root.stem,)
    if one.entry.member is None:
        return (*top, *inside) if root.is_dir() else (*top, root.name)
    archive = (*inside[:-1], path.stem) if inside else ()
    return (*top, *archive, *(part for part in one.entry.member.split("/") if part))


def _numbered(names: list[str]) -> list[str]:
    return [
        name if names.count(name) == 1 else f"{name}-{names[:index].count(name) + 1}"
        for index, name in enumerate(names)
    ]


def _unlike(name: str, taken: set[str]) -> str:
    """A unique name that can be used in file names."""
    name = "".join("-" if sign in '/\\\0:*?"<>|' else sign for sign in name).strip(". ") or "study"
    unlike, count = name, 1
    while unlike.lower() in taken:
        count += 1
        unlike = f"{name}-{count}"
    taken.add(unlike.lower())
    return unlike
