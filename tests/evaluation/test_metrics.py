import os
import warnings
from itertools import pairwise
from math import nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nisf.data.case import UNKNOWN
from nisf.evaluation.metrics import diagonal_mm, dice, score_volume, surface_distances, volume_ml

DATA = Path(os.environ.get("NISF_DATA", Path(__file__).parents[2].parent / "shared/data"))
SPACING = (1.4, 1.7, 8.0)
LABELS = ("background", "LV blood pool", "LV myocardium")


def cube(shape, low, high):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def ball(size, centre, radius_mm, spacing):
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    return np.linalg.norm((index - centre) * spacing, axis=-1) <= radius_mm


def blob(seed, shape=(20, 18, 7)):
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (3, 3, 1))
    return smooth > np.quantile(smooth, 0.7)


def naive_distances(first, second, spacing):
    """Both directed sets by looking at every neighbour of every voxel and every pair of surface voxels."""

    def surface(mask):
        places = []
        for index in np.argwhere(mask):
            for axis in range(3):
                for step in (-1, 1):
                    other = index.copy()
                    other[axis] += step
                    if not (0 <= other[axis] < mask.shape[axis]) or not mask[tuple(other)]:
                        places.append(tuple(index))
        return np.array(sorted(set(places))) * np.asarray(spacing)

    a, b = surface(first), surface(second)
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return pairs.min(axis=1), pairs.min(axis=0)


def score(first, second, spacing, known=None):
    """The score of one mask against another, scored where it is known."""
    reference = second.astype(np.int16)
    if known is not None:
        reference[~known] = UNKNOWN
    (found,) = score_volume(first.astype(np.int16), reference, spacing, LABELS[:2])
    return found


def hausdorff(first, second, spacing):
    return max(float(directed.max()) for directed in surface_distances(first, second, spacing))


def hd95(first, second, spacing, known=None):
    return score(first, second, spacing, known).hd95_mm


def assd(first, second, spacing, known=None):
    return score(first, second, spacing, known).assd_mm


def test_a_shifted_cube_has_the_shift_as_its_hausdorff_distance():
    first = cube((30, 20, 12), (5, 5, 3), (12, 12, 8))
    second = cube((30, 20, 12), (9, 5, 3), (16, 12, 8))
    assert hausdorff(first, second, SPACING) == pytest.approx(4 * 1.4)
    assert dice(first, second) == pytest.approx(3 / 7)
    assert volume_ml(first, SPACING) == pytest.approx(7 * 7 * 5 * 1.4 * 1.7 * 8 / 1000)
    assert score(first, second, SPACING).difference_ml == 0


def test_balls_of_two_radii_are_their_difference_apart():
    spacing = (0.5, 0.5, 0.5)
    small, large = (ball((80, 80, 80), (39.5, 39.5, 39.5), radius, spacing) for radius in (12, 16))
    assert volume_ml(large, spacing) == pytest.approx(4 / 3 * np.pi * 16**3 / 1000, rel=0.01)
    for distance in (hausdorff, hd95, assd):
        assert distance(small, large, spacing) == pytest.approx(4, abs=0.5)
    assert dice(small, large) == pytest.approx(2 * 12**3 / (12**3 + 16**3), rel=0.01)


def test_single_voxels_are_their_distance_apart():
    first, second = cube((9, 9, 5), (1, 1, 0), (2, 2, 1)), cube((9, 9, 5), (4, 5, 2), (5, 6, 3))
    expected = np.linalg.norm(np.multiply((3, 4, 2), SPACING))
    for distance in (hausdorff, hd95, assd):
        assert distance(first, second, SPACING) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_distances_agree_with_brute_force(seed):
    first, second = blob(2 * seed), blob(2 * seed + 1)
    for fast, naive in zip(
        surface_distances(first, second, SPACING), naive_distances(first, second, SPACING), strict=True
    ):
        np.testing.assert_allclose(np.sort(fast), np.sort(naive), rtol=1e-12)


SEEDS = st.integers(0, 10_000)


@given(SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_metrics_are_symmetric_and_ordered(one, two):
    a, b = blob(one), blob(two)
    assert 0 <= dice(a, b) <= 1
    assert dice(a, b) == dice(b, a)
    assert score(a, b, SPACING).difference_ml == -score(b, a, SPACING).difference_ml
    for distance in (hausdorff, hd95, assd):
        assert distance(a, b, SPACING) == pytest.approx(distance(b, a, SPACING))
    far = diagonal_mm(a.shape, SPACING)
    assert 0 <= assd(a, b, SPACING) <= hausdorff(a, b, SPACING) < far
    assert hd95(a, b, SPACING) <= hausdorff(a, b, SPACING)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_mask_agrees_with_itself(seed):
    mask = blob(seed)
    assert dice(mask, mask) == 1
    assert hausdorff(mask, mask, SPACING) == assd(mask, mask, SPACING) == 0


@given(SEEDS, SEEDS, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)))
@settings(max_examples=15, deadline=None)
def test_metrics_do_not_depend_on_where_the_masks_lie(one, two, shift):
    a, b = blob(one), blob(two)
    moved = [np.pad(mask, [(n, 10 - n) for n in shift]) for mask in (a, b)]
    assert dice(*moved) == dice(a, b)
    for distance in (hausdorff, hd95, assd):
        assert distance(*moved, SPACING) == pytest.approx(distance(a, b, SPACING))


