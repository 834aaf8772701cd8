from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints
from nisf.data.region import whole_region
from nisf.errors import NisfError
from nisf.kinds.latent.fit import fit_latents
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.second_order import fit_second_order, laplace, points_of, posterior_of
from nisf.prior.fit import fit

FIT = FitConfig(method="second-order", growth=8, points_first=128, points_last=512, points_worth=1024.0)


def pool_of(*seeds, **options):
    cases = [toys.toy_case(seed, **options) for seed in seeds]
    return [CasePoints(case, whole_region(case), 4) for case in cases]


def subject(prior, pool, config=FIT):
    return parametrisation_of(prior.field, prior.latent_mean, prior.latent_covariance, config, pool)


def test_as_good_as_adam(toy_prior, toy_fitted):
    """No worse in Dice and intensity loss after far fewer iterations, and it says that it has converged."""
    case = toys.toy_case(99)
    found = fit(case, toy_prior, config=FIT)
    assert found.summary["method"] == "second-order"
    assert found.summary["converged"]
    assert found.summary["steps"] < 40 < toy_fitted.summary["steps"]
    truth = toys.label_of(case)
    for label in (1, 2):
        ours, adams = (toys.dice(f.render().label, truth, label) for f in (found, toy_fitted))
        assert ours > adams - 0.02
    assert found.summary["intensity_bce"] < toy_fitted.summary["intensity_bce"] + 0.01


def test_the_number_of_points_grows():
    counts = [points_of(i, FIT) for i in range(12)]
    assert counts[0] == 128
    assert counts[8:] == [512] * 4
    assert np.all(np.diff(counts[:9]) > 0)
    assert points_of(0, replace(FIT, growth=0)) == 512


def test_converged_means_that_more_iterations_change_nothing(toy_prior):
    pool = pool_of(50, 51)
    fitted = subject(toy_prior, pool)
    config = replace(FIT, tolerance=1e-5, iterations=120)
    found = fit_second_order(fitted, pool, config)
    assert found.converged.all()
    posterior = posterior_of(fitted, pool, config, config.points_last, 0, config.growth)
    far = fit_second_order(
        fitted, pool, replace(config, tolerance=0.0, iterations=int(found.iterations.max()) + 40)
    )
    fell = posterior.value(found.unknowns) - posterior.value(far.unknowns)
    assert (fell < 0.01 * posterior.value(found.unknowns)).all()


def test_alone_or_in_company(toy_prior):
    pool = pool_of(50, 51, 52)
    together = fit_second_order(subject(toy_prior, pool), pool, FIT, seed=3)
    for i in range(3):
        alone = fit_second_order(subject(toy_prior, pool[i : i + 1]), pool[i : i + 1], FIT, seed=3)
        torch.testing.assert_close(alone.latent[0], together.latent[i], atol=2e-3, rtol=0)
    assert (together.latent[0] - together.latent[1]).abs().max() > 1e-2


def test_seed_and_watch(toy_prior):
    pool = pool_of(50)
    seen = []
    a, b, c = (
        fit_second_order(
            subject(toy_prior, pool), pool, FIT, seed=s, callback=lambda i, x: seen.append((i, x.clone()))
        )
        for s in (1, 1, 2)
    )
    assert torch.equal(a.latent, b.latent)
    assert not torch.equal(a.latent, c.latent)
    assert seen[0][0] == 0
    torch.testing.assert_close(seen[0][1][0], toy_prior.latent_mean)
    assert torch.equal(seen[int(a.iterations[0])][1], a.latent)


def test_labels_are_never_used(toy_prior):
    latents = [
        fit_second_order(subject(toy_prior, pool), pool, FIT).latent
        for pool in (pool_of(99), pool_of(99, labelled=False))
    ]
    assert torch.equal(*latents)


