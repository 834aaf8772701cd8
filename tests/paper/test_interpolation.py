from dataclasses import replace

import numpy as np
import pytest

from nisf.data.hiding import hide
from nisf.errors import NisfError
from nisf.evaluation.scores import label_volume
from nisf.paper.interpolation import FAR, between, interpolated, signed_distance
from nisf.paper.methods import by_reference
from nisf.phantom import Scanner, cohort

X, Y = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32, indexing="ij")


@pytest.fixture(scope="module")
def case():
    return next(iter(cohort(1, seed=2, scanner=Scanner(frames=1)))).case


def disc(radius, x=0.0):
    return (((X - x) ** 2 + Y**2) < radius**2).astype(np.int16)


def test_signed_distance_of_a_bar():
    mask = np.zeros((50, 2), dtype=bool)
    mask[2:5] = True
    found = signed_distance(mask)
    for column in found.T:
        assert column[:10].tolist() == [-2, -1, 1, 2, 1, -1, -2, -3, -4, -5]
        assert column[30:].tolist() == [-FAR] * 20
    assert (signed_distance(np.zeros((4, 4), dtype=bool)) == -FAR).all()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_discs_between_discs(share):
    found = between(disc(20), disc(8), share, 2)
    radius = np.sqrt(found.sum() / np.pi)
    assert radius == pytest.approx((1 - share) * 20 + share * 8, abs=0.7)
    moved = between(disc(10, -4), disc(10, 4), 0.5, 2)
    assert abs((X * moved).sum() / moved.sum()) < 0.2


def test_a_structure_that_ends_fades():
    assert 0 < between(disc(12), disc(0), 0.25, 2).sum() < disc(12).sum()
    assert between(disc(12), disc(0), 0.75, 2).sum() == 0


@pytest.mark.parametrize("how", ["shape", "nearest"])
def test_volume(case, how):
    true = {(s.position, s.frame): np.asarray(s.label).astype(np.int16) for s in case.slices}
    seen = {key: label for key, label in true.items() if key[0] % 2 == 0}
    volume = interpolated(seen, case, 4, how)
    for (position, frame), label in seen.items():
        np.testing.assert_array_equal(volume[:, :, position, frame], label)
    middle = len({p for p, _ in true}) // 4 * 2 + 1
    one, reference = volume[:, :, middle, 0] == 2, true[middle, 0] == 2
    dice = 2 * (one & reference).sum() / (one.sum() + reference.sum())
    assert dice > 0.6
    if how == "nearest":
        neighbours = [true[middle - 1, 0], true[middle + 1, 0]]
        assert any((volume[:, :, middle, 0] == label).all() for label in neighbours)


def test_beyond_the_last_slice_is_the_last_slice(case):
    true = {(s.position, s.frame): np.asarray(s.label).astype(np.int16) for s in case.slices}
    last = max(p for p, _ in true)
    seen = {key: label for key, label in true.items() if key[0] < last}
    volume = interpolated(seen, case, 4, "shape")
    np.testing.assert_array_equal(volume[:, :, last, 0], true[last - 1, 0])


def test_reference_labels_interpolated_are_those_of_the_seen_slices(case):
    seen, hidden = hide(case, "every-2nd-slice")
    reference = label_volume(case)
    found = by_reference().segment(seen, case)
    shown = sorted({s.position for s in seen.slices})
    np.testing.assert_array_equal(found[:, :, shown], reference[:, :, shown])
    # What is hidden has no say.
    blank = tuple(replace(s, label=np.zeros_like(s.label)) for s in hidden.slices)
    again = by_reference().segment(seen, replace(case, slices=(*seen.slices, *blank)))
    np.testing.assert_array_equal(again, found)
    bare = replace(seen, slices=tuple(replace(s, label=None) for s in seen.slices))
    with pytest.raises(NisfError, match="has labels"):
        by_reference().segment(bare, case)
