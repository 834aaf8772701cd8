"""All that is measured of one case."""

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
from nisf.errors import MALFORMED, BadSettingError
from nisf.measures.body import surface_of
from nisf.measures.curve import VolumeCurve, choose_phases
from nisf.measures.formulas import Shapes, values_of
from nisf.measures.lattice import Lattice, Sampled, sample
from nisf.measures.shape import extent_mm, surface_mm2
from nisf.measures.wall import Wall, measure_wall
from nisf.stopwatch import stage
from nisf.subject.rendering import Rendering
from nisf.subject.subject import Subject


@dataclass(frozen=True)
class MeasureOptions:
    """What the user says about a case.

    Attributes:
        frames: name of a phase to its frame of the reference stack, counted from 0.
        body_m2: body surface.
        spacing_mm: of the lattice; see `nisf.measures.lattice.SPACING_MM`.
    """

    frames: Mapping[str, int] = field(default_factory=dict)
    body_m2: float | None = None
    spacing_mm: float | None = None


@dataclass(frozen=True, eq=False)
class CaseMeasures:
    """The measures of one case: a row of ``measures.csv`` and more.

    Attributes:
        case: its name.
        values: each measure by the name of its column, which ends with the unit; None where it is not known.
        intervals: the low and high end of the 90 % interval of measures that have one, by the same names.
        phases: the times that the measures are of, as fractions of the cycle, by name.
        curve: volumes over the cycle.
        band_ml: structure to half the width of its curve's 90 % band at the curve's times, mL (t,).
        wall: thickness of a wall by segment; None if the anatomy has none, or it could not be measured.
        body_m2: body surface.
        quality: ``green``, ``amber`` or ``red``.
        predicted_dice: mean over the structures.
        reasons: why the quality is what it is.
        notes: what is to be said about the measures.
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
    """Measures a subject while it is rendered: each frame when its slices have just been encoded.

    Args:
        subject: to be measured, at the times of its reference stack.
        options: what the user says.
        memory_mb: working memory, MiB.

    Raises:
        BadSettingError: a phase is at a frame that the case does not have, or is not one of the anatomy.
    """

    def __init__(
        self, subject: Subject, options: MeasureOptions | None = None, *, memory_mb: float = 512.0
    ) -> None:
        self.subject, self.options, self.memory_mb = subject, options or MeasureOptions(), memory_mb
        self.anatomy = subject.prior.anatomy
        self.times = subject.stacks[0].grid.times if subject.stacks else np.zeros(1)
        self.asked = self._asked()
        self.said = {name: float(time) for name, time in said_of(subject).get("phases", {}).items()}
        self._lock = threading.Lock()
        self._volumes: dict[int, np.ndarray] = {}
        self._kept: dict[int, Sampled] = {}

    def _asked(self) -> dict[str, float]:
        """The phases that the user gives, as fractions of the cycle."""
        out = {}
        for name, frame in self.options.frames.items():
            if name not in self.anatomy.phase_names:
                raise BadSettingError(f"{self.subject.name}: its anatomy has no phase {name}")
            if not 0 <= frame < len(self.times):
                raise BadSettingError(
                    f"{self.subject.name}: {name} is said to be frame {frame}, and it has the frames 0 to "
                    f"{len(self.times) - 1}",
                    options=[name.lower()],
                )
            out[name] = float(self.times[frame])
        return out

    @cached_property
    def lattice(self) -> Lattice:
        """Where the field is asked."""
        stack = self.subject.stacks[0] if self.subject.stacks else None
        return Lattice.over(self.subject.region, stack, self.options.spacing_mm)

    def frame(self, t: int) -> None:
        """Measure one frame of the reference stack; several threads may do so at once."""
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
        """Frames whose nodes are kept: those of the given phases, and of the extreme volumes so far."""
        given = {**self.said, **self.asked}
        out = {nearest_frame(self.times, time) for time in given.values()}
        by = (self.anatomy.phases or {}).get("by")
        if by not in self.anatomy.labels[1:]:
            return {*out, min(self._volumes)}
        k = self.anatomy.labels.index(by) - 1
        drawn = {t: volumes[k] for t, volumes in self._volumes.items() if volumes[k]}
        extreme = {max(drawn, key=drawn.__getitem__), min(drawn, key=drawn.__getitem__)} if drawn else set()
        return out | (extreme or {min(self._volumes)})

    def finish(self, rendering: Rendering | None = None) -> CaseMeasures:
        """The measures, after each frame that was not measured before has been.

        Args:
            rendering: on the reference stack's own grid, for the summation of slices; made anew if None.
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
        """The nodes at the kept frame that is nearest to a time."""
        frames = np.array(sorted(self._kept))
        return self._kept[int(frames[nearest_frame(self.times[frames], time)])]

    def _shapes(self, phases: Mapping[str, float]) -> Shapes:
        """Surfaces and extents of the structures that the anatomy asks for."""
        out = {}
        for rule in self.anatomy.measures:
            known = rule.phase is None or rule.phase in phases
            if rule.rule not in ("surface", "extent") or rule.structure is None or not known:
                continue
            time = float(self.times[0]) if rule.phase is None else phases[rule.phase]
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
        at = {name: self._near(phases[name]) for name in (rule.phase, rule.to) if name in phases}
        mirrored = self.subject.summary.get("turned") == MIRRORED
        return measure_wall(rule, self.anatomy, at, self.subject.stacks[0], mirrored=mirrored)

    def _body(self) -> tuple[float | None, list[str]]:
        """Body surface: what the user says, else from height and weight in the files."""
        if self.options.body_m2 is not None:
            return self.options.body_m2, []
        said = said_of(self.subject)
        try:
            height, weight = float(said["height_cm"]), float(said["weight_kg"])
        except MALFORMED:
            return None, []
        try:
            return surface_of(height, weight, "the files"), []
        except BadSettingError as error:
            return None, [f"no measures by body surface: {error}"]


