"""Breath-holds of phantoms, whose shifts are known, found from the lines where planes cross."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from nisf.alignment import Shift, aligned, find_shifts, planes_of, shift_of
from nisf.alignment.planes import crossings
from nisf.data.geometry import Affine, Grid
from nisf.data.region import region_from_labels
from nisf.phantom import Scanner, scan
from nisf.phantom.cohort import subject
from nisf.phantom.scanner import long_axis, scan_plane

HALF = np.array([65.0, 65.0, 60.0])


@functools.cache
def study(seed, shift_mm, views=("4ch", "2ch"), oblique=0.0):
    """A short-axis stack with long-axis planes, the true shifts of the stack, and the heart's region.

    Each slice lies ``oblique`` slice distances beside the one before, along the image's first axis.
    """
    heart, scanner = subject(3, seed, Scanner(frames=2, shift_mm=shift_mm))
    scanner = replace(scanner, frames=2, shift_mm=shift_mm)
    short = scan(heart, scanner, seed)
    if oblique:
        grid = short.case.stacks[0].grid
        matrix = grid.affine.matrix.copy()
        aside = oblique * grid.spacing[2] * grid.affine.axes[:, 0]
        matrix[:3, 2] += aside
        matrix[:3, 3] -= aside * (grid.shape[2] - 1) / 2
        grid = Grid(grid.shape, Affine(matrix), grid.times)
        short = scan_plane(heart, grid, scanner, seed, stack="sa")
    stacks, slices = list(short.case.stacks), list(short.case.slices)
    for number, view in enumerate(views):
        grid = long_axis(heart, view, frames=2)
        plane = scan_plane(heart, grid, scanner, 100 + 10 * seed + number, stack=view).case
        slices += [replace(item, stack=len(stacks)) for item in plane.slices]
        stacks.append(plane.stacks[0])
    case = replace(short.case, stacks=tuple(stacks), slices=tuple(slices))
    return case, short.shifts_mm, region_from_labels(short.case, HALF, order=False)


@functools.cache
def found(seed, shift_mm):
    """The shifts that are found in a study."""
    case, _, region = study(seed, shift_mm)
    return find_shifts(case, region)


def errors(case, true, shifts):
    """What is left of the stack's shifts in slices that show the heart, means removed: mm."""
    drawn = {item.position for item in case.slices if item.stack == 0 and (item.label > 0).any()}
    moved = {shift.position: shift.mm for shift in shifts if shift.stack == 0}
    chosen = sorted(drawn & set(moved))
    left = np.array([moved[k] for k in chosen]) - true[chosen]
    return np.abs(left - left.mean(axis=0))


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("shift_mm", [0.0, 2.0])
def test_shifts_are_found_to_less_than_a_pixel(seed, shift_mm):
    case, true, _ = study(seed, shift_mm)
    assert errors(case, true, found(seed, shift_mm)).max() < 0.7


def test_a_stack_whose_slices_lie_obliquely_behind_each_other():
    case, true, region = study(0, 2.0, oblique=0.3)
    assert errors(case, true, find_shifts(case, region)).max() < 0.7


@pytest.mark.parametrize("away", [(-25, 14, 0), (25, -14, 20)])
def test_long_axis_images_far_from_where_they_belong(away):
    """Farther than the search goes, as if the patient had moved between the scans."""
    case, _, region = study(0, 0.0)
    step = case.stacks[0].grid.affine.axes @ away
    moved = [
        replace(s, affine=Affine(s.affine.matrix + np.pad(step[:, None], ((0, 1), (3, 0)))))
        for s in case.slices
        if s.stack
    ]
    slices = (*(s for s in case.slices if not s.stack), *moved)
    shifts = find_shifts(replace(case, slices=slices), region)
    assert {shift.stack for shift in shifts} == {0, 1, 2}
    reference = np.array([shift.mm for shift in shifts if shift.stack == 0])
    np.testing.assert_allclose(reference.mean(0), 0, atol=1e-3)


def test_a_gain_and_an_offset_of_an_image_change_nothing():
    case, _, region = study(0, 2.0)
    brighter = tuple(replace(s, image=3 * s.image + 100) if s.stack else s for s in case.slices)
    assert find_shifts(replace(case, slices=brighter), region) == found(0, 2.0)


def test_the_order_of_slices_changes_nothing():
    case, _, region = study(0, 2.0)
    assert find_shifts(replace(case, slices=case.slices[::-1]), region) == found(0, 2.0)


def test_parallel_slices_alone_are_left_where_they_are():
    case, _, region = study(0, 2.0, views=())
    assert find_shifts(case, region) == []
    assert aligned(case, []).slices == case.slices


def test_lines_lie_in_both_planes():
    case, _, region = study(0, 0.0)
    planes = planes_of(case)
    lines = crossings(planes, region)
    assert len(lines) > 10
    for line in lines:
        assert region.contains(line.line).all()
        for index in line.planes:
            np.testing.assert_allclose(planes[index].affine.inverse(line.line)[:, 2], 0, atol=1e-9)


def test_frames_are_those_of_the_same_time():
    case, _, region = study(0, 0.0)
    late = tuple(replace(s, time=(s.time + 0.5) % 1.0) if s.stack else s for s in case.slices)
    planes = planes_of(replace(case, slices=late))
    for line in crossings(planes, region):
        a, b = line.planes
        np.testing.assert_allclose(planes[a].times[line.frames[0]], planes[b].times[line.frames[1]])


def test_aligned_slices_lie_where_their_tissue_is():
    case, _, _ = study(0, 0.0)
    moved = aligned(case, [Shift(0, 3, (2.0, -1.5))])
    assert moved.stacks == case.stacks
    for old, new in zip(case.slices, moved.slices, strict=True):
        step = np.array([2.0, -1.5, 0.0]) * ((old.stack, old.position) == (0, 3))
        np.testing.assert_allclose(
            new.affine.matrix[:3, 3], old.affine.matrix[:3, 3] - old.affine.axes @ step, atol=1e-12
        )


def test_shifts_from_json():
    assert shift_of({"stack": 0, "position": 3, "mm": [1, -2.5]}) == Shift(0, 3, (1.0, -2.5))
    with pytest.raises(ValueError, match="not finite"):
        shift_of({"stack": 0, "position": 3, "mm": [1, float("nan")]})
