from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nisf.data.case import UNKNOWN, Case, Points, Stack, slices_of_volume
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.hiding import PROTOCOLS, hide
from nisf.errors import NisfError


def cone(depth=8, frames=2, first=1, last=6, *, base_first=True, labelled=True):
    """A case whose labelled squares, in positions first..last, grow towards the base."""
    grid = Grid((12, 12, depth), Affine.scaling((1, 1, 8)), cycle_times(frames))
    label = np.zeros((12, 12, depth, frames), dtype=np.int16)
    for k in range(first, last + 1):
        size = 3 + (last - k if base_first else k - first)
        label[1 : 1 + size, 1 : 1 + size, k] = 1
    image = np.zeros((*label.shape, 1), dtype=np.float32)
    slices = slices_of_volume(image, label if labelled else None, grid)
    return Case("cone", (Stack("sa", grid),), slices, ("background", "heart"), frozenset({"heart"}))


def positions(case):
    return sorted({s.position for s in case.slices})


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("every-2nd-slice", [1, 3, 5, 7]),
        ("every-3rd-slice", [2, 5]),
        ("basal", [0, 1]),
        ("apical", [6, 7]),
        ("all-but-1", [0, 1, 2, 3, 5, 6, 7]),
        ("all-but-2", [0, 2, 3, 4, 5, 7]),
        ("all-but-3", [0, 2, 4, 5, 7]),
    ],
)
def test_hidden_positions(protocol, expected):
    seen, hidden = hide(cone(), protocol)
    assert positions(hidden) == expected
    assert positions(seen) == sorted(set(range(8)) - set(expected))
    assert {s.frame for s in seen.slices} == {s.frame for s in hidden.slices} == {0, 1}


def test_base_and_apex_do_not_depend_on_the_slice_order():
    case = cone(base_first=False)
    assert positions(hide(case, "basal")[1]) == [6, 7]
    assert positions(hide(case, "apical")[1]) == [0, 1]


def test_slices_count_among_those_that_are_there():
    case = cone().keep(lambda s: s.position % 2 == 0)
    assert positions(hide(case, "every-2nd-slice")[1]) == [2, 6]


def test_without_labels_all_but_spreads_over_everything():
    assert positions(hide(cone(labelled=False), "all-but-3")[0]) == [0, 4, 7]


def test_hidden_frames():
    seen, hidden = hide(cone(frames=5), "every-2nd-frame")
    assert {s.frame for s in seen.slices} == {0, 2, 4}
    assert {s.frame for s in hidden.slices} == {1, 3}
    assert positions(hidden) == list(range(8))


def test_none_is_seen_and_scored_alike():
    case = cone()
    assert hide(case, "none") == (case, case)


def test_other_stacks_stay_seen():
    case = cone()
    long_axis = tuple(replace(s, stack=1) for s in case.slices)
    both = replace(
        case, stacks=(*case.stacks, Stack("la", case.stacks[0].grid)), slices=case.slices + long_axis
    )
    seen, hidden = hide(both, "every-2nd-slice")
    assert {s.stack for s in hidden.slices} == {0}
    assert [s for s in seen.slices if s.stack == 1] == list(long_axis)


def test_points_go_with_their_slice():
    case = cone(frames=1)
    number = np.array([0, 1, 2, 3, 4, 5, 6, 7, -1])
    points = Points(
        position=np.zeros((9, 3)),
        time=np.zeros(9),
        intensity=np.arange(9.0)[:, None],
        label=np.full(9, UNKNOWN),
        slice=number,
        frame=np.zeros(9, dtype=int),
    )
    seen, hidden = hide(replace(case, points=points), "every-2nd-slice")
    assert seen.points is not None
    assert hidden.points is not None
    assert seen.points.intensity[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert seen.points.slice.tolist() == [0, 1, 2, 3, -1]
    assert hidden.points.intensity[:, 0].tolist() == [1, 3, 5, 7]
    assert [hidden.slices[i].position for i in hidden.points.slice] == [1, 3, 5, 7]


NUMBERS = st.integers(1, 9)


@given(
    st.integers(3, 12),
    st.integers(1, 6),
    st.booleans(),
    st.one_of(
        st.sampled_from(["basal", "apical"]),
        st.builds("every-{}th-slice".format, NUMBERS),
        st.builds("every-{}th-frame".format, NUMBERS),
        st.builds("all-but-{}".format, NUMBERS),
    ),
)
@settings(max_examples=80, deadline=None)
def test_seen_and_hidden_partition_the_case(depth, frames, base_first, protocol):
    case = cone(depth, frames, 0, depth - 1, base_first=base_first)
    try:
        seen, hidden = hide(case, protocol)
    except NisfError:
        # A number that this case is too small for; the messages have a test of their own.
        return
    assert seen.slices
    assert hidden.slices
    ids = [id(s) for s in (*seen.slices, *hidden.slices)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(s) for s in case.slices}


@pytest.mark.parametrize(
    ("case", "protocol", "message"),
    [
        (cone(), "every-other", "no such protocol"),
        (cone(), "every-1st-slice", "at least 2"),
        (cone(), "all-but-0", "at least 1"),
        (cone(), "all-but-7", "keeps more than the 6"),
        (cone(), "every-9th-slice", "hides nothing"),
        (cone(frames=1), "every-2nd-frame", "hides nothing"),
        (cone(labelled=False), "basal", "there are 0"),
        (cone(first=3, last=3), "apical", "there are 1"),
    ],
)
def test_what_cannot_be_done_is_said(case, protocol, message):
    with pytest.raises(NisfError, match=message) as error:
        hide(case, protocol)
    for name in PROTOCOLS:
        assert name in str(error.value)
