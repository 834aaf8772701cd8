"""Reject cases that extend along an axis that the field does not have."""

from __future__ import annotations

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.wording import counted
from nisf.errors import CannotFitError


def refuse_more_axes(case: Case, dimensions: int, anatomy: Anatomy) -> None:
    """Check that a case has no axis along which the field's answer could not change.

    Several frames of an anatomy that does not move are measurements of the same.

    Args:
        case: to be fitted or trained on.
        dimensions: of the field's coordinates: 2 (x, y), 3 (x, y, z) or 4 (x, y, z, t).
        anatomy: says whether it moves.

    Raises:
        CannotFitError: it has such an axis.
    """
    positions = len({(item.stack, item.position) for item in case.slices})
    if dimensions == 2 and positions > 1:
        raise CannotFitError(
            f"{case.name}: {counted(positions, 'slice')}, but a field of 2 dimensions (field.dimensions) "
            "answers the same in all of them; give single slices, or train a field of 3 or 4 dimensions"
        )
    times = len({item.time for item in case.slices})
    if dimensions < 4 and times > 1 and anatomy.phases is not None:
        raise CannotFitError(
            f"{case.name}: {counted(times, 'frame')}, but a field of {dimensions} dimensions "
            "(field.dimensions) answers the same in all of them; give single frames, or train a field of 4 "
            "dimensions"
        )
