from dataclasses import replace

import numpy as np

import toys
from nisf.paper.windows import window_of


def test_a_window_is_a_square_around_the_structures_and_stays_in_the_image():
    case = toys.toy_case(1)
    shape = case.stacks[0].grid.shape

    def marked(i, j):
        """The case with one structure, in pixels i and j of one slice."""
        label = np.zeros(shape[:2], dtype=np.int16)
        label[i, j] = 1
        blank = np.zeros_like(label)
        slices = tuple(replace(s, label=blank if k else label) for k, s in enumerate(case.slices))
        return replace(case, slices=slices)

    assert window_of(marked(slice(8, 17), slice(10, 13)), room=1.5) == (slice(6, 18), slice(5, 17))
    # At least as wide as for a structure of eight pixels, and cut off at the image's edge.
    assert window_of(marked(slice(0, 1), slice(15, 16)), room=2.0) == (slice(0, 8), slice(7, 23))
