"""A subject: what a prior made of a case, with its place in the world, ready to be asked for anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.alignment import Shift
from nisf.config.schema import Islands
from nisf.correction.stroke import Stroke, check_labels
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.data.region import Region
from nisf.device import module_device, side_by_side
from nisf.errors import BadSettingError
from nisf.stopwatch import advance
from nisf.subject.abilities import Abilities
from nisf.subject.answerer import Answerer, WithinEnds
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
        region: where the field answers.
        stacks: the grids that were measured; the first gives the intensity scale.
        summary: how the fit went: loss, steps, seconds, how the region was found.
        islands: whether parts of a structure that are apart from its largest part are kept, and sections of
            which the field is not sure enough; found on the reference stack's grid at the measured times.
        certain: how sure a section of each structure has to be; see `nisf.subject.sections`.
        enclosed: how much of a cavity has to be surrounded by its wall in a basal slice, likewise.
        strokes: what a person has said of it; every answer follows, as far as the kind can spread them.
        shifts: how far slices lie off that were put in line before the fit.
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

    def _repr_html_(self) -> str:
        """How a notebook shows it; what draws it is above this package, and found by its public name."""
        import nisf

        return nisf.subject_html(self)

    # The same for all kinds.

    def noted(self, **entries: Any) -> Subject:
        """The same with other entries, e.g. its summary, which the field's own answers do not depend on.

        A kind that has computed something of those answers keeps it.
        """
        return replace(self, **entries)

    def for_many_questions(self) -> Subject:
        """The same subject, which keeps what it computed for as long as memory allows: for a viewer."""
        return self

    def corrected(self, strokes: Sequence[Stroke]) -> Subject:
        """The same subject with these strokes, and no others: fewer undo, none gives the field's own answer.

        Nothing is computed before something is asked.

        Raises:
            BadSettingError: a class is unknown, or a stroke lies outside of the region.
        """
        for number, stroke in enumerate(strokes, start=1):
            if not self.region.contains(stroke.line).any():
                raise BadSettingError(
                    f"stroke {number}: lies outside of the region that {self.name} was segmented in; leave "
                    "it out"
                )
        return replace(self, strokes=tuple(strokes))

    @cached_property
    def _plain(self) -> Answerer:
        """The field's answers where slices were measured, with strokes, with islands and all."""
        return self._painted(self._within_ends(self.field_answers))

    def _painted(self, answers: Answerer) -> Answerer:
        """With the strokes as they were drawn."""
        return Painted(answers, self.strokes, self.prior.anatomy.labels) if self.strokes else answers

    def _within_ends(self, answers: Answerer) -> Answerer:
        """Background beyond the first and last measured slice, where the file has blank ones there."""
        if not self.stacks or self.stacks[0].ends is None:
            return answers
        return WithinEnds(answers, self.stacks[0].grid.affine, self.stacks[0].ends)

    @cached_property
    def island_map(self) -> IslandMap:
        """Where structures are barred at the times of the reference stack."""
        grid, labels = self.stacks[0].grid, self.prior.anatomy.labels
        said = partial(painted_voxels, self.strokes, labels, grid) if self.strokes else None
        return IslandMap(self._plain, grid, self.section_rules, said)

    @property
    def section_rules(self) -> SectionRules:
        """Which sections of structures are drawn where islands are removed."""
        return section_rules(self.prior.anatomy, self.certain, self.enclosed)

    def _shown(self, answers: Answerer) -> Answerer:
        """Without islands, if they are to be removed."""
        if self.islands == "keep" or not self.stacks:
            return self._painted(answers)
        return self._painted(WithoutIslands(answers, self.island_map))

    @property
    def raw_answers(self) -> Answerer:
        """The field's answers where slices were measured, with islands and all."""
        return self._plain

    def raw_draws(self, samples: int, seed: int = 0) -> list[Answerer]:
        """The draws one by one, where slices were measured, with islands and all.

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
        """How its prior's probabilities are calibrated; None where nobody learnt it.

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
        """Intensity (the input's scale) and class probabilities at world positions.

        Args:
            position: world mm (..., 3).
            time: fraction of the cycle, one or one per position.
            memory_mb: working memory beside the result, MiB.
            stack: whose intensity scale to use.

        Outside the region the intensity is 0 and the class is background.
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
            samples: draws from the posterior; cost grows with them.
            seed: of the draws. Other arguments as for `query`.

        Raises:
            CannotFitError: there is no posterior.
        """
        shape, answer = self._asked(
            self._shown(self._within_ends(self.drawn(samples, seed))), position, time, memory_mb
        )
        image = on_scale(answer, self._scale(stack))
        deviation = np.zeros_like(answer.probability) if answer.deviation is None else answer.deviation
        return _shaped(image, shape), _shaped(answer.probability, shape), _shaped(deviation, shape)

    def as_measured(self, answers: Answerer, stack: int) -> Answerer:
        """The answers as the slices of a stack show them, where that differs from the world's."""
        own, shifts = self.stacks[stack], [shift for shift in self.shifts if shift.stack == stack]
        slices = {shift.position: AtShift(answers, shift.mm, own) for shift in shifts}
        return SliceBySlice(answers, slices) if slices else answers

    def _asked(
        self, answers: Answerer, position: np.ndarray, time: np.ndarray | float, memory_mb: float
    ) -> tuple[tuple[int, ...], Answer]:
        """The shape of the positions, and the answers in a row."""
        position = np.asarray(position, dtype=np.float64)
        shape = position.shape[:-1]
        times = np.broadcast_to(np.asarray(time, dtype=np.float64), shape).reshape(-1)
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
        """Answers on a grid: by default the measured stack's own, as its slices show it.

        On any other grid the answer is that of the world.

        Args:
            grid: any grid or plane in world mm.
            probabilities: whether to keep the class probabilities.
            samples: draws from the posterior to average over, which also gives deviations; 0 asks for the
                best answer alone.
            memory_mb: working memory of each thread beside the result, MiB.
            stack: whose grid (if none is given) and intensity scale to use.
            after_frame: called with the index of each frame when it is answered, by the thread that did it:
                another question at its time costs least then.

        Raises:
            CannotFitError: samples are asked for, and there is no posterior.
        """
        drawn = self._within_ends(self.drawn(samples)) if samples else None
        # Labels are the same either way, and sooner without.
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
        # In order of time: neighbours share what is encoded.
        scale, done = self._scale(stack), []

        def fill(t: int) -> None:
            frame = Frame(rendering, t, scale)
            answers.fill(frame, grid, float(grid.times[t]), memory_mb=memory_mb)
            frame.let_go()
            if after_frame is not None:
                after_frame(t)
            done.append(t)
            advance(len(done), len(grid.times))

        on_gpu = module_device(self.prior.field).type != "cpu"
        side_by_side(fill, range(len(grid.times)), most=1 if on_gpu else None)
        return rendering


def _shaped(rows: Float[np.ndarray, "n c"], shape: tuple[int, ...]) -> Float[np.ndarray, "*n c"]:
    """Rows of answers in the shape of the positions that were asked."""
    return rows.reshape(*shape, rows.shape[1])
