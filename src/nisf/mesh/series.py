"""Surfaces at several times of the cycle: extracted at each time, or one mesh that follows the motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nisf.errors import CannotFitError
from nisf.mesh.extraction import Levels, levels_at, surface_of
from nisf.mesh.surface import Surface
from nisf.mesh.tracking import followed
from nisf.subject.subject import Subject
from nisf.types import Vector

FURTHEST_OFF = 0.05
"""Maximum relative volume error of a mesh that follows the motion."""


@dataclass(frozen=True)
class SeriesOptions:
    """Options of a series.

    Attributes:
        names: names of structures or unions; all if None.
        spacing_mm: spacing of the grid; see `nisf.mesh.extraction.surfaces`.
        same_triangles: whether each surface has the same triangles at all times.
        memory_mb: working memory, MiB.
    """

    names: tuple[str, ...] | None = None
    spacing_mm: float | None = None
    same_triangles: bool = False
    memory_mb: float = 512.0


def series(
    subject: Subject, times: Vector, options: SeriesOptions | None = None
) -> Iterator[tuple[int, dict[str, Surface]]]:
    """Yield the surfaces at each time, with the time's index.

    With the same triangles, the surfaces at the first time are templates. They follow the level sets forwards
    through the first half of the times and backwards through the others, which halves the number of steps
    over which errors accumulate.

    Args:
        subject: queried for its answers.
        times: fractions of the cycle.
        options: options of the series.

    Raises:
        BadSettingError: see `nisf.mesh.extraction.surfaces`.
        CannotFitError: a named structure is missing at a time; or, with the same triangles, any structure is
            missing, or a mesh cannot follow.
    """
    options = options or SeriesOptions()

    def levels(k: int, names: Sequence[str] | None) -> Levels:
        wanted = None if names is None else list(names)
        return levels_at(subject, wanted, float(times[k]), options.spacing_mm, options.memory_mb)

    first = levels(0, options.names)
    template = {name: surface_of(first, name) for name in first.margins}
    yield 0, template
    if not options.same_triangles:
        for k in range(1, len(times)):
            found = levels(k, options.names)
            yield k, {name: surface_of(found, name) for name in found.margins}
        return
    half = len(times) // 2
    for way in (range(1, half + 1), range(len(times) - 1, half, -1)):
        last = template
        for k in way:
            found = levels(k, tuple(template))
            last = {name: _follow(surface, found) for name, surface in last.items()}
            yield k, last


def _follow(surface: Surface, levels: Levels) -> Surface:
    """The surface at another time, if its enclosed volume is that of the field.

    Raises:
        CannotFitError: parts of the structure appear or vanish, which a mesh cannot follow.
    """
    name, values = surface.name, levels.values[surface.name]
    moved = followed(surface, levels.time, values, levels.grid.affine, levels.margins[name])
    inside_ml = float((values > 0).sum()) * levels.grid.voxel_ml
    off = moved.volume_ml / inside_ml - 1
    if abs(off) > FURTHEST_OFF:
        raise CannotFitError(
            f"the mesh of {name} cannot follow to time {levels.time:.3g}: its volume would be "
            f"{100 * off:+.0f} % off; give more times, other structures, or extract a mesh at each time",
            options=["frames", "structures"],
        )
    return moved
