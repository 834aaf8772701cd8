from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nisf.data.geometry import Affine, Grid
from nisf.phantom import LABELS, Heart, Scanner, label, long_axis, scan, scan_plane, short_axis, volumes_ml
from nisf.phantom.cohort import volume
from nisf.phantom.heart import axes

HEART = Heart(centre_mm=(-30.0, 15.0, 40.0))
SMALL = Scanner(spacing_mm=3.0, matrix=(56, 56), frames=3, noise=0.0, bias=0.0, shift_mm=0.0)


def test_a_case_is_complete():
    case = scan(HEART, SMALL, name="somebody").case
    stack = case.stacks[0]
    assert (case.name, stack.name, case.labels) == ("somebody", "sa", LABELS)
    assert case.known == frozenset(LABELS)
    assert stack.cycle_ms == SMALL.cycle_ms
    assert case.phases == {"ED": 0.0, "ES": pytest.approx(1 / 3)}
    assert len(case.slices) == stack.grid.shape[2] * 3
    assert {s.thickness for s in case.slices} == {8.0}
    np.testing.assert_allclose(stack.grid.spacing, [3, 3, 10])
    image, labels = volume(scan(HEART, SMALL))
    assert (image == np.rint(image)).all()
    assert image.min() >= 0
    assert image.max() < 32767
    # One slice above the base and one below the apex, at end-diastole.
    drawn = (labels[..., 0] > 0).any((0, 1))
    assert not drawn[0]
    assert not drawn[-1]
    assert drawn[1:-1].all()


@settings(max_examples=4, deadline=None)
@given(
    rotation=st.floats(-180, 180), tilt=st.tuples(st.floats(-15, 15), st.floats(-15, 15)), flip=st.booleans()
)
def test_labels_of_an_oblique_stack_are_the_truth_at_its_places(rotation, tilt, flip):
    scanner = replace(SMALL, rotation_deg=rotation, tilt_deg=tilt, from_apex=flip, frames=1)
    for one in scan(HEART, scanner).case.slices[::2]:
        i, j = np.meshgrid(*map(np.arange, one.image.shape[:2]), indexing="ij")
        places = one.affine(np.stack([i, j, np.zeros_like(i)], axis=-1))
        different = one.label != label(HEART, places, one.time)
        # The same place computed twice may differ in its last bit, on a boundary.
        assert different.mean() < 1e-3


def test_volumes_of_a_fine_stack_are_near_the_truth():
    one = scan(HEART, replace(SMALL, spacing_mm=2.0, matrix=(88, 88), thickness_mm=4.0, gap_mm=0.0, frames=2))
    _, labels = volume(one)
    grid = one.case.stacks[0].grid
    for frame, time in enumerate(grid.times):
        for index, name in enumerate(LABELS[1:], start=1):
            counted = (labels[..., frame] == index).sum() * grid.voxel_ml
            assert counted == pytest.approx(volumes_ml(HEART, time)[name], rel=0.05)


def test_shifts_are_known():
    moved = scan(HEART, replace(SMALL, shift_mm=4.0, frames=1), seed=3)
    grid = moved.case.stacks[0].grid
    assert moved.shifts_mm.shape == (grid.shape[2], 2)
    assert 1 < np.abs(moved.shifts_mm).mean() < 8
    _, still = volume(scan(HEART, replace(SMALL, frames=1), seed=3))
    _, labels = volume(moved)
    for k in range(1, grid.shape[2] - 2):
        centre = np.argwhere(labels[:, :, k, 0] == 1).mean(0) - np.argwhere(still[:, :, k, 0] == 1).mean(0)
        np.testing.assert_allclose(centre * 3.0, moved.shifts_mm[k], atol=0.9)


def test_the_same_seed_gives_the_same_scan_and_another_does_not():
    noisy = replace(SMALL, noise=0.03, bias=0.1, shift_mm=1.0, frames=2)
    first, again, other = (volume(scan(HEART, noisy, seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_noise_is_rician_and_shading_is_smooth():
    clean, noisy = (volume(scan(HEART, replace(SMALL, noise=n, frames=1)))[0] for n in (0.0, 0.05))
    bright, dark = clean > 250, clean < 5
    assert (noisy - clean)[bright].std() == pytest.approx(0.05 * SMALL.scale, rel=0.1)
    assert noisy[dark].mean() == pytest.approx(0.05 * SMALL.scale * np.sqrt(np.pi / 2), rel=0.15)
    shaded = volume(scan(HEART, replace(SMALL, bias=0.2, frames=1)))[0]
    factor = shaded[bright] / clean[bright]
    assert 0.02 < factor.std() < 0.5


def test_a_thick_slice_through_the_base_blends_what_it_cuts():
    apex = axes(HEART)[2]
    length = HEART.length_mm + 0.7 * HEART.wall_mm
    # Down the middle of the myocardium's ring: muscle below the base, mitral valve and atrium above it.
    base = np.asarray(HEART.centre_mm) - apex * length / 2
    ring = base - axes(HEART)[0] * (HEART.radius_mm + 4)
    grid = Grid((1, 1, 1), Affine.from_axes(axes(HEART).T, [1, 1, 1], ring))
    thick, above, below = (
        scan_plane(HEART, moved, replace(SMALL, thickness_mm=thickness)).case.slices[0].image.item()
        for thickness, moved in (
            (10.0, grid),
            (0.1, Grid((1, 1, 1), grid.affine.shifted((0, 0, -4)))),
            (0.1, Grid((1, 1, 1), grid.affine.shifted((0, 0, 4)))),
        )
    )
    assert min(above, below) + 20 < thick < max(above, below) - 20


@pytest.mark.parametrize(("view", "both"), [("4ch", True), ("2ch", False)])
def test_long_axis_views(view, both):
    one = scan_plane(HEART, long_axis(HEART, view, spacing_mm=3.0, frames=2), SMALL, stack=f"la_{view}")
    assert one.case.stacks[0].name == f"la_{view}"
    found = one.case.slices[0].label
    assert (found == 1).any()
    assert (found == 2).any()
    assert (found == 3).sum() > 50 if both else (found == 3).sum() < 60
    # The apex is up, where pictures have their first row: the cavity narrows towards it.
    widths = (found == 1).sum(0)
    inside = np.nonzero(widths)[0]
    assert widths[inside[0]] < widths[inside[-1]]


def test_the_heart_is_seen_as_radiologists_see_it():
    one = scan(HEART, SMALL).case
    middle = next(s for s in one.slices if s.position == 5 and s.frame == 0)
    left, right = (np.argwhere(middle.label == k).mean(0) for k in (1, 3))
    assert right[0] < left[0] - 5
    # From the apex the base is far: the first image axis, then the second one, point away from the viewer.
    grid = short_axis(HEART, SMALL)
    i, j, _ = grid.affine.axes.T
    assert np.cross(i, j) @ axes(HEART)[2] < -0.9
    assert j[2] < 0


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="3ch"):
        long_axis(HEART, "3ch")
    with pytest.raises(ValueError, match="positive"):
        Scanner(frames=0)
    with pytest.raises(ValueError, match="negative"):
        Scanner(noise=-1.0)
