"""Possible errors of a segmentation: changes that move the volumes of its structures together.

Errors of a volume are not those of independent voxels: a border may be too far out all around, or a whole
section at the base may be missing. Each `Change` is one such possibility, with its effect on the volumes and
a weight. A measure's spread is the root of the weighted sum of squares of the effects of all changes on it.

Everything is computed from one set of answers in the planes of the slices, sampled every 3 mm:

- *borders*: a structure's logit is raised and lowered by 1; where that moves its border, other classes
  recede or advance;
- *sections*: the first and the last section of a structure are removed, and those removed as doubtful
  (`nisf.subject.sections`) are restored. The weight of a section with certainty c is 4 c (1 - c), which is
  largest where it is least decided;
- *draws*: the volumes in draws of the answer, if draws are requested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nisf.data.geometry import Grid, nearest_frame
from nisf.stopwatch import stage
from nisf.subject.answerer import Answerer
from nisf.subject.islands import without
from nisf.subject.sections import certainty
from nisf.subject.subject import Subject

PLANE_MM = 3.0
"""Spacing of the points in the planes of the slices."""
LOGIT = 1.0
"""Amount by which a structure's logit is raised and lowered."""


@dataclass(frozen=True, eq=False)
class Change:
    """One possible change of a segmentation at one time.

    Attributes:
        ml: its effect on the volumes of the structures, mL (s,).
        weight: factor on the square of its effect.
    """

    ml: Float[np.ndarray, "s"]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Frames:
    """Possible changes of one subject's segmentation at several times.

    Attributes:
        times: fractions of the cycle (t,).
        changes: at each time.
        draws: deviations of the draws' volumes from their mean, mL (d, t, s); each draw spans all times.
    """

    times: Float[np.ndarray, "t"]
    changes: tuple[tuple[Change, ...], ...]
    draws: Float[np.ndarray, "d t s"]

    def squares(
        self,
        volumes: Float[np.ndarray, "t s"],
        measure: Callable[[Float[np.ndarray, "t s"]], Float[np.ndarray, "m"]],
    ) -> Float[np.ndarray, "m"]:
        """Weighted sum of squares of the effects of all changes on some measures.

        Args:
            volumes: volumes of the structures at `times`, mL.
            measure: computes the measures from such volumes.
        """
        base, total = measure(volumes), 0.0
        for t, changes in enumerate(self.changes):
            for change in changes:
                moved = volumes.copy()
                moved[t] = np.maximum(moved[t] + change.ml, 0.0)
                total = total + change.weight * (measure(moved) - base) ** 2
        for draw in self.draws:
            total = total + (measure(np.maximum(volumes + draw, 0.0)) - base) ** 2 / len(self.draws)
        return np.zeros_like(base) + total


