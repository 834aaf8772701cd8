"""Measure one case."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from nisf.data.arrangement import MIRRORED
from nisf.data.case import Case
from nisf.data.geometry import Grid, nearest_frame
from nisf.data.scratch import by_frame
from nisf.errors import BadSettingError
from nisf.measures.body import surface_of
from nisf.measures.curve import VolumeCurve, choose_phases
from nisf.measures.formulas import SHAPES, Shapes, values_of
from nisf.measures.lattice import Lattice, Sampled, sample
from nisf.measures.shape import extent_mm, surface_mm2
from nisf.measures.wall import Wall, measure_wall
from nisf.stopwatch import stage
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class MeasureOptions:
    """The user's settings for the measures of a case.

    Attributes:
        frames: frame of the reference stack, counted from 0, by name of the phase.
        body_m2: body surface area.
        spacing_mm: spacing of the lattice; see `nisf.measures.lattice.SPACING_MM`.
    """

    frames: Mapping[str, int] = field(default_factory=dict)
    body_m2: float | None = None
    spacing_mm: float | None = None


@dataclass(frozen=True, eq=False)
class CaseMeasures:
    """The measures of one case: its row of ``measures.csv``, and more.

    Attributes:
        case: its name.
        values: each measure by column name, which ends with the unit; None where it is unknown.
        intervals: lower and upper end of the 90 % interval of the measures that have one, by column name.
        phases: times of the named phases, as fractions of the cycle.
        curve: volumes over the cycle.
        band_ml: half width of the 90 % band of each structure's curve, at the curve's times, mL (t,).
        wall: thickness of a wall by segment; None if the anatomy has none or it could not be measured.
        body_m2: body surface area.
        quality: ``green``, ``amber`` or ``red``.
        predicted_dice: mean over the structures.
        reasons: reasons for the quality.
        notes: remarks on the measures, for the user.
    """

    case: str
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    curve: VolumeCurve | None = None
    band_ml: Mapping[str, Float[np.ndarray, "t"]] = field(default_factory=dict)
    wall: Wall | None = None
    body_m2: float | None = None
    quality: str | None = None
    predicted_dice: float | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Measuring:
    """Measures a subject while it is rendered: each frame just after its slices have been encoded.

    Args:
        subject: the subject to measure, at the times of its reference stack; without one, at the named
            phases from its files.
        options: the user's settings.
        memory_mb: working memory, MiB.

    Raises:
        BadSettingError: a given phase is not one of the anatomy's, or its frame does not exist.
    """

    def __init__(
        self, subject: Subject, options: MeasureOptions | None = None, *, memory_mb: float = 512.0
    ) -> None:
        self.subject, self.options, self.memory_mb = subject, options or MeasureOptions(), memory_mb
        self.anatomy = subject.prior.anatomy
        self.said = {name: float(time) for name, time in said_of(subject).get("phases", {}).items()}
        self.times = (
            subject.stacks[0].grid.times if subject.stacks else np.unique([*self.said.values()] or [0.0])
        )
        self.asked = self._asked()
        self._lock = threading.Lock()
        self._volumes: dict[int, np.ndarray] = {}
        self._kept: dict[int, Sampled] = {}

    def _asked(self) -> dict[str, float]:
        """The phases given by the user, as fractions of the cycle."""
        out = {}
        for name, frame in self.options.frames.items():
            if name not in self.anatomy.phase_names:
                raise BadSettingError(f"{self.subject.name}: its anatomy has no phase {name}")
            if not 0 <= frame < len(self.times):
                raise BadSettingError(
                    f"{self.subject.name}: {name} was given as frame {frame}, but the frames are 0 to "
                    f"{len(self.times) - 1}",
                    options=[name.lower()],
                )
            out[name] = float(self.times[frame])
        if len(set(out.values())) < len(out):
            raise BadSettingError(
                f"{self.subject.name}: {' and '.join(out)} were given as the same frame; give different ones",
                options=[name.lower() for name in out],
            )
        return out

    @cached_property
    def lattice(self) -> Lattice:
        """The lattice on which the field is integrated."""
        return Lattice.over(self.subject.region, self.subject.reference_stack, self.options.spacing_mm)

    def frame(self, t: int) -> None:
        """Measure one frame of the reference stack; safe to call from several threads."""
        if t in self._volumes:
            return
        with stage("measuring"):
            sampled = sample(
                self.subject.answers, self.lattice, float(self.times[t]), memory_mb=self.memory_mb
            )
            with self._lock:
                self._volumes[t] = sampled.volumes_ml()
                self._kept[t] = sampled
                wanted = self._wanted()
                self._kept = {frame: kept for frame, kept in self._kept.items() if frame in wanted}

    def _wanted(self) -> set[int]:
        """Frames whose nodes are kept.

        Those of the given phases, those of the extreme volumes so far, and the first for shapes at no phase.
        """
        given, first = {**self.said, **self.asked}, int(self.times.argmin())
        out = {nearest_frame(self.times, time) for time in given.values()}
        if any(rule.rule in SHAPES and rule.phase is None for rule in self.anatomy.measures):
            out.add(first)
        by = (self.anatomy.phases or {}).get("by")
        if by not in self.anatomy.labels[1:]:
            return {*out, first}
        k = self.anatomy.labels.index(by) - 1
        drawn = {t: volumes[k] for t, volumes in self._volumes.items() if volumes[k]}
        extreme = {max(drawn, key=drawn.__getitem__), min(drawn, key=drawn.__getitem__)} if drawn else set()
        return out | (extreme or {first})

    def finish(self, rendering: Rendering | None = None) -> CaseMeasures:
        """Return the measures, after measuring the frames that remain.

        Args:
            rendering: on the reference stack's grid, for the summation of slices; rendered here if None.
        """
        if rendering is None and self.subject.stacks:
            rendering = self.subject.render(memory_mb=self.memory_mb, after_frame=self.frame)
        for t in range(len(self.times)):
            self.frame(t)
        with stage("measuring"):
            return self._finished(rendering)

    def _finished(self, rendering: Rendering | None) -> CaseMeasures:
        names = self.anatomy.labels[1:]
        order = np.argsort(self.times, kind="stable")
        field_ml = np.stack([self._volumes[t] for t in range(len(self.times))])
        slices_ml = None
        if rendering is not None:
            slices_ml = slice_volumes_ml(rendering.label, rendering.grid, len(names))
        curve = VolumeCurve(
            self.times[order],
            {name: field_ml[order, k] for k, name in enumerate(names)},
            {} if slices_ml is None else {name: slices_ml[order, k] for k, name in enumerate(names)},
            self.subject.stacks[0].cycle_ms if self.subject.stacks else None,
        )
        phases, notes = choose_phases(self.anatomy, curve, self.said, self.asked)
        body, body_notes = self._body()
        wall, wall_notes = self._wall(phases)
        values = values_of(self.anatomy, curve, phases, shapes=self._shapes(phases), body_m2=body)
        return CaseMeasures(
            self.subject.name,
            values,
            phases=phases,
            curve=curve,
            wall=wall,
            body_m2=body,
            notes=(*notes, *body_notes, *wall_notes),
        )

    def _near(self, time: float) -> Sampled:
        """The nodes at the kept frame nearest to a time."""
        frames = np.array(sorted(self._kept))
        return self._kept[int(frames[nearest_frame(self.times[frames], time)])]

    def _shapes(self, phases: Mapping[str, float]) -> Shapes:
        """Surfaces and extents of the structures for which the anatomy declares them."""
        out = {}
        for rule in self.anatomy.measures:
            known = rule.phase is None or rule.phase in phases
            if rule.rule not in SHAPES or rule.structure is None or not known:
                continue
            time = float(self.times.min()) if rule.phase is None else phases[rule.phase]
            key, sampled = (rule.structure, rule.phase), self._near(time)
            if key not in out:
                mask = sampled.label == self.anatomy.labels.index(rule.structure)
                out[key] = (
                    surface_mm2(mask, sampled.lattice.spacing_mm),
                    extent_mm(mask, sampled.lattice.affine),
                )
        return out

    def _wall(self, phases: Mapping[str, float]) -> tuple[Wall | None, list[str]]:
        rule = self.anatomy.wall
        if rule is None or rule.phase not in phases:
            return None, []
        if not self.subject.stacks:
            return None, ["no wall thickness: the case has no slices, which give the direction of the axis"]
        at = {name: self._near(phases[name]) for name in (rule.phase, rule.to) if name in phases}
        mirrored = self.subject.summary.get("turned") == MIRRORED
        return measure_wall(rule, self.anatomy, at, self.subject.stacks[0], mirrored=mirrored)

    def _body(self) -> tuple[float | None, list[str]]:
        """Body surface area: given by the user, or from height and weight in the files."""
        if self.options.body_m2 is not None:
            return self.options.body_m2, []
        said = {name: str(said_of(self.subject).get(name, "")).strip() for name in ("height_cm", "weight_kg")}
        if not any(said.values()):
            return None, []
        nothing = "no measures indexed to body surface area: "
        try:
            height, weight = (float(text) for text in said.values())
        except ValueError:
            told = " and ".join(f"{name} {text[:40]!r}" for name, text in said.items())
            return None, [f"{nothing}the files give {told}, but two numbers are needed"]
        try:
            return surface_of(height, weight, "the files"), []
        except BadSettingError as error:
            return None, [f"{nothing}{error}"]


def said_by(case: Case) -> dict[str, Any]:
    """Metadata of a case's files that measures need; its subject keeps them, see `said_of`."""
    said: dict[str, Any] = {"phases": {name: float(time) for name, time in case.phases.items()}}
    return said | {key: case.attributes[key] for key in ("height_cm", "weight_kg") if key in case.attributes}


