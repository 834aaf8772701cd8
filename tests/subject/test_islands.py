"""Islands: found, barred at every resolution, and replaced by what is likely next."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from typing_extensions import override

from nisf.data.geometry import Affine, Grid
from nisf.networks.image_field import ImageField
from nisf.prior.fit import fit
from nisf.subject.answerer import Answerer
from nisf.subject.islands import IslandMap, WithoutIslands, around_islands, bar_islands, without
from nisf.subject.rendering import Answer

GRID = Grid((24, 20, 6), Affine(np.diag([1.5, 1.5, 8.0, 1.0])), np.array([0.0, 0.5]))


def parts(label, k):
    return ndimage.label(label == k, structure=np.ones((3, 3, 3)))[1]


def probabilities(label, second, classes=3):
    """Sure of ``label``, with ``second`` next likely."""
    out = np.full((*label.shape, classes), 0.05)
    np.put_along_axis(out, second[..., None], 0.3, axis=-1)
    np.put_along_axis(out, label[..., None], 0.6, axis=-1)
    return out / out.sum(-1, keepdims=True)


@pytest.fixture
def label():
    out = np.zeros(GRID.shape, dtype=np.uint8)
    out[4:10, 4:10, 1:5] = 1
    out[11:14, 4:10, 1:5] = 2
    return out


def test_one_part_each_is_left_alone(label):
    assert not around_islands(label, 3).any()


def test_island_and_its_neighbours_are_found(label):
    label[18:20, 15, 2] = 1
    found = around_islands(label, 3)
    assert found[..., 1].sum() == 4 * 3 * 3
    assert not found[..., [0, 2]].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_left_is_one_part_each(seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, 16, 16, 5)), (0, 1.2, 1.2, 0.5))
    probability = np.moveaxis(np.exp(6 * noise) / np.exp(6 * noise).sum(0), 0, -1).reshape(-1, 3)
    label = probability.argmax(1).reshape(16, 16, 5).astype(np.uint8)
    barred = bar_islands(label, 3, lambda index: probability[index])
    mended = label.copy().reshape(-1)
    mended[barred.index] = without(probability[barred.index], barred.structures).argmax(1)
    mended = mended.reshape(label.shape)
    for k in (1, 2):
        # Noise has hundreds of parts; some rounds leave a few at most where there were many.
        assert parts(mended, k) <= max(1, parts(label, k) // 4)
        labelled, count = ndimage.label(label == k, structure=np.ones((3, 3, 3)))
        if count:
            largest = labelled == 1 + np.bincount(labelled.ravel())[1:].argmax()
            np.testing.assert_array_equal(mended[largest], k)


def test_next_likely_class_takes_the_place(label):
    second = np.zeros(GRID.shape, dtype=np.int64)
    label[5, 5, 2] = 2  # of class 2, in the middle of class 1
    second[5, 5, 2] = 1
    shares = probabilities(label.astype(np.int64), second).reshape(-1, 3)
    barred = bar_islands(label, 3, lambda index: shares[index])
    flat = np.ravel_multi_index((5, 5, 2), GRID.shape)
    at = np.searchsorted(barred.index, flat)
    assert without(shares[barred.index], barred.structures)[at].argmax() == 1


def test_replaced_by_an_island_of_another_structure(label):
    second = np.zeros(GRID.shape, dtype=np.int64)
    label[19, 15, 2] = 1
    second[19, 15, 2] = 2  # alone there as well
    shares = probabilities(label.astype(np.int64), second).reshape(-1, 3)
    barred = bar_islands(label, 3, lambda index: shares[index])
    mended = label.reshape(-1).copy()
    mended[barred.index] = without(shares[barred.index], barred.structures).argmax(1)
    assert mended.reshape(GRID.shape)[19, 15, 2] == 0


def test_background_is_left_when_all_is_barred():
    found = without(np.array([[0.0, 1.0]]), np.array([[False, True]]))
    np.testing.assert_array_equal(found, [[1.0, 0.0]])


def test_two_slices_are_too_few(label):
    label[18:20, 15, 2] = 1
    shares = probabilities(label.astype(np.int64), np.zeros(GRID.shape, dtype=np.int64))
    few = bar_islands(label[..., 1:3], 3, lambda index: shares[..., 1:3, :].reshape(-1, 3)[index])
    assert not len(few.index)


def test_same_pieces_between_voxels_and_frames(label):
    island = label.copy()
    island[18:20, 15:17, 2] = 1
    frames = [island, label]

    class Truth(Answerer):
        @override
        def answer(self, position, time, *, memory_mb):
            voxel = np.round(GRID.affine.inverse(position)).astype(int)
            volumes = np.stack(frames)[np.round(time * 2).astype(int) % 2, *voxel.T].astype(np.int64)
            found = probabilities(volumes, np.zeros_like(volumes)).astype(np.float32)
            return Answer(np.zeros((len(position), 1), np.float32), found, np.ones(len(position), bool))

    raw = Truth(1, 3)
    shown = WithoutIslands(raw, IslandMap(raw, GRID))
    rng = np.random.default_rng(0)
    place = GRID.affine(rng.uniform(0, np.array(GRID.shape) - 1, size=(4000, 3)))
    times = rng.choice([0.0, 0.1, 0.5, 0.9], size=len(place))
    shares = shown.answer(place, times, memory_mb=64).probability
    voxel = np.round(GRID.affine.inverse(place)).astype(int)
    in_island = (voxel[:, 0] >= 18) & (voxel[:, 1] >= 15) & (shares.argmax(1) == 1)
    assert not in_island.any()
    inside = label[tuple(voxel.T)] == 1
    assert (shares[inside].argmax(1) == 1).all()


def test_fitted_subject_shows_the_same_pieces_everywhere(toy_image_prior, toy_cohort):
    # Weights of no meaning answer with islands everywhere.
    torch.manual_seed(0)
    config = toy_image_prior.config
    prior = replace(toy_image_prior, field=ImageField(config.field, config.image))
    fitted = replace(fit(toy_cohort[0], prior), islands="remove")
    own = fitted.render(probabilities=True)
    grid = fitted.stacks[0].grid
    for k in range(1, fitted.prior.config.field.classes):
        for t in range(len(grid.times)):
            assert parts(own.label[..., t], k) <= 1
    # Asked for point by point it is the same as on the grid.
    _, shares = fitted.query(grid.points(), float(grid.times[0]))
    np.testing.assert_array_equal(shares.argmax(-1), own.label[..., 0])
    np.testing.assert_allclose(shares, own.probability[..., 0, :], atol=1e-6)
    kept = replace(fitted, islands="keep").render()
    differs = kept.label != own.label
    largest = np.zeros_like(differs)
    for t in range(len(grid.times)):
        for k in range(1, fitted.prior.config.field.classes):
            labelled, count = ndimage.label(kept.label[..., t] == k, structure=np.ones((3, 3, 3)))
            if count:
                largest[..., t] |= labelled == 1 + np.bincount(labelled.ravel())[1:].argmax()
    assert differs.any()
    assert not (differs & largest).any()