class Spreading:
    """Examines a subject's frames one by one, each just after its slices have been encoded.

    Args:
        subject: has a stack.
        draws: number of draws of the answer to include; 0 for none.
        memory_mb: working memory, MiB.

    Raises:
        CannotFitError: draws are requested, but this kind of subject has none.
    """

    def __init__(self, subject: Subject, *, draws: int = 0, memory_mb: float = 512.0) -> None:
        self.subject, self.memory_mb = subject, memory_mb
        self.times = subject.stacks[0].grid.times
        spacing = subject.stacks[0].grid.spacing
        in_plane = np.maximum(spacing[:2], PLANE_MM)
        self.planes = subject.stacks[0].grid.at_spacing((in_plane[0], in_plane[1], spacing[2]))
        self._draws: Sequence[Answerer] = subject.raw_draws(draws) if draws else ()
        self._changes: dict[int, tuple[Change, ...]] = {}
        self._drawn: dict[int, np.ndarray] = {}
        self._places: tuple[np.ndarray, np.ndarray] | None = None

    def frame(self, t: int) -> None:
        """Examine one frame of the reference stack."""
        if t in self._changes:
            return
        with stage("error bars"):
            position, plane = self._inside()
            time = np.full(len(position), self.times[t])
            probability = self.subject.raw_answers.answer(
                position, time, memory_mb=self.memory_mb
            ).probability
            barred = np.zeros(probability.shape, dtype=bool)
            if self.subject.islands != "keep":
                islands = self.subject.island_map
                places, structures = islands.affected(position, time, memory_mb=self.memory_mb)
                barred[places] = structures
            seen = Planes(probability, barred, plane, self.planes)
            self._changes[t] = (*seen.borders(), *seen.sections())
            answers = [d.answer(position, time, memory_mb=self.memory_mb).probability for d in self._draws]
            self._drawn[t] = np.array([seen.volumes(without(p, barred).argmax(1)) for p in answers])

    def at(self, times: Sequence[float]) -> Frames:
        """Possible changes at the frames nearest to some times."""
        frames = [nearest_frame(self.times, time) for time in times]
        for t in frames:
            self.frame(t)
        structures = len(self.subject.prior.anatomy.labels) - 1
        drawn = np.zeros((0, len(frames), structures))
        if self._draws and frames:
            drawn = np.stack([self._drawn[t] for t in frames], axis=1)
            drawn = drawn - drawn.mean(0)
        return Frames(self.times[frames], tuple(self._changes[t] for t in frames), drawn)

    def _inside(self) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "n"]]:
        """World mm of the points in the region, and the index of the plane that each lies in."""
        if self._places is None:
            points = self.planes.points()
            inside = (np.abs(self.subject.region.coordinates(points)) <= 1).all(-1)
            plane = np.broadcast_to(np.arange(self.planes.shape[2]), self.planes.shape)
            self._places = points[inside], plane[inside]
        return self._places


class Planes:
    """Answers in the planes of the slices at one time.

    Args:
        probability: the field's answers at the points in the region (n, k).
        barred: classes that are removed there (n, k).
        plane: index of the plane that each point lies in (n,).
        grid: grid of all points.
    """

    def __init__(
        self,
        probability: Float[np.ndarray, "n k"],
        barred: Bool[np.ndarray, "n k"],
        plane: Int[np.ndarray, "n"],
        grid: Grid,
    ) -> None:
        self.probability, self.plane, self.grid = probability, plane, grid
        self.raw = probability.argmax(1)
        self.shown = without(probability, barred)
        self.label = self.shown.argmax(1)

    def volumes(self, label: Int[np.ndarray, "n"]) -> Float[np.ndarray, "s"]:
        """Volume of each structure, mL."""
        return np.bincount(label, minlength=self.probability.shape[1])[1:] * self.grid.voxel_ml

    def areas(self, label: Int[np.ndarray, "n"], k: int) -> Float[np.ndarray, "z"]:
        """Contribution of each plane to the volume of class ``k``, mL."""
        counts = np.bincount(self.plane[label == k], minlength=self.grid.shape[2])
        return counts * self.grid.voxel_ml

    def borders(self) -> list[Change]:
        """For each structure, half the difference between raising and lowering its logit."""
        found = []
        for k in range(1, self.probability.shape[1]):
            volumes = []
            for logit in (-LOGIT, LOGIT):
                moved = self.shown.copy()
                moved[:, k] *= np.exp(logit)
                volumes.append(self.volumes(moved.argmax(1)))
            found.append(Change((volumes[1] - volumes[0]) / 2))
        return found

    def sections(self) -> list[Change]:
        """Sections that could be removed, and removed sections that could be restored."""
        found = []
        for k in range(1, self.probability.shape[1]):
            drawn, before = self.areas(self.label, k), self.areas(self.raw, k)
            filled = np.flatnonzero(drawn)
            ends = {int(filled[0]), int(filled[-1])} if len(filled) else set()
            for z in np.flatnonzero(before):
                removed = before[z] - drawn[z] > before[z] / 2
                if not removed and z not in ends:
                    continue
                sure = certainty(self.probability[(self.raw == k) & (self.plane == z), k])
                ml = np.zeros(self.probability.shape[1] - 1)
                ml[k - 1] = before[z] - drawn[z] if removed else -drawn[z]
                found.append(Change(ml, 4 * sure * (1 - sure)))
        return found