def said_of(subject: Subject) -> Mapping[str, Any]:
    """Metadata from the case's files, kept when it was fitted: phases, height, weight."""
    said = subject.summary.get("said", {})
    return said if isinstance(said, Mapping) else {}


def slice_volumes_ml(
    label: Integer[np.ndarray, "x y z t"], grid: Grid, structures: int
) -> Float[np.ndarray, "t s"]:
    """Volumes by summation of slices, mL: voxels times their volume, including gaps between slices.

    Args:
        label: class of each voxel.
        grid: grid of the measured stack.
        structures: number of structures; classes are 1 to this number.
    """
    counts = [np.bincount(frame.ravel(order="K"), minlength=structures + 1) for _, frame in by_frame(label)]
    return np.stack(counts)[:, 1 : structures + 1] * grid.voxel_ml


def measure(
    subject: Subject,
    options: MeasureOptions | None = None,
    *,
    rendering: Rendering | None = None,
    memory_mb: float = 512.0,
) -> CaseMeasures:
    """Compute all measures that the anatomy declares, for one subject.

    Args:
        subject: the subject to measure.
        options: the user's settings.
        rendering: on the reference stack's grid, if there is one already.
        memory_mb: working memory, MiB.

    Raises:
        BadSettingError: an option does not fit the case.
    """
    return Measuring(subject, options, memory_mb=memory_mb).finish(rendering)