def test_posterior_around_another_fit(toy_prior):
    """Adam's end gets the covariance that the solver itself would have found there."""
    pool = pool_of(50)
    fitted = subject(toy_prior, pool)
    found = fit_second_order(fitted, pool, FIT)
    torch.testing.assert_close(
        laplace(fitted, pool, found.latent, FIT), found.covariance, rtol=1e-2, atol=1e-5
    )
    adam, _ = fit_latents(toy_prior.field, pool, toy_prior.latent_mean[None], replace(FIT, steps=5))
    assert torch.linalg.eigvalsh(laplace(fitted, pool, adam, FIT)[0]).min() > 0


def test_adam_fits_the_latent_alone(toy_prior):
    with pytest.raises(NisfError, match="toy0: only the second-order method fits shifts, gains and pose"):
        fit(toys.toy_case(0), toy_prior, config=replace(toys.CONFIG.fit, shift_mm=3.0))


def shifted(case, shifts):
    """The case as it would be measured with each position's image moved by whole pixels."""
    slices = []
    for s in case.slices:
        dx, dy = shifts[s.position]
        image, label = (np.roll(a, (dx, dy), axis=(0, 1)) for a in (s.image, s.label))
        slices.append(replace(s, image=image, label=label))
    return replace(case, slices=tuple(slices))


SHIFTS = np.array([[0, 0], [2, -1], [-2, 0], [1, 2], [-1, -1], [0, 0]])  # pixels of 4 mm: up to 8 mm


def test_known_shifts_are_found(toy_prior):
    case = shifted(toys.toy_case(99), SHIFTS)
    config = replace(FIT, points_last=2048, points_worth=4096.0, tolerance=1e-4)
    plain = fit(case, toy_prior, config=config)
    found = fit(case, toy_prior, config=replace(config, shift_mm=4.0))
    assert [h.position for h in found.breath_holds] == list(range(6))
    middle = [1, 2, 3, 4]  # the anatomy is not in the outer slices, and nothing there tells a shift
    error = np.array([found.breath_holds[k].shift_mm for k in middle]) - 4.0 * SHIFTS[middle]
    assert np.abs(error - error.mean(0)).max() < 1.0
    truth = toys.label_of(case)
    for label in (1, 2):
        ours, without = (toys.dice(f.render().label, truth, label) for f in (found, plain))
        assert ours > without + 0.01
    # In the world the slices are in line again: the answer is that of the subject that never moved.
    still = toys.label_of(toys.toy_case(99))
    world = found.render(found.stacks[0].grid).label
    assert toys.dice(world, still, 1) > 0.85


def test_known_gains_are_found(toy_prior):
    case = toys.toy_case(99)
    gain = np.array([1.0, 0.7, 1.0, 1.3, 1.0, 1.0])
    dimmed = replace(case, slices=tuple(replace(s, image=gain[s.position] * s.image) for s in case.slices))
    config = replace(FIT, points_last=1024, points_worth=2048.0)
    found = fit(dimmed, toy_prior, config=replace(config, gain=0.5))
    plain = fit(dimmed, toy_prior, config=config)
    assert found.summary["intensity_bce"] < plain.summary["intensity_bce"] - 0.001
    brightness = [h.gain + h.offset for h in found.breath_holds]
    assert brightness[1] < np.mean([brightness[k] for k in (2, 4)]) < brightness[3]


def test_a_moved_subject_is_found(toy_prior):
    """The prior's subjects lie in the middle; this one does not."""
    case = toys.toy_case(99, shift=(9.0, -6.0, 0.0))
    found = fit(case, toy_prior, config=replace(FIT, pose_mm=6.0, pose_degrees=5.0))
    plain = fit(case, toy_prior, config=FIT)
    truth = toys.label_of(case)
    assert toys.dice(found.render().label, truth, 1) > max(0.85, toys.dice(plain.render().label, truth, 1))
    moved = found.region.centre() - whole_region(case).centre()
    np.testing.assert_allclose(moved, [9, -6, 0], atol=4)
