"""Extract surfaces from a subject: marching cubes, followed by moving all vertices onto the level set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from nisf.data.geometry import Affine, Grid
from nisf.errors import BadSettingError, CannotFitError
from nisf.mesh.crossings import crossing_triangles
from nisf.mesh.margin import Margin, margin_of
from nisf.mesh.surface import Surface
from nisf.subject.answerer import Answerer, WithinBounds
from nisf.subject.rendering import Frame, empty_rendering
from nisf.subject.subject import Subject

LARGEST_SPACING_MM = 2.0
REGION_STEPS = 80
"""Grid steps along a side of a cube with the region's volume, unless a spacing is given.

Flat triangles on a curved surface enclose too little; this keeps the error below 1 % on ACDC and Task04.
"""
LARGEST = 40_000_000
"""Maximum number of grid points, which takes about 1 GB of probabilities."""
FEWEST = 4
"""Minimum number of grid steps along each side of the region; with fewer, structures lie between points."""
TOLERANCE_MM = 0.005
"""Maximum distance of a vertex from the level set."""
OFF_CORNER = 0.02
"""Vertices keep this fraction of an edge from its ends, so that triangles do not degenerate."""
RETREATS = 8
"""How often vertices of intersecting triangles move half way back."""

Level = Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n"]]
"""A function of points in world mm that is positive inside a structure, and never 0."""


def meshable(subject: Subject) -> dict[str, tuple[int, ...]]:
    """Everything that has a surface, with its classes: each structure, and the anatomy's unions."""
    anatomy = subject.prior.anatomy
    found: dict[str, tuple[int, ...]] = {name: (k,) for k, name in enumerate(anatomy.labels) if k}
    for name, members in anatomy.unions.items():
        found[name] = tuple(anatomy.labels.index(member) for member in members)
    return found


def default_spacing(subject: Subject) -> float:
    """A spacing, mm, at which volumes are within 1 %: 1.7 for the bundled heart, 0.8 for hippocampi."""
    side = float(np.prod(2 * subject.region.half)) ** (1 / 3)
    return min(LARGEST_SPACING_MM, round(side / REGION_STEPS, 1) or side / REGION_STEPS)


def enclosing_grid(subject: Subject, spacing_mm: float) -> Grid:
    """A grid along the region's axes whose outermost points lie just outside the region.

    Raises:
        BadSettingError: the spacing gives too many or too few points, or is not positive.
    """
    if not np.isfinite(spacing_mm) or spacing_mm <= 0:
        raise BadSettingError(f"spacing {spacing_mm} mm: give a positive number", options=["spacing"])
    shape = np.floor(2 * subject.region.half / spacing_mm).astype(np.int64) + 2
    if shape.astype(float).prod() > LARGEST:
        raise BadSettingError(
            f"spacing {spacing_mm:g} mm: the region would have {shape.astype(float).prod():.2g} points, more "
            f"than {LARGEST:.2g}; give a larger one",
            options=["spacing"],
        )
    coarsest = 2 * float(subject.region.half.min()) / FEWEST
    if spacing_mm > coarsest:
        raise BadSettingError(
            f"spacing {spacing_mm:g} mm: too coarse for a region of this size; give at most "
            f"{math.floor(coarsest * 10) / 10:g}",
            options=["spacing"],
        )
    first = -(shape - 1) / 2 * spacing_mm
    affine = subject.region.pose.inverse @ Affine.scaling([spacing_mm] * 3, first)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@dataclass(frozen=True, eq=False)
class Levels:
    """Margins of structures at one time, on a grid and anywhere.

    Attributes:
        grid: grid of `values`; its outermost points are outside the region.
        values: margin of each structure on the grid (x, y, z), islands removed.
        margins: margin of each structure as a function.
    """

    time: float
    grid: Grid
    values: Mapping[str, Float[np.ndarray, "x y z"]]
    margins: Mapping[str, Margin]


def measured(subject: Subject) -> Answerer:
    """A subject's answers within its measured stack, as measures count them; background beyond."""
    if not subject.stacks:
        return subject.answers
    stack = subject.stacks[0]
    return WithinBounds(subject.answers, stack.grid.affine, stack.bounds)


def surfaces(
    subject: Subject,
    names: list[str] | None = None,
    *,
    time: float = 0.0,
    spacing_mm: float | None = None,
    memory_mb: float = 512.0,
) -> dict[str, Surface]:
    """Closed surfaces of structures and unions, on the level set where the label changes.

    Surfaces are closed at the border of the region and half a voxel beyond the measured stack. If
    the subject removes islands, each surface is a single component, possibly with cavities.

    Args:
        subject: the subject to evaluate.
        names: structures or unions (`meshable`); None for all that are present at this time.
        time: fraction of the cycle.
        spacing_mm: spacing of the sampling grid; None for `default_spacing`.
        memory_mb: working memory in MiB, in addition to the probabilities on the grid.

    Raises:
        BadSettingError: no such structure, no such spacing, or a package is missing.
        CannotFitError: a named structure is absent at this time, or all are.
    """
    levels = levels_at(subject, names, time, spacing_mm, memory_mb)
    return {name: surface_of(levels, name) for name in levels.margins}


