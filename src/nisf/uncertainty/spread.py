"""What could be otherwise in a segmentation: changes of its structures' volumes that go together.

Errors of a volume are not those of independent voxels: a border is drawn too far out all around, or a whole
section at the base is missing. Each `Change` is one such thing, with the volumes that it moves at a time and
how much it counts. A measure's spread is the root of the sum of squares of what the changes do to it.

Everything is read from one look at the slices' own planes, 3 mm apart in the plane:

- *borders*: a structure's logit is raised and lowered by 1; where that moves its border, others give way;
- *sections*: the first and the last section of a structure are left out, and those that were removed because
  they were doubtful (`nisf.subject.sections`) are put back; each counts by how undecided it is, 4 c (1 - c)
  of its certainty c;
- *draws*: the volumes in draws of the answer, for those that ask for them.
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
"""Between places in the slices' planes."""
LOGIT = 1.0
"""By how much a structure's logit is raised and lowered."""


@dataclass(frozen=True, eq=False)
class Change:
    """One thing that could be otherwise at one time.

    Attributes:
        ml: how it moves the volumes of the structures, mL (s,).
        weight: how much its square counts.
    """

    ml: Float[np.ndarray, "s"]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Frames:
    """What could be otherwise at some times of one subject.

    Attributes:
        times: fractions of the cycle (t,).
        changes: of each time.
        draws: deviations of the draws' volumes from their mean, mL (d, t, s); a draw's times go together.
    """

    times: Float[np.ndarray, "t"]
    changes: tuple[tuple[Change, ...], ...]
    draws: Float[np.ndarray, "d t s"]

    def squares(
        self,
        volumes: Float[np.ndarray, "t s"],
        measure: Callable[[Float[np.ndarray, "t s"]], Float[np.ndarray, "m"]],
    ) -> Float[np.ndarray, "m"]:
        """Sum of squares of what the changes do to some measures.

        Args:
            volumes: of the structures at `times`, mL.
            measure: the measures of such volumes.
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
    """Looks at a subject's frames one by one, each when its slices have just been encoded.

    Args:
        subject: with a stack.
        draws: of the answer that are looked at too; 0 for none.
        memory_mb: working memory, MiB.

    Raises:
        CannotFitError: draws are asked for, and this kind of subject has none.
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
        """Look at one frame of the reference stack."""
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
        """What could be otherwise at the frames that are nearest to some times."""
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
        """World mm of the places in the region, and which plane each lies in."""
        if self._places is None:
            points = self.planes.points()
            inside = (np.abs(self.subject.region.coordinates(points)) <= 1).all(-1)
            plane = np.broadcast_to(np.arange(self.planes.shape[2]), self.planes.shape)
            self._places = points[inside], plane[inside]
        return self._places


class Planes:
    """Answers in the slices' planes at one time.

    Args:
        probability: as the field says, of the places in the region (n, k).
        barred: classes that are not drawn there (n, k).
        plane: index of the plane that each place lies in (n,).
        grid: of all places.
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
        """What each plane adds to the volume of class ``k``, mL."""
        counts = np.bincount(self.plane[label == k], minlength=self.grid.shape[2])
        return counts * self.grid.voxel_ml

    def borders(self) -> list[Change]:
        """Half of what changes between a structure's logit lowered and raised, for each structure."""
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
        """Sections that could be left out, and those left out that could be there."""
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
                ml[k - 1] = before[z] if removed else -drawn[z]
                found.append(Change(ml, 4 * sure * (1 - sure)))
        return found