@given(SEEDS, SEEDS, st.floats(0.2, 5))
@settings(max_examples=10, deadline=None)
def test_distances_and_volumes_scale_with_the_spacing(one, two, factor):
    a, b = blob(one), blob(two)
    scaled = np.multiply(SPACING, factor)
    assert hd95(a, b, scaled) == pytest.approx(factor * hd95(a, b, SPACING))
    assert assd(a, b, scaled) == pytest.approx(factor * assd(a, b, SPACING))
    assert volume_ml(a, scaled) == pytest.approx(factor**3 * volume_ml(a, SPACING))


def test_empty_masks():
    some, none = blob(0), np.zeros((20, 18, 7), dtype=bool)
    assert dice(some, none) == 0
    far = np.linalg.norm([20 * 1.4, 18 * 1.7, 7 * 8.0])
    for distance in (hd95, assd):
        assert distance(some, none, SPACING) == distance(none, some, SPACING) == pytest.approx(far)
    assert score_volume(*2 * [none.astype(np.int16)], SPACING, LABELS) == []
    assert np.isnan(dice(none, none))
    with pytest.raises(ValueError, match="empty"):
        surface_distances(some, none, SPACING)


def test_bad_arguments():
    # The shape checker, where it is on, is there first.
    with pytest.raises((ValueError, TypeError), match=r"one shape|Type-check"):
        dice(blob(0), blob(0)[1:])
    with pytest.raises(ValueError, match="three positive"):
        hd95(blob(0), blob(1), (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="three positive"):
        hd95(blob(0), blob(1), (1.0, nan, 1.0))
    volume = blob(0).astype(np.int16)
    with pytest.raises(ValueError, match="liver"):
        score_volume(volume, volume, SPACING, LABELS, scored={"liver"})


def test_a_lone_known_slice_is_measured_by_its_outline():
    """A disc's inside must not count as surface just because the next slices are unknown."""
    first, second = (ball((40, 40, 5), (20, 20, 2), r, (1, 1, 100)) for r in (8, 12))
    known = np.zeros(first.shape, dtype=bool)
    known[:, :, 2] = True
    alone = (first[:, :, 2:3], second[:, :, 2:3], (1, 1, 8))
    for distance in (hd95, assd):
        assert distance(first, second, (1, 1, 8), known) == pytest.approx(4, abs=0.6)
        assert distance(*alone) == distance(first, second, (1, 1, 8), known)


def volumes():
    reference = blob(1).astype(np.int16)
    reference[4:8, 4:8, 1:5] = 2
    prediction = blob(2).astype(np.int16)
    prediction[5:8, 4:8, 1:5] = 2
    return prediction, reference


def test_each_class_has_its_score():
    prediction, reference = volumes()
    scores = score_volume(prediction, reference, SPACING, LABELS, case="a", phase="ES", frame=7)
    assert [s.label for s in scores] == list(LABELS[1:])
    for number, score in enumerate(scores, 1):
        masks = prediction == number, reference == number
        assert (score.case, score.phase, score.frame) == ("a", "ES", 7)
        there, back = surface_distances(*masks, SPACING)
        assert score.dice == dice(*masks)
        assert score.hd95_mm == max(np.percentile(there, 95), np.percentile(back, 95))
        assert score.assd_mm == pytest.approx(np.concatenate([there, back]).mean())
        assert score.difference_ml == pytest.approx(score.volume_ml - score.reference_ml)
        assert not score.missed
        assert not score.spurious


def test_missing_structures_count_and_absent_ones_do_not():
    _, reference = volumes()
    without = np.where(reference == 2, 0, reference)
    (_, missed) = score_volume(without, reference, SPACING, LABELS)
    assert (missed.missed, missed.spurious, missed.dice) == (True, False, 0)
    assert missed.hd95_mm == missed.assd_mm == diagonal_mm(reference.shape, SPACING)
    (_, spurious) = score_volume(reference, without, SPACING, LABELS, missing_mm=99.0)
    assert (spurious.missed, spurious.spurious, spurious.dice, spurious.hd95_mm) == (False, True, 0, 99)
    assert [s.label for s in score_volume(without, without, SPACING, LABELS)] == [LABELS[1]]
    assert [s.label for s in score_volume(reference, reference, SPACING, LABELS, scored={LABELS[2]})] == [
        LABELS[2]
    ]


def test_unknown_voxels_and_other_positions_do_not_count():
    prediction, reference = volumes()
    expected = score_volume(prediction, reference, SPACING, LABELS, positions=(1, 3, 4))
    hidden = np.full_like(reference, UNKNOWN)
    hidden[:, :, [1, 3, 4]] = reference[:, :, [1, 3, 4]]
    assert score_volume(prediction, hidden, SPACING, LABELS) == expected
    spoiled = prediction.copy()
    spoiled[:, :, [0, 2, 5, 6]] = 1
    assert score_volume(spoiled, hidden, SPACING, LABELS) == expected
    part = [1, 3, 4]
    assert expected[0].dice == dice(prediction[:, :, part] == 1, reference[:, :, part] == 1)
    assert score_volume(prediction, np.full_like(reference, UNKNOWN), SPACING, LABELS) == []


def test_where_only_some_classes_were_drawn_overflow_still_counts():
    """Sunnybrook at ES: only the LV cavity was drawn, so that 0 became unknown, not background."""
    full = np.zeros((20, 20, 5), dtype=np.int16)
    full[5:10, 5:10, 1:4] = 1
    drawn = np.where(full == 1, full, UNKNOWN).astype(np.int16)
    prediction = np.zeros_like(full)
    prediction[3:12, 3:12, 1:4] = 1
    prediction[3:5, 3:12, 1:4] = 2
    (score,) = score_volume(prediction, drawn, SPACING, LABELS)
    part = slice(1, 4)
    assert score.label == LABELS[1]
    assert score.dice == dice(prediction[..., part] == 1, full[..., part] == 1) < 0.7
    assert score.volume_ml == volume_ml(prediction == 1, SPACING) > score.reference_ml
    assert score.hd95_mm > 0


@pytest.fixture(scope="module")
def monai():
    """(prediction, reference, spacing) to Dice, HD, HD95 and ASSD of MONAI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = pytest.importorskip("monai.metrics")
        import torch

    def compare(prediction, reference, spacing):
        masks = [torch.from_numpy(mask[None, None]) for mask in (prediction, reference)]
        common = {"include_background": True, "spacing": list(spacing)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [
                metrics.compute_dice(*masks, include_background=True).item(),
                metrics.compute_hausdorff_distance(*masks, **common).item(),
                metrics.compute_hausdorff_distance(*masks, percentile=95, **common).item(),
                metrics.compute_average_surface_distance(*masks, symmetric=True, **common).item(),
            ]

    return compare


def ours(a, b, spacing):
    return [dice(a, b), hausdorff(a, b, spacing), hd95(a, b, spacing), assd(a, b, spacing)]


@pytest.mark.parametrize("seed", range(5))
def test_blobs_agree_with_monai(monai, seed):
    a, b = blob(seed, (33, 28, 9)), blob(seed + 50, (33, 28, 9))
    assert ours(a, b, SPACING) == pytest.approx(monai(a, b, SPACING), abs=1e-5)


def test_real_masks_agree_with_monai(monai):
    files = sorted((DATA / "acdc").glob("patient00[1-2]/*_gt.nii.gz"))
    if not files:
        pytest.skip(f"no ACDC masks under {DATA / 'acdc'}; set NISF_DATA")
    import nibabel

    for first, second in pairwise(files):
        a, b = (nibabel.nifti1.Nifti1Image.from_filename(path) for path in (first, second))
        size = np.minimum(a.shape, b.shape)
        one, two = (np.asarray(image.dataobj)[tuple(map(slice, size))] for image in (a, b))
        spacing = [float(mm) for mm in a.header.get_zooms()]
        for number in (1, 2, 3):
            masks = one == number, two == number
            if masks[0].any() and masks[1].any():
                assert ours(*masks, spacing) == pytest.approx(monai(*masks, spacing), abs=1e-5)


def test_outlines_leave_out_the_faces_of_a_part():
    whole = np.zeros((20, 20, 2), dtype=bool)
    whole[5:15, 5:15] = True
    shifted = np.roll(whole, 3, axis=0)
    # Facing the array's border, most of the disc is surface at distance 0; its outline is not.
    faces = np.concatenate(surface_distances(shifted, whole, (1, 1, 10)))
    outlines = np.concatenate(surface_distances(shifted, whole, (1, 1, 10), outlines=True))
    assert len(faces) == 2 * 2 * 100
    assert len(outlines) == 2 * 2 * 36
    assert outlines.max() == pytest.approx(3.0)
    assert outlines.mean() > 2 * faces.mean()
