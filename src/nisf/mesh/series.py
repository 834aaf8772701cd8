"""Surfaces at several times of the cycle: each found anew, or one mesh that follows the heart."""

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
"""Part of the volume by which a mesh that follows may be off."""


@dataclass(frozen=True)
class SeriesOptions:
    """How a series is made.

    Attributes:
        names: of structures or unions; all if None.
        spacing_mm: of the grid; see `nisf.mesh.extraction.surfaces`.
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
    """Surfaces at each time, with the time's index.

    With the same triangles the surfaces of the first time are the templates; they follow the level sets
    forwards through the first half of the times and backwards through the others, so that errors that add
    up have half as long to do so.

    Args:
        subject: asked for its answers.
        times: fractions of the cycle.
        options: how.

    Raises:
        BadSettingError: as `nisf.mesh.extraction.surfaces`.
        CannotFitError: a structure that is named is missing at a time; or, with the same triangles, any, or
            a mesh cannot follow.
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
    """The surface at another time; refused where what it encloses is not what the field has inside.

    Raises:
        CannotFitError: parts of the structure come and go, and the mesh cannot.
    """
    name, values = surface.name, levels.values[surface.name]
    moved = followed(surface, levels.time, values, levels.grid.affine, levels.margins[name])
    inside_ml = float((values > 0).sum()) * levels.grid.voxel_ml
    off = moved.volume_ml / inside_ml - 1
    if abs(off) > FURTHEST_OFF:
        raise CannotFitError(
            f"the mesh of {name} does not follow to time {levels.time:.3g}: its volume would be "
            f"{100 * off:+.0f} % off; give more times, other structures, or make each mesh anew",
            options=["frames", "structures"],
        )
    return moved
