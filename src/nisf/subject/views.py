"""Planes through the long axis of a structure, found from a subject's own segmentation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nisf.data.anatomy import View
from nisf.data.geometry import Affine, Grid
from nisf.errors import CannotFitError
from nisf.subject.subject import Subject

SEARCH_MM = 4.0
"""Spacing at which structures are located, and of the cross-sections."""
ROUNDS = 4
"""Cross-sections of a tilted stack have their centres off the axis; a few iterations correct this."""


def box_grid(subject: Subject, spacing: tuple[float, float, float]) -> Grid:
    """A grid over a subject's whole region, at a spacing in mm along the model axes."""
    half = subject.region.half
    shape = np.maximum(1, np.floor(2 * half / spacing)).astype(int)
    first = -(shape - 1) / 2 * np.asarray(spacing)
    affine = subject.region.pose.inverse @ Affine.scaling(spacing, first)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def long_axis(
    places: Float[np.ndarray, "n 3"],
    across: Float[np.ndarray, "3"],
    whole: Float[np.ndarray, "b 3"] | None = None,
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """A point on the line through the centres of a structure's cross-sections, and the line's direction.

    The direction points from the larger to the smaller cross-sections. A ventricle that is round at both ends
    of its stack leaves this open; all structures together decide it. For this, the planes of the slices are
    used, because a tilted plane cuts the stack's first and last slice.

    Args:
        places: world mm of the structure's voxels.
        across: normal of the slices, and of the first cross-sections; later ones are perpendicular to the
            axis found so far.
        whole: world mm of the voxels of all structures, including this one; if None, this one only.
    """
    normal = across
    for _ in range(ROUNDS):
        level = np.round(places @ across / SEARCH_MM).astype(int)
        level -= level.min()
        area = np.bincount(level)
        sums = np.stack([np.bincount(level, weights=along) for along in places.T], axis=-1)
        sums, area = sums[area > 0], area[area > 0]
        centres = sums / area[:, None]
        middle = np.average(centres, axis=0, weights=area)
        # Small cross-sections at the ends have uncertain centres.
        _, _, directions = np.linalg.svd((centres - middle) * np.sqrt(area)[:, None], full_matrices=False)
        across = directions[0]
    seen = places if whole is None else whole
    levels, area = np.unique(np.round((seen - middle) @ normal / SEARCH_MM), return_counts=True)
    falls = np.polyfit(levels, area, 1)[0] < 0
    return middle, across * (1 if falls == (across @ normal > 0) else -1)


def view_plane(
    subject: Subject,
    view: View,
    *,
    size_mm: float = 160.0,
    spacing_mm: float = 1.0,
    time: float = 0.0,
    memory_mb: float = 512.0,
) -> Grid:
    """The plane of a view, given the structures' positions at ``time``.

    The structure's narrow end is at the top of the image, the other structure on the left.

    Args:
        subject: queried for its segmentation on a coarse grid.
        view: which plane.
        size_mm: side of the square.
        spacing_mm: pixel size.
        time: fraction of the cycle.
        memory_mb: working memory, MiB.

    Raises:
        CannotFitError: a structure was not found, or is too flat to have an axis.
    """
    grid = box_grid(subject, (SEARCH_MM, SEARCH_MM, SEARCH_MM)).at_times([time])
    label = subject.render(grid, memory_mb=memory_mb).label[..., 0]
    names = subject.prior.anatomy.labels
    index = {name: np.argwhere(label == names.index(name)) for name in (view.axis, view.towards)}
    for name, found in index.items():
        if len(np.unique(found[:, 2])) < 3:
            raise CannotFitError(
                f"{subject.name}: {name} is in fewer than three levels, so its axis is unknown"
            )
    axis, towards = grid.affine(index[view.axis]), grid.affine(index[view.towards])
    middle, apex = long_axis(axis, grid.affine.normal(), grid.affine(np.argwhere(label > 0)))
    side = towards.mean(0) - middle
    side -= (side @ apex) * apex
    side /= np.linalg.norm(side)
    angle = np.deg2rad(view.degrees)
    side = np.cos(angle) * side + np.sin(angle) * np.cross(apex, side)
    # The first image axis is the cross product of the second and the normal; it should run away from `side`.
    return Grid.plane(
        middle,
        np.cross(side, apex),
        size_mm=(size_mm, size_mm),
        spacing_mm=spacing_mm,
        up=-apex,
        times=(time,),
    )