def levels_at(
    subject: Subject, names: list[str] | None, time: float, spacing_mm: float | None, memory_mb: float
) -> Levels:
    """The margins from which surfaces are made; arguments and errors as for `surfaces`."""
    classes = meshable(subject)
    for name in names or ():
        if name not in classes:
            raise BadSettingError(
                f"{name}: no such structure; give some of {', '.join(classes)}", options=["structures"]
            )
    spacing_mm = default_spacing(subject) if spacing_mm is None else spacing_mm
    grid = enclosing_grid(subject, spacing_mm).at_times([time])
    answers = measured(subject)
    rendering = empty_rendering(grid, answers.channels, answers.classes, probabilities=True, deviations=False)
    answers.fill(Frame(rendering, 0, None), grid, time, memory_mb=memory_mb)
    probability = rendering.probability
    assert probability is not None
    values, margins = {}, {}
    for name in names or classes:
        here = margin_of(probability[..., 0, :], classes[name])
        if (here > 0).any():
            values[name] = here if subject.islands == "keep" else largest_part(here)
            margins[name] = Margin(answers, classes[name], time, memory_mb)
        elif names is not None:
            raise CannotFitError(f"{subject.name}: there is no {name} at time {time:g}")
    if not values:
        raise CannotFitError(f"{subject.name}: there is no structure at time {time:g}")
    return Levels(time, grid, values, margins)


def surface_of(levels: Levels, name: str) -> Surface:
    """The surface of one of the structures."""
    return level_set(name, levels.values[name], levels.grid.affine, levels.margins[name], levels.time)


def largest_part(values: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    """Make all positive values negative that are not in the largest connected part."""
    # Connected along the grid's edges: marching cubes keeps such points together, others not always.
    parts, count = ndimage.label(values > 0)
    if count < 2:
        return values
    largest = 1 + np.bincount(parts.ravel())[1:].argmax()
    return np.where((parts > 0) & (parts != largest), -np.abs(values), values)


def level_set(
    name: str, values: Float[np.ndarray, "x y z"], affine: Affine, level: Level, time: float = 0.0
) -> Surface:
    """The closed surface where a function changes sign.

    Marching cubes (Lewiner et al. 2003) puts each vertex on a grid edge between points of opposite sign. The
    vertex is then moved along this edge to the zero of the function itself, by Chandrupatla's root finder. On
    its edge it always finds the surface, even where the function jumps, as at the end of the stack. Because
    vertices stay within their cells, triangles rarely intersect, unlike with moves along normals. If they do,
    in cells with several sheets, their vertices move back towards the result of marching cubes.

    Args:
        name: name of the enclosed structure or union.
        values: the function on a grid; negative on the grid's border.
        affine: grid index to world mm.
        level: the function in world mm.
        time: fraction of the cycle.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise BadSettingError("meshes need the package scikit-image: pip install 'nisf[mesh]'") from error

    # Only the signs matter. Values of similar size keep vertices away from the ends of their edges.
    rough = np.sign(values) * np.clip(np.abs(values), 0.1, 2.0)
    index, faces, _, _ = marching_cubes(rough.astype(np.float32), 0.0)
    index, faces = np.asarray(index, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    surface = Surface(name, affine(index), faces, time)
    if surface.volume_ml < 0:
        faces = faces[:, ::-1].copy()
    moved = on_edges(index, values, affine, level)
    for _ in range(RETREATS):
        surface = Surface(name, affine(moved), faces, time)
        crossing = crossing_triangles(surface)
        if not len(crossing):
            break
        back = np.unique(faces[crossing])
        moved[back] = (moved[back] + index[back]) / 2
    return surface


def on_edges(
    index: Float[np.ndarray, "n 3"], values: Float[np.ndarray, "x y z"], affine: Affine, level: Level
) -> Float[np.ndarray, "n 3"]:
    """Move vertices of marching cubes along their edges to where ``level`` is 0; all in grid indices.

    The few vertices inside ambiguous cells stay where they are.
    """
    from scipy.optimize.elementwise import find_root

    low = np.floor(index).astype(np.int64)
    along = index - low
    on_edge = np.flatnonzero((along > 0).sum(1) == 1)
    first, axis = low[on_edge], along[on_edge].argmax(1)
    step = np.eye(3)[axis]
    spacing = affine.spacing[axis]
    ends = values[tuple(first.T)], values[tuple((first + step.astype(np.int64)).T)]

    def at(fraction: np.ndarray, row: np.ndarray) -> np.ndarray:
        row = row.astype(np.int64)
        # The ends are known. They have no islands, which the function itself still has.
        out = np.where(fraction <= 0, ends[0][row], ends[1][row])
        between = np.flatnonzero((fraction > 0) & (fraction < 1))
        row = row[between]
        out[between] = level(affine(first[row] + fraction[between, None] * step[row]))
        return out

    rows = np.arange(len(on_edge), dtype=np.float64)
    bracket = (np.zeros(len(rows)), np.ones(len(rows)))
    tolerance = TOLERANCE_MM / float(spacing.max())
    root = find_root(at, bracket, args=(rows,), tolerances={"xatol": tolerance}, maxiter=40)
    out = index.copy()
    out[on_edge] = first + np.clip(root.x, OFF_CORNER, 1 - OFF_CORNER)[:, None] * step
    return out
