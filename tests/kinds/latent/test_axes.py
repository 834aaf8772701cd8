from dataclasses import replace

import pytest

import toys
from nisf.errors import CannotFitError
from nisf.kinds.latent.axes import refuse_more_axes

STILL = replace(toys.ANATOMY, phases=None)


def of_case(positions, frames):
    case = toys.toy_case(0)
    kept = tuple(s for s in case.slices if s.position < positions and s.frame < frames)
    return replace(case, slices=kept)


@pytest.mark.parametrize(
    ("positions", "frames", "dimensions", "anatomy", "said"),
    [
        (1, 1, 2, toys.ANATOMY, None),
        (3, 1, 2, STILL, "3 slices, but a field of 2 dimensions"),
        (3, 1, 3, toys.ANATOMY, None),
        (3, 2, 3, toys.ANATOMY, "2 frames, but a field of 3 dimensions"),
        (3, 2, 3, STILL, None),  # repeated measurements
        (1, 2, 2, toys.ANATOMY, "2 frames, but a field of 2 dimensions"),
        (3, 2, 4, toys.ANATOMY, None),
    ],
)
def test_axes_that_the_field_lacks(positions, frames, dimensions, anatomy, said):
    case = of_case(positions, frames)
    if said is None:
        refuse_more_axes(case, dimensions, anatomy)
        return
    with pytest.raises(CannotFitError, match=said):
        refuse_more_axes(case, dimensions, anatomy)