def said_by(case: Case) -> dict[str, Any]:
    """What a case's files say that measures need; its subject keeps it, see `said_of`."""
    said: dict[str, Any] = {"phases": {name: float(time) for name, time in case.phases.items()}}
    return said | {key: case.attributes[key] for key in ("height_cm", "weight_kg") if key in case.attributes}


def said_of(subject: Subject) -> Mapping[str, Any]:
    """What the case's files said about it when it was fitted: phases, height, weight."""
    said = subject.summary.get("said", {})
    return said if isinstance(said, Mapping) else {}


def slice_volumes_ml(
    label: Integer[np.ndarray, "x y z t"], grid: Grid, structures: int
) -> Float[np.ndarray, "t s"]:
    """Volumes by summation of slices: voxels times their volume, gaps between the slices included, mL.

    Args:
        label: class of each voxel.
        grid: of the measured stack.
        structures: their number; classes 1 to this one.
    """
    counts = [np.bincount(frame.ravel(order="K"), minlength=structures + 1) for _, frame in by_frame(label)]
    return np.stack(counts)[:, 1 : structures + 1] * grid.voxel_ml


def structure_volumes_ml(
    subject: Subject,
    times: Float[np.ndarray, "t"],
    *,
    spacing_mm: float | None = None,
    memory_mb: float = 512.0,
) -> Float[np.ndarray, "t s"]:
    """Volumes of a subject's structures by integration of the field, mL.

    Args:
        subject: asked with islands removed, within its measured slab.
        times: fractions of the cycle.
        spacing_mm: of the lattice; see `nisf.measures.lattice.SPACING_MM`.
        memory_mb: working memory, MiB.
    """
    lattice = Lattice.over(subject.region, subject.stacks[0] if subject.stacks else None, spacing_mm)
    return np.stack(
        [sample(subject.answers, lattice, float(t), memory_mb=memory_mb).volumes_ml() for t in times]
    )


def measure(
    subject: Subject,
    options: MeasureOptions | None = None,
    *,
    rendering: Rendering | None = None,
    memory_mb: float = 512.0,
) -> CaseMeasures:
    """Everything that the anatomy declares, of one subject.

    Args:
        subject: to be measured.
        options: what the user says.
        rendering: on the reference stack's own grid, if there is one already.
        memory_mb: working memory, MiB.

    Raises:
        BadSettingError: an option does not fit the case.
    """
    return Measuring(subject, options, memory_mb=memory_mb).finish(rendering)
