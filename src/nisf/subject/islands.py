"""Islands: parts of a structure that are not connected to its largest part, and their removal by barring.

Sections that the rules of `nisf.subject.sections` exclude are removed first, in the same way.

Islands are found on the reference stack's grid, where slices were measured. All answers follow this, so
that points, planes and finer grids show the same parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage
from typing_extensions import override

from nisf.data.geometry import Grid, cycle_distance
from nisf.stopwatch import stage
from nisf.subject.answerer import Answerer
from nisf.subject.rendering import Answer, Frame, Kept, empty_rendering, likeliest
from nisf.subject.sections import DRAWN_AS_ANSWERED, SectionRules, doubtful, open_at_base
from nisf.types import PointsMm

ROUNDS = 4
"""Number of repetitions, because the class that replaces an island can form an island itself."""
SLICES = 3
"""Minimum number of slices for finding islands: a single slice can cut a connected structure twice."""


@dataclass(frozen=True, eq=False)
class Barred:
    """Voxels of a grid where some structures are barred.

    Attributes:
        index: flat indices of the voxels (m,), ascending.
        structures: the classes barred there (m, k).
    """

    index: Int[np.ndarray, "m"]
    structures: Bool[np.ndarray, "m k"]

    def at(
        self, position: Float[np.ndarray, "n 3"], grid: Grid
    ) -> tuple[Int[np.ndarray, "f"], Bool[np.ndarray, "f k"]]:
        """Which points are affected, and the classes barred there, by nearest voxel.

        Args:
            position: world mm; clamped to the grid.
            grid: the grid of the voxels.
        """
        if not len(self.index):
            return np.zeros(0, dtype=np.int64), self.structures
        voxel = np.round(grid.affine.inverse(position)).astype(np.int64).clip(0, np.array(grid.shape) - 1)
        flat = np.ravel_multi_index(tuple(voxel.T), grid.shape)
        place = np.searchsorted(self.index, flat).clip(max=len(self.index) - 1)
        affected = np.flatnonzero(self.index[place] == flat)
        return affected, self.structures[place[affected]]


def no_voxels(shape: tuple[int, ...], classes: int) -> Bool[np.ndarray, "x y z k"]:
    """False for each voxel and class; stored class by class, which makes operations on one class fast."""
    return np.moveaxis(np.zeros((classes, *shape), dtype=bool), 0, -1)


def around_islands(
    label: Integer[np.ndarray, "x y z"], classes: int, said: Bool[np.ndarray, "x y z k"] | None = None
) -> Bool[np.ndarray, "x y z k"]:
    """Voxels of each structure's islands and their 26 neighbours, without those of its largest part.

    Args:
        label: class of each voxel.
        classes: number of classes.
        said: where a person marked a structure as present; parts with such voxels are not islands.
    """
    out = no_voxels(label.shape, classes)
    whole = np.ones((3, 3, 3), dtype=bool)
    found = ndimage.find_objects(label, max_label=classes - 1)
    for k, box in enumerate(found, start=1):
        if box is None:
            continue
        # Including the neighbours.
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        parts, count = ndimage.label(label[box] == k, structure=whole)
        if count > 1:
            largest = 1 + np.bincount(parts.ravel())[1:].argmax()
            kept = [largest] if said is None else [largest, *np.unique(parts[said[box][..., k]])]
            islands = (parts > 0) & ~np.isin(parts, kept)
            out[box][..., k] = ndimage.binary_dilation(islands, structure=whole)
    return out


def bar_islands(
    label: Integer[np.ndarray, "x y z"],
    classes: int,
    ask: Callable[[Int[np.ndarray, "m"]], Float[np.ndarray, "m k"]],
    rules: SectionRules = DRAWN_AS_ANSWERED,
    said: Bool[np.ndarray, "x y z k"] | None = None,
) -> Barred:
    """Find where structures must be barred so that each is one part and the section rules hold.

    Args:
        label: class of each voxel, as the field gives it.
        classes: number of classes, background included; the background is never barred.
        ask: returns class probabilities of voxels, given their flat indices.
        rules: which sections are excluded.
        said: where a person marked a structure as present; such parts and sections stay.
    """
    label = label.copy()
    barred = no_voxels(label.shape, classes)
    new = doubtful(label, rules.certain, ask, said) if rules.certain else no_voxels(label.shape, classes)
    if rules.enclosure is not None:
        open_at_base(label, rules.enclosure, new, said)
    for rounds in range(ROUNDS + 1):
        if new.any():
            barred |= new
            voxels = np.nonzero(barred.any(-1))
            probability = without(ask(np.ravel_multi_index(voxels, label.shape)), barred[voxels])
            label[voxels] = likeliest(probability)
        if rounds == ROUNDS or label.shape[2] < SLICES:
            break
        new = around_islands(label, classes, said) & ~barred
        if not new.any():
            break
    voxels = np.nonzero(barred.any(-1))
    return Barred(np.ravel_multi_index(voxels, label.shape), barred[voxels])


def without(
    probability: Float[np.ndarray, "m k"], barred: Bool[np.ndarray, "m k"]
) -> Float[np.ndarray, "m k"]:
    """Class probabilities given that some classes are barred; background if nothing else is left."""
    left = np.where(barred, 0.0, probability)
    total = left.sum(1, keepdims=True)
    left[total[:, 0] == 0, 0] = 1.0
    return (left / np.where(total == 0, 1.0, total)).astype(probability.dtype)


class IslandMap:
    """The islands of one subject at every time of a grid, found on demand.

    Args:
        answers: the field's answers, with islands.
        grid: where islands are searched for.
        rules: see `bar_islands`.
        said: likewise, at a time.

    Attributes:
        kept: receives the answers, islands included, when the grid is rendered; None if nothing does.
    """

    def __init__(
        self,
        answers: Answerer,
        grid: Grid,
        rules: SectionRules = DRAWN_AS_ANSWERED,
        said: Callable[[float], Bool[np.ndarray, "x y z k"] | None] | None = None,
    ) -> None:
        self.answers, self.grid, self.rules, self.said = answers, grid, rules, said
        self.kept: Kept | None = None
        self._barred: dict[int, Barred] = {}

    def at(
        self, frame: int, label: Integer[np.ndarray, "x y z"] | None = None, *, memory_mb: float
    ) -> Barred:
        """What is barred at a frame of the grid.

        Args:
            frame: its index.
            label: class of each voxel before islands are removed, if it is known already.
            memory_mb: working memory, MiB.
        """
        if frame not in self._barred:
            with stage("islands"):
                self._barred[frame] = self._find(frame, label, memory_mb)
        return self._barred[frame]

    def known(self, time: float) -> bool:
        """Whether the islands of the frame nearest to a time have been found already."""
        return self.grid.nearest_frame(time) in self._barred

    def _find(self, frame: int, label: Integer[np.ndarray, "x y z"] | None, memory_mb: float) -> Barred:
        time = float(self.grid.times[frame])

        def ask(position: PointsMm) -> np.ndarray:
            times = np.full(len(position), time)
            return self.answers.answer(position, times, memory_mb=memory_mb).probability

        def ask_voxels(index: np.ndarray) -> np.ndarray:
            return ask(self.grid.points_at(index))

        if label is None:
            rendering = empty_rendering(
                self.grid.at_times([time]),
                self.answers.channels,
                self.answers.classes,
                probabilities=False,
                deviations=False,
            )
            found = Frame(rendering, 0, None)
            self.answers.fill(found, self.grid, time, memory_mb=memory_mb)
            label = found.label
        said = None if self.said is None else self.said(time)
        return bar_islands(label, self.answers.classes, ask_voxels, self.rules, said)

    def remove(
        self,
        position: Float[np.ndarray, "n 3"],
        times: Float[np.ndarray, "n"],
        probability: Float[np.ndarray, "n k"],
        *,
        memory_mb: float,
    ) -> Float[np.ndarray, "n k"]:
        """Class probabilities with islands removed, according to the nearest frame.

        Args:
            position: world mm.
            times: fractions of the cycle.
            probability: at these points and times.
            memory_mb: working memory, MiB.
        """
        out = probability.copy()
        chosen, structures = self.affected(position, times, memory_mb=memory_mb)
        out[chosen] = without(out[chosen], structures)
        return out

    def affected(
        self, position: Float[np.ndarray, "n 3"], times: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> tuple[Int[np.ndarray, "f"], Bool[np.ndarray, "f k"]]:
        """Which points lie where something is removed, and the classes barred there.

        Args:
            position: world mm.
            times: fractions of the cycle.
            memory_mb: working memory, MiB.
        """
        if len(times) and (times == times[0]).all():  # as usual
            return self.at(self.grid.nearest_frame(times[0]), memory_mb=memory_mb).at(position, self.grid)
        distinct, index = np.unique(times, return_inverse=True)
        frames = cycle_distance(self.grid.times[:, None], distinct).argmin(0)[index]
        places, barred_there = [], []
        for frame in np.unique(frames):
            here = np.flatnonzero(frames == frame)
            barred = self.at(int(frame), memory_mb=memory_mb)
            affected, structures = barred.at(position[here], self.grid)
            places.append(here[affected])
            barred_there.append(structures)
        if not places:
            return np.zeros(0, dtype=np.int64), np.zeros((0, self.answers.classes), dtype=bool)
        return np.concatenate(places), np.concatenate(barred_there)


class WithoutIslands(Answerer):
    """Answers with islands removed.

    Args:
        raw: the answerer to wrap.
        islands: where structures are barred.
    """

    def __init__(self, raw: Answerer, islands: IslandMap) -> None:
        super().__init__(raw.channels, raw.classes)
        self.raw, self.islands = raw, islands

    @override
    def answer(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float
    ) -> Answer:
        answer = self.raw.answer(position, time, memory_mb=memory_mb)
        probability = self.islands.remove(position, time, answer.probability, memory_mb=memory_mb)
        return replace(answer, probability=probability)

    @override
    def fill(self, frame: Frame, grid: Grid, time: float, *, memory_mb: float) -> None:
        # On the grid of the islands, they are removed afterwards, which avoids a second query.
        own = np.flatnonzero(grid.times == time)
        if grid is not self.islands.grid or self.raw is not self.islands.answers or not len(own):
            super().fill(frame, grid, time, memory_mb=memory_mb)
            return
        with_islands = replace(frame, kept=self.islands.kept)
        self.raw.fill(with_islands, grid, time, memory_mb=memory_mb)
        index = self.islands.at(int(own[0]), frame.label, memory_mb=memory_mb).index
        position = grid.points_at(index)
        answer = self.answer(position, np.full(len(position), time), memory_mb=memory_mb)
        frame.relabel(index, answer.probability)
