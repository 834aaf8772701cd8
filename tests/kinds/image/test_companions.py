from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.case import Stack
from nisf.data.geometry import Grid
from nisf.kinds.image.companions import at_reference_times
from nisf.prior.fit import fit


def with_long_axis(times, frames=6):
    """A toy case with a long-axis plane at these times, through the middle of its stack."""
    case = toys.toy_case(0, toys.toy_grid(frames=frames))
    plane = Grid.plane((0.0, 0.0, 0.0), (0, 1, 0), size_mm=(96, 60), spacing_mm=4.0, times=times)
    first = case.slices[0]
    pixels = np.full((*plane.shape[:2], 1), 500.0, dtype=np.float32)
    slices = [
        replace(first, image=pixels + t, label=None, affine=plane.affine, time=float(time), stack=1, frame=t)
        for t, time in enumerate(times)
    ]
    stacks = (*case.stacks, Stack("la", plane, intensity_range=case.stacks[0].intensity_range))
    return replace(case, stacks=stacks, slices=(*case.slices, *slices))


def frames_at(case, time):
    """Frames of the long-axis slices that are used at a time."""
    return [item.frame for item in case.slices if item.stack == 1 and item.time == pytest.approx(time)]


def test_each_time_of_the_reference_stack_gets_the_nearest_frame():
    found = at_reference_times(with_long_axis(np.arange(25) / 25))
    own = [item.time for item in found.slices if item.stack == 0]
    assert {item.time for item in found.slices} == set(own)
    # Times 0, 1/6, 1/3, 1/2, 2/3 and 5/6 in frames of 1/25 of the cycle.
    assert [frames_at(found, k / 6) for k in range(6)] == [[0], [4], [8], [12], [17], [21]]


def test_the_end_of_the_cycle_is_near_its_start_and_other_times_are_not_used():
    found = at_reference_times(with_long_axis(np.array([0.1, 0.99])))
    assert frames_at(found, 0.0) == [1]
    assert sum(item.stack == 1 for item in found.slices) == 1


def test_equal_times_change_nothing():
    case = with_long_axis(np.arange(6) / 6)
    assert at_reference_times(case) is case


def test_a_stack_that_shows_the_anatomy_by_itself_keeps_its_times():
    case = toys.toy_case(0, toys.toy_grid(frames=1))
    other = [replace(item, stack=1, time=0.35) for item in case.slices]
    both = replace(case, stacks=case.stacks * 2, slices=(*case.slices, *other))
    assert at_reference_times(both) is both


def test_no_time_is_answered_from_the_long_axis_alone(toy_image_prior):
    plain = fit(toys.toy_case(0, toys.toy_grid(frames=6)), toy_image_prior, find="centre")
    both = fit(with_long_axis(np.arange(25) / 25), toy_image_prior, find="centre")
    # Far from the long-axis plane the nearest slices are those of the stack alone.
    place = np.stack(np.meshgrid(np.arange(-30, 31, 4.0), [-34.0, 34.0], [-15.0, 15.0]), axis=-1)
    for time in (0.0, 0.04, 0.2, 0.56):
        np.testing.assert_array_equal(both.scenes.times, plain.scenes.times)
        _, one = plain.query(place, time)
        _, other = both.query(place, time)
        assert (one.argmax(-1) == other.argmax(-1)).mean() > 0.9
