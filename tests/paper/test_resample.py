from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.paper.resample import on_grid, resampled


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_same_places_look_the_same(factor):
    case = toys.toy_case(1)
    other = resampled(case, factor)
    old, new = case.stacks[0].grid, other.stacks[0].grid
    assert new.spacing[:2] == pytest.approx(old.spacing[:2] * factor, rel=0.05)
    assert new.spacing[2] == pytest.approx(old.spacing[2])
    assert new.shape[2] == old.shape[2]
    np.testing.assert_allclose(new.centre(), old.centre(), atol=1e-6)
    assert all(item.label is None for item in other.slices)
    assert len(other.slices) == len(case.slices)
    first = next(s for s in case.slices if s.position == 2 and s.frame == 1)
    second = next(s for s in other.slices if s.position == 2 and s.frame == 1)
    # A place in the world: the same grey value, as far as the coarser of the two can show it.
    smooth = first.image[..., 0].astype(float)
    back = on_grid(second.image[..., 0][:, :, None, None], new, old)[:, :, 0, 0]
    assert np.corrcoef(smooth.ravel(), back.ravel())[0, 1] > (0.95 if factor < 2 else 0.8)


def test_only_what_was_seen_comes_back():
    case = toys.toy_case(1)
    seen = case.keep(lambda item: item.position % 2 == 0)
    other = resampled(seen, 2.0)
    assert {s.position for s in other.slices} == {s.position for s in seen.slices}
    assert other.stacks[0].grid.shape[2] == case.stacks[0].grid.shape[2]
    # Slices that were not seen are not black ones.
    bright = tuple(replace(s, image=s.image + 100.0) for s in seen.slices)
    low, high = resampled(replace(seen, slices=bright), 2.0).stacks[0].intensity_range[0]
    assert low == pytest.approx(100 + other.stacks[0].intensity_range[0][0])
    assert high == pytest.approx(100 + other.stacks[0].intensity_range[0][1])


def test_classes_on_another_grid():
    case = toys.toy_case(1)
    old = case.stacks[0].grid
    fine = resampled(case, 0.5).stacks[0].grid
    label = np.zeros((*old.shape, len(old.times)), dtype=np.int16)
    for item in case.slices:
        label[:, :, item.position, item.frame] = item.label
    finer = on_grid(label, old, fine)
    assert finer.shape[:2] == fine.shape[:2]
    # There and back is what it was.
    np.testing.assert_array_equal(on_grid(finer, fine, old), label)
