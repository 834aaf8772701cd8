import numpy as np
import pytest

import toys
from nisf.paper.sparse import KINDS, fewer_frames, fewer_labels, fewer_pixels, fewer_slices, labelled_voxels


def test_pixels_keep_their_places():
    case = toys.toy_case(3)
    thin = fewer_pixels(case, 3)
    for item, whole in zip(thin.slices, case.slices, strict=True):
        np.testing.assert_array_equal(item.image, whole.image[::3, ::3])
        np.testing.assert_allclose(item.affine(np.array([2, 1, 0])), whole.affine(np.array([6, 3, 0])))
    assert labelled_voxels(thin) == pytest.approx(labelled_voxels(case) / 9, rel=0.1)


def test_slices_frames_labels():
    case = toys.toy_case(3)
    positions = {s.position for s in case.slices}
    assert {s.position for s in fewer_slices(case, 2).slices} == {p for p in positions if p % 2}
    frames = sorted({s.frame for s in case.slices})
    assert {s.frame for s in fewer_frames(case, 2).slices} == set(frames[::2])
    partly = fewer_labels(case, 2)
    assert len(partly.slices) == len(case.slices)
    assert {s.position for s in partly.labelled()} == {p for p in positions if p % 2}


@pytest.mark.parametrize("kind", KINDS)
def test_less_is_kept(kind):
    thin, everies = KINDS[kind]
    case = toys.toy_case(3)
    kept = [labelled_voxels(thin(case, every)) for every in everies]
    assert all(0 < k < labelled_voxels(case) for k in kept)
    assert kept == sorted(kept, reverse=True)
