"""Surfaces from a subject: marching cubes, and every vertex then moved onto the field's level set."""

from __future__ import annotations

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
from nisf.subject.answerer import Answerer, WithinEnds
from nisf.subject.rendering import Frame, empty_rendering
from nisf.subject.subject import Subject

LARGEST_SPACING_MM = 2.0
REGION_STEPS = 80
"""Grid steps along a side of the region (the cube's of its volume) unless a spacing is given.

Flat triangles in a bent surface enclose too little; this keeps it below 1 %, measured on ACDC and Task04.
"""
LARGEST = 40_000_000
"""Grid points above which a spacing is refused: about 1 GB of probabilities."""
TOLERANCE_MM = 0.005
"""How near to the level set a vertex is brought."""
OFF_CORNER = 0.02
"""Vertices keep this fraction of an edge from its ends, so that no triangle has two corners in one place."""
RETREATS = 8
"""How often vertices of triangles that cross go half of the way back."""

Level = Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n"]]
"""A function of places in world mm that is positive inside a structure, and never 0."""


def meshable(subject: Subject) -> dict[str, tuple[int, ...]]:
    """What has a surface: each structure, and the unions that the anatomy names, with their classes."""
    anatomy = subject.prior.anatomy
    found: dict[str, tuple[int, ...]] = {name: (k,) for k, name in enumerate(anatomy.labels) if k}
    for name, members in anatomy.unions.items():
        found[name] = tuple(anatomy.labels.index(member) for member in members)
    return found


def default_spacing(subject: Subject) -> float:
    """A spacing, mm, at which volumes are right to 1 %: 1.7 for the bundled heart, 0.8 for hippocampi."""
    side = float(np.prod(2 * subject.region.half)) ** (1 / 3)
    return min(LARGEST_SPACING_MM, round(side / REGION_STEPS, 1) or side / REGION_STEPS)


def enclosing_grid(subject: Subject, spacing_mm: float) -> Grid:
    """A grid along the region's axes whose outermost points lie just outside the region.

    Raises:
        BadSettingError: the spacing gives too many points, or is not positive.
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
    first = -(shape - 1) / 2 * spacing_mm
    affine = subject.region.pose.inverse @ Affine.scaling([spacing_mm] * 3, first)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@dataclass(frozen=True, eq=False)
class Levels:
    """Margins of structures at one time, on a grid and anywhere.

    Attributes:
        time: fraction of the cycle.
        grid: where `values` are; its outermost points are outside.
        values: by name of the structure, the margin on the grid (x, y, z), islands removed.
        margins: by name, the margin itself.
    """

    time: float
    grid: Grid
    values: Mapping[str, Float[np.ndarray, "x y z"]]
    margins: Mapping[str, Margin]


def measured(subject: Subject) -> Answerer:
    """A subject's answers as far as its reference stack reaches: half a slice beyond its first and last."""
    if not subject.stacks:
        return subject.answers
    grid = subject.stacks[0].grid
    return WithinEnds(subject.answers, grid.affine, (0, grid.shape[2] - 1))


def surfaces(
    subject: Subject,
    names: list[str] | None = None,
    *,
    time: float = 0.0,
    spacing_mm: float | None = None,
    memory_mb: float = 512.0,
) -> dict[str, Surface]:
    """Closed surfaces of structures and unions, on the level set where the label changes.

    Surfaces are closed at the border of the region and half a slice beyond the ends of the measured stack. If
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
    """What surfaces are made from; arguments and errors as for `surfaces`."""
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
    """Values whose positive places, apart from their largest part, are turned negative."""
    # Joined along the grid's edges: marching cubes keeps those together, and perhaps no others.
    parts, count = ndimage.label(values > 0)
    if count < 2:
        return values
    largest = 1 + np.bincount(parts.ravel())[1:].argmax()
    return np.where((parts > 0) & (parts != largest), -np.abs(values), values)


def level_set(
    name: str, values: Float[np.ndarray, "x y z"], affine: Affine, level: Level, time: float = 0.0
) -> Surface:
    """The closed surface where a function changes its sign.

    Marching cubes (Lewiner et al. 2003) puts each vertex on an edge of the grid whose ends lie on either
    side. It is then moved along this edge to where the function itself changes its sign, by
    Chandrupatla's root finder. On its edge a vertex is sure to meet the surface, also where the function
    jumps, as at the end of the stack; and as it does not leave the cells that its triangles fill, these
    hardly ever come to cross each other, as they do where vertices move along normals. Where they do, in
    cells with several sheets, their vertices go back towards where marching cubes had them.

    Args:
        name: of what is enclosed.
        values: the function on a grid; negative on the grid's border.
        affine: grid index to world mm.
        level: the function in world mm.
        time: fraction of the cycle.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise BadSettingError("meshes need the package scikit-image: pip install 'nisf[mesh]'") from error

    # Only the signs matter here. Values of like size keep vertices off the ends of their edges.
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
    """Vertices of marching cubes moved along their edges to where ``level`` is 0; all in grid indices.

    The few that ambiguous cells have inside are left where they are.
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
        # The ends are known; and there are no islands on them, which the function still has.
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
