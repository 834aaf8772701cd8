"""A subject: a prior's result for a case, located in the world, which can be queried anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.alignment import Shift
from nisf.chunks import batching
from nisf.config.schema import Islands
from nisf.correction.stroke import Stroke, check_labels
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.data.region import Region
from nisf.device import module_device, return_freed_memory, side_by_side
from nisf.errors import BadSettingError
from nisf.stopwatch import advance
from nisf.subject.abilities import Abilities
from nisf.subject.answerer import Answerer, WithinBounds
from nisf.subject.calibrated import Calibrated, Calibration
from nisf.subject.in_line import AtShift, SliceBySlice
from nisf.subject.islands import IslandMap, WithoutIslands
from nisf.subject.painted import Painted, painted_voxels
from nisf.subject.rendering import Answer, Frame, Rendering, empty_rendering, on_scale
from nisf.subject.sections import SectionRules, section_rules
from nisf.types import PointsMm


@dataclass(frozen=True, eq=False, repr=False)
class Subject(Abilities):
    """One subject; each kind of field has its own subclass.

    Attributes:
        region: the region in which the field gives answers.
        stacks: the measured grids; the first defines the intensity scale.
        summary: summary of the fit: loss, steps, seconds, how the region was found.
        islands: whether to keep parts of a structure that are not connected to its largest part, and sections
            that are not certain enough; both are found on the reference stack's grid at the measured times.
        certain: minimum certainty of each structure's sections; see `nisf.subject.sections`.
        enclosed: minimum fraction of a cavity's rim that its wall must surround in a basal slice; likewise.
        strokes: that a person has drawn; all answers follow them, as far as the kind can propagate them.
        shifts: shifts of slices that were aligned before the fit.
    """

    region: Region
    stacks: tuple[Stack, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    islands: Islands = "keep"
    certain: tuple[float, ...] = ()
    enclosed: float = 0.0
    strokes: tuple[Stroke, ...] = ()
    shifts: tuple[Shift, ...] = ()

    def __post_init__(self) -> None:
        check_labels(self.strokes, self.prior.anatomy.labels)

    def __repr__(self) -> str:
        grids = ", ".join(f"{s.name} {' x '.join(map(str, s.grid.shape))}" for s in self.stacks) or "no stack"
        return f"<{type(self).__name__} {self.name}: {grids}, prior {self.prior.fingerprint}>"

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or another process needs; cached results are computed again there."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def _repr_html_(self) -> str:
        """Display in a notebook; implemented in a package above, and found by its public name."""
        import nisf

        return nisf.subject_html(self)

    # Shared by all kinds.

    def noted(self, **entries: Any) -> Subject:
        """A copy with other entries that the field's own answers do not depend on, e.g. the summary.

        Kinds may keep cached results of these answers.
        """
        return replace(self, **entries)

    def for_many_questions(self) -> Subject:
        """A copy that caches computed results as far as memory allows, for a viewer."""
        return self

    def corrected(self, strokes: Sequence[Stroke]) -> Subject:
        """A copy with exactly these strokes: fewer strokes undo, none restores the field's own answer.

        Nothing is computed before the first query.

        Raises:
            BadSettingError: a class is unknown, or a stroke is outside the region.
        """
        for number, stroke in enumerate(strokes, start=1):
            if not self.region.contains(stroke.line).any():
                raise BadSettingError(
                    f"stroke {number}: outside the region that {self.name} was segmented in; leave it out"
                )
        return replace(self, strokes=tuple(strokes))

    @cached_property
    def _plain(self) -> Answerer:
        """The field's answers between the measured ends, with strokes and islands."""
        return self._painted(self._within_ends(self.field_answers))

    def _painted(self, answers: Answerer) -> Answerer:
        """Paint the strokes as drawn."""
        return Painted(answers, self.strokes, self.prior.anatomy.labels) if self.strokes else answers

    def _within_ends(self, answers: Answerer) -> Answerer:
        """Background beyond the first and last measured slice, if the file has blank slices there."""
        if not self.stacks or self.stacks[0].ends is None:
            return answers
        bounds = self.stacks[0].bounds
        bounds[:2] = (-np.inf, np.inf)  # other planes may lie beside the images
        return WithinBounds(answers, self.stacks[0].grid.affine, bounds)

    @property
    def reference_stack(self) -> Stack | None:
        """The first stack; None if the subject was fitted to scattered points only."""
        return self.stacks[0] if self.stacks else None

    @cached_property
    def island_map(self) -> IslandMap:
        """Where structures are barred at the times of the reference stack."""
        grid, labels = self.stacks[0].grid, self.prior.anatomy.labels
        said = partial(painted_voxels, self.strokes, labels, grid) if self.strokes else None
        return IslandMap(self._plain, grid, self.section_rules, said)

    @property
    def section_rules(self) -> SectionRules:
        """The rules for sections, which apply if islands are removed."""
        return section_rules(self.prior.anatomy, self.certain, self.enclosed)

    def _shown(self, answers: Answerer) -> Answerer:
        """Remove islands, if requested."""
        if self.islands == "keep" or not self.stacks:
            return self._painted(answers)
        return self._painted(WithoutIslands(answers, self.island_map))

    @property
    def raw_answers(self) -> Answerer:
        """The field's answers where slices were measured, with islands."""
        return self._plain

    def raw_draws(self, samples: int, seed: int = 0) -> list[Answerer]:
        """The draws one by one, where slices were measured, with islands.

        Raises:
            CannotFitError: this kind of subject has no draws.
        """
        return [self._within_ends(answers) for answers in self.single_draws(samples, seed)]

    @property
    def answers(self) -> Answerer:
        """The subject's answers in the world, with the field's own probabilities."""
        return self._shown(self._plain)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of its prior's probabilities; None if there is none.

        Raises:
            BadFileError: the prior's appendix is damaged.
        """
        entries = self.prior.appendices.get("calibration")
        if entries is None:
            return None
        classes = len(self.prior.anatomy.labels)
        return Calibration.from_json(entries, classes, self.prior.source or "the prior")

    @property
    def calibrated_answers(self) -> Answerer:
        """The subject's answers in the world, with calibrated probabilities and the same labels."""
        if self.calibration is None:
            return self.answers
        removed = None if self.islands == "keep" or not self.stacks else self.island_map
        return Calibrated(self.answers, self.calibration, self._plain, removed)

    def query(
        self,
        position: PointsMm,
        time: Float[np.ndarray, "*n"] | float = 0.0,
        *,
        memory_mb: float = 512.0,
        stack: int = 0,
    ) -> tuple[Float[np.ndarray, "*n c"], Float[np.ndarray, "*n k"]]:
        """Intensity (on the input's scale) and class probabilities at world positions.

        Outside the region, the intensity is 0 and the class is background.

        Args:
            position: world mm (..., 3).
            time: fraction of the cycle, one for all or one per position; 1.25 is 0.25 of the next cycle.
            memory_mb: working memory besides the result, MiB.
            stack: index of the stack that defines the intensity scale.

        Raises:
            BadSettingError: a time is not finite.
        """
        shape, answer = self._asked(self.calibrated_answers, position, time, memory_mb)
        image = on_scale(answer, self._scale(stack))
        return _shaped(image, shape), _shaped(answer.probability, shape)

    def query_posterior(
        self,
        position: PointsMm,
        time: Float[np.ndarray, "*n"] | float = 0.0,
        *,
        samples: int = 32,
        seed: int = 0,
        memory_mb: float = 512.0,
        stack: int = 0,
    ) -> tuple[Float[np.ndarray, "*n c"], Float[np.ndarray, "*n k"], Float[np.ndarray, "*n k"]]:
        """Mean intensity and class probabilities over the posterior, and the probabilities' deviations.

        Args:
            position: see `query`. Likewise:
            time: time of all positions, or of each.
            samples: number of draws from the posterior; the cost is proportional to it.
            seed: seed of the draws.
            memory_mb: see `query`. Likewise:
            stack: index of a stack.

        Raises:
            CannotFitError: there is no posterior.
            BadSettingError: a time is not finite.
        """
        shape, answer = self._asked(
            self._shown(self._within_ends(self.drawn(samples, seed))), position, time, memory_mb
        )
        image = on_scale(answer, self._scale(stack))
        deviation = np.zeros_like(answer.probability) if answer.deviation is None else answer.deviation
        return _shaped(image, shape), _shaped(answer.probability, shape), _shaped(deviation, shape)

    def as_measured(self, answers: Answerer, stack: int) -> Answerer:
        """Answers as the slices of a stack show them, if that differs from the world."""
        own, shifts = self.stacks[stack], [shift for shift in self.shifts if shift.stack == stack]
        slices = {shift.position: AtShift(answers, shift.mm, own) for shift in shifts}
        return SliceBySlice(answers, slices) if slices else answers

    def _asked(
        self, answers: Answerer, position: np.ndarray, time: np.ndarray | float, memory_mb: float
    ) -> tuple[tuple[int, ...], Answer]:
        """The shape of the positions, and their flat answers."""
        position = np.asarray(position, dtype=np.float64)
        shape = position.shape[:-1]
        times = np.broadcast_to(np.asarray(time, dtype=np.float64), shape).reshape(-1)
        if not np.isfinite(times).all():
            raise BadSettingError(f"{self.name}: a time is not finite; give fractions of the cycle")
        return shape, answers.answer(position.reshape(-1, 3), times, memory_mb=memory_mb)

    def _scale(self, stack: int) -> Stack | None:
        return self.stacks[stack] if self.stacks else None

    def render(
        self,
        grid: Grid | None = None,
        *,
        probabilities: bool = False,
        samples: int = 0,
        memory_mb: float = 512.0,
        stack: int = 0,
        after_frame: Callable[[int], None] | None = None,
    ) -> Rendering:
        """Answers on a grid: by default that of the measured stack, as its slices show it.

        On any other grid, answers are those in the world.

        Args:
            grid: any grid or plane in world mm.
            probabilities: whether to keep the class probabilities.
            samples: number of draws from the posterior to average over, which also gives standard
                deviations; 0 gives the best answer only.
            memory_mb: working memory of each thread besides the result, MiB.
            stack: index of the stack whose grid (unless one is given) and intensity scale are used.
            after_frame: called with the index of each finished frame, by the thread that did it; further
                queries at its time are cheapest then.

        Raises:
            CannotFitError: samples are requested, but there is no posterior.
        """
        drawn = self._within_ends(self.drawn(samples)) if samples else None
        # Labels do not depend on the calibration, and are faster without.
        best = self.calibrated_answers if probabilities else self.answers
        answers = best if drawn is None else self._shown(drawn)
        if grid is None:
            grid, answers = self.stacks[stack].grid, self.as_measured(answers, stack)
        rendering = empty_rendering(
            grid,
            answers.channels,
            answers.classes,
            probabilities=probabilities,
            deviations=samples > 0,
        )
        # In order of time, because neighbouring frames share encoded slices.
        scale, done = self._scale(stack), []

        def fill(t: int) -> None:
            frame = Frame(rendering, t, scale)
            answers.fill(frame, grid, float(grid.times[t]), memory_mb=memory_mb)
            frame.let_go()
            return_freed_memory()
            if after_frame is not None:
                after_frame(t)
            done.append(t)
            advance(len(done), len(grid.times))

        most = batching(module_device(self.prior.field)).frames
        side_by_side(fill, range(len(grid.times)), most=most)
        return rendering


def _shaped(rows: Float[np.ndarray, "n c"], shape: tuple[int, ...]) -> Float[np.ndarray, "*n c"]:
    """Reshape flat answers to the shape of the queried positions."""
    return rows.reshape(*shape, rows.shape[1])
