from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.correction.stroke import Stroke
from nisf.data.geometry import Grid
from nisf.data.region import Region, reference_pose
from nisf.io.subject_file import write_subject
from nisf.kinds.latent.breath_hold import BreathHold
from nisf.kinds.latent.model import LatentSubject
from nisf.kinds.load import read_subject


def test_render_is_query_at_the_voxels(toy_fitted):
    rendering = toy_fitted.render(probabilities=True)
    grid = toy_fitted.stacks[0].grid
    assert rendering.label.dtype == np.uint8
    assert rendering.label.shape == (24, 24, 6, 2)
    assert rendering.image.shape == (24, 24, 6, 2, 1)
    assert len(np.unique(rendering.label)) == 3
    for t, time in enumerate(grid.times):
        image, probability = toy_fitted.query(grid.points(), float(time))
        np.testing.assert_allclose(rendering.image[:, :, :, t], image, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(rendering.probability[:, :, :, t], probability, atol=1e-5)
        np.testing.assert_array_equal(
            rendering.label[:, :, :, t], rendering.probability[:, :, :, t].argmax(-1)
        )
    assert toy_fitted.render().probability is None


def test_a_time_of_another_cycle(toy_fitted):
    assert not toy_fitted.prior.config.field.cyclic_time
    position = toy_fitted.stacks[0].grid.points_of_slice(3)
    image, probability = toy_fitted.query(position, 0.25)
    for time in (1.25, -0.75):
        other_image, other = toy_fitted.query(position, time)
        np.testing.assert_array_equal(other_image, image)
        np.testing.assert_array_equal(other, probability)
    start, end = toy_fitted.query(position, 0.0), toy_fitted.query(position, 1.0)
    np.testing.assert_array_equal(end[1], start[1])


def test_a_stroke_at_the_end_of_the_cycle_is_one_at_its_start(toy_fitted):
    latents = [
        toy_fitted.corrected([Stroke(((0.0, 0.0, 0.0),), time, "muscle")]).corrected_latent
        for time in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(*latents)


def test_a_time_for_each_position(toy_fitted):
    position = np.repeat(np.array([[4.0, 2.0, 1.0]]), 3, axis=0)
    image, probability = toy_fitted.query(position, np.array([0.0, 0.5, 0.25]))
    assert image.shape == (3, 1)
    for i, time in enumerate((0.0, 0.5, 0.25)):
        one = toy_fitted.query(position[0], time)
        np.testing.assert_allclose(image[i], one[0], rtol=1e-5)
        np.testing.assert_allclose(probability[i], one[1], atol=1e-6)


def test_finer_grid_agrees_where_voxels_meet(toy_fitted):
    coarse = toy_fitted.stacks[0].grid
    # A third of the spacing: each old centre is a new centre.
    fine = coarse.at_spacing(coarse.spacing / 3)
    assert fine.shape == (72, 72, 18)
    fine = Grid(fine.shape, fine.affine, coarse.times[:1])
    a, b = toy_fitted.render(fine), toy_fitted.render()
    np.testing.assert_array_equal(a.label[1::3, 1::3, 1::3, 0], b.label[..., 0])
    volumes = [(r.label[..., 0] == 1).sum() * r.grid.voxel_ml for r in (a, b)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.1)


def test_oblique_plane(toy_fitted):
    plane = Grid.plane((2, -3, 1), (1, 1, 2), size_mm=(60, 50), spacing_mm=2, times=(0.1,))
    rendering = toy_fitted.render(plane)
    assert rendering.label.shape == (30, 25, 1, 1)
    assert set(np.unique(rendering.label)) == {0, 1, 2}


def test_nothing_outside_the_region(toy_fitted):
    far = np.array([[[500.0, 0, 0], [0, 0, 0]], [[0, 0, -90.0], [0, 900.0, 0]]])
    image, probability = toy_fitted.query(far)
    assert image.shape == (2, 2, 1)
    outside = np.array([[True, False], [True, True]])
    assert (image[outside] == 0).all()
    np.testing.assert_array_equal(probability[outside], [[1, 0, 0]] * 3)
    assert image[0, 1, 0] > 100
    everything = toys.toy_grid((40, 40, 10))
    rendering = toy_fitted.render(everything)
    inside = toy_fitted.region.contains(everything.points())
    assert (~inside).any()
    assert (rendering.label[~inside] == 0).all()
    assert (rendering.image[~inside] == 0).all()


def test_nothing_to_ask(toy_fitted):
    image, probability = toy_fitted.query(np.zeros((0, 3)))
    assert image.shape == (0, 1)
    assert probability.shape == (0, 3)


def test_memory_changes_nothing(toy_fitted):
    small, large = (toy_fitted.render(probabilities=True, memory_mb=mb) for mb in (0.01, 512.0))
    np.testing.assert_allclose(small.probability, large.probability, atol=1e-5)
    np.testing.assert_array_equal(small.label, large.label)


def test_intensity_scale(toy_fitted):
    """Answers come on the scale of the file that was fitted."""
    low, high = toy_fitted.stacks[0].intensity_range[0]
    stack = replace(toy_fitted.stacks[0], intensity_range=np.array([[low * 2, high * 2]]))
    position = np.random.default_rng(0).uniform(-20, 20, (30, 3))
    image, _ = toy_fitted.query(position)
    double, _ = replace(toy_fitted, stacks=(stack,)).query(position)
    np.testing.assert_allclose(double, 2 * image, rtol=1e-4)
    plain, _ = replace(toy_fitted, stacks=()).query(position)
    assert plain.min() >= 0
    assert plain.max() <= 1


def test_many_positions(toy_prior):
    """More than one block of positions: the seams do not show."""
    case = toys.toy_case(0)
    region = Region(reference_pose(case, (0.0, 0.0, 0.0)), np.array([1.0, 1.0, 1.0]))
    fitted = LatentSubject("a", toy_prior, region, case.stacks, latent=toy_prior.latent_mean)
    position = np.full((600_000, 3), 9.0)
    inside = [0, (1 << 18) - 1, 1 << 18, 599_999]
    position[inside] = 0.5
    image, probability = fitted.query(position)
    np.testing.assert_array_equal(np.flatnonzero(image[:, 0]), inside)
    np.testing.assert_allclose(np.ptp(probability[inside], axis=0), 0, atol=1e-6)


def test_samples_have_the_posterior_s_moments(toy_fitted):
    drawn = toy_fitted.sample(20_000).double()
    torch.testing.assert_close(drawn.mean(0), toy_fitted.latent.double(), atol=0.01, rtol=0)
    expected = toy_fitted.covariance.double()
    torch.testing.assert_close(torch.cov(drawn.T), expected, atol=0.05 * float(expected.abs().max()), rtol=0)


def test_query_posterior_against_a_naive_mean(toy_fitted):
    position = np.random.default_rng(0).uniform(-60, 60, (200, 3))
    image, probability, deviation = toy_fitted.query_posterior(position, 0.3, samples=5)
    each = [replace(toy_fitted, latent=latent).query(position, 0.3) for latent in toy_fitted.sample(5)]
    np.testing.assert_allclose(image, np.mean([a for a, _ in each], axis=0), rtol=1e-4)
    np.testing.assert_allclose(probability, np.mean([b for _, b in each], axis=0), atol=1e-5)
    np.testing.assert_allclose(deviation, np.std([b for _, b in each], axis=0), atol=1e-4)
    outside = ~toy_fitted.region.contains(position)
    assert outside.any()
    assert (deviation[outside] == 0).all()
    assert (probability[outside] == [1, 0, 0]).all()
    assert deviation.max() > 1e-3


def test_render_over_the_posterior(toy_fitted):
    rendering = toy_fitted.render(probabilities=True, samples=4)
    assert rendering.deviation.shape == (24, 24, 6, 2, 3)
    np.testing.assert_allclose(rendering.probability.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(rendering.label, rendering.probability.argmax(-1))
    # It is least sure of itself where two structures meet.
    single = toy_fitted.render(probabilities=True).probability.max(-1)
    assert (
        rendering.deviation.max(-1)[single < 0.8].mean()
        > 3 * rendering.deviation.max(-1)[single > 0.99].mean()
    )


def test_breath_holds(toy_fitted, tmp_path):
    """On its own grid a stack is answered as its slices show it; in the world, and elsewhere, as it is."""
    moved = replace(toy_fitted, breath_holds=(BreathHold(0, 2, (8.0, -4.0), 1.2, 0.5), BreathHold(0, 5)))
    write_subject(tmp_path / "m.nisf", moved)
    moved = read_subject(tmp_path / "m.nisf", toy_fitted.prior)
    assert moved.breath_holds[0] == BreathHold(0, 2, (8.0, -4.0), 1.2, 0.5)
    a, b = moved.render(probabilities=True), toy_fitted.render(probabilities=True)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(a.label[:, :, others], b.label[:, :, others])
    np.testing.assert_allclose(a.image[:, :, others], b.image[:, :, others], rtol=1e-4, atol=1e-2)
    # Two pixels of 4 mm along the first axis, one back along the second.
    np.testing.assert_allclose(a.probability[2:, :-1, 2], b.probability[:-2, 1:, 2], atol=1e-4)
    shown, plain = (toy_fitted.stacks[0].normalise(r.image[:, :, 2])[..., 0] for r in (a, b))
    brighter = 1 / (1 + ((1 - plain) / plain) ** 1.2 * np.exp(-0.5))
    np.testing.assert_allclose(shown[2:, :-1], brighter[:-2, 1:], atol=2e-3)
    grid = toy_fitted.stacks[0].grid
    np.testing.assert_array_equal(moved.render(grid).label, toy_fitted.render(grid).label)
    np.testing.assert_array_equal(moved.query(grid.points())[1], toy_fitted.query(grid.points())[1])
