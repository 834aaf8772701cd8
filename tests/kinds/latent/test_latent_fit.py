from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.case import Case, Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import Region, reference_pose, whole_region
from nisf.errors import NisfError
from nisf.kinds.latent.fit import fit_latents
from nisf.networks.losses import intensity_bce
from nisf.prior.fit import fit

FIT = toys.CONFIG.fit


def excess(prior, case, latent):
    """Intensity loss over all voxels, above the least that any answer can have."""
    points = CasePoints(case, whole_region(case), 4)
    batch = batch_of([(points, np.arange(len(points)))])
    logits = prior.field.intensity(batch.coordinates, latent[None])
    best = torch.logit(batch.intensity.clamp(1e-6, 1 - 1e-6))
    losses = [intensity_bce(x, batch.intensity, batch.weight) for x in (logits, best)]
    return float((losses[0] - losses[1]).detach())


def test_a_subject_of_the_training_is_recovered(toy_prior, toy_cohort):
    case = toy_cohort[4]  # unlike the mean
    fitted = fit(case, toy_prior)
    before = excess(toy_prior, case, toy_prior.latent_mean)
    assert excess(toy_prior, case, fitted.latent) < 0.55 * before
    label, truth = fitted.render().label, toys.label_of(case)
    assert toys.dice(label, truth, 1) > 0.88
    assert toys.dice(label, truth, 2) > 0.88
    assert fitted.summary["steps"] == FIT.steps
    assert fitted.summary["region"] == "whole"
    assert fitted.summary["points"] == 24 * 24 * 6 * 2


def test_an_unseen_subject(toy_prior, toy_fitted):
    case = toys.toy_case(99)
    label, truth = toy_fitted.render().label, toys.label_of(case)
    assert toys.dice(label, truth, 1) > 0.85
    assert toys.dice(label, truth, 2) > 0.85
    # Not merely the mean shape, which is far from this subject.
    mean = replace(toy_fitted, latent=toy_prior.latent_mean).render().label
    assert toys.dice(label, truth, 1) > toys.dice(mean, truth, 1) + 0.02


def test_labels_are_never_used(toy_prior):
    config = replace(FIT, steps=5)
    latents = [
        fit(toys.toy_case(99, labelled=labelled), toy_prior, config=config).latent
        for labelled in (True, False)
    ]
    assert torch.equal(*latents)


@pytest.mark.parametrize("points", [256, 0])
def test_alone_or_in_company(toy_prior, points):
    cases = [toys.toy_case(s, toys.toy_grid((24, 24, n))) for s, n in ((50, 6), (51, 4), (52, 6))]
    pool = [CasePoints(c, whole_region(c), 4) for c in cases]
    start = toy_prior.latent_mean[None].repeat(3, 1)
    config = replace(FIT, steps=20, points=points)
    together, losses = fit_latents(toy_prior.field, pool, start, config, seed=3)
    assert losses.shape == (3,)
    for i in range(3):
        alone, loss = fit_latents(toy_prior.field, pool[i : i + 1], start[:1], config, seed=3)
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(loss[0], losses[i], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_weights_stay_as_they_are(toy_prior):
    field = toy_prior.field
    before = {name: t.clone() for name, t in field.state_dict().items()}
    case = toys.toy_case(50)
    pool = [CasePoints(case, whole_region(case), 4)]
    start = toy_prior.latent_mean[None]
    config = replace(FIT, steps=3)
    some = field.class_head.weight
    some.grad = None
    some.requires_grad_(True)
    try:
        fit_latents(field, pool, start, config)
        assert some.requires_grad
        assert some.grad is None
        assert [p for p in field.parameters() if p.requires_grad] == [some]

        def stop(*_):
            raise InterruptedError

        with pytest.raises(InterruptedError):
            fit_latents(field, pool, start, config, callback=stop)
        assert some.requires_grad
    finally:
        some.requires_grad_(False)
    assert all(torch.equal(t, before[name]) for name, t in field.state_dict().items())
    assert not start.requires_grad


def test_watch_and_steps(toy_prior):
    case = toys.toy_case(50)
    pool = [CasePoints(case, whole_region(case), 4)]
    seen = []
    start = toy_prior.latent_mean[None]
    latent, loss = fit_latents(
        toy_prior.field, pool, start, replace(FIT, steps=3), callback=lambda n, x: seen.append((n, x.clone()))
    )
    assert [n for n, _ in seen] == [0, 1, 2, 3]
    assert torch.equal(seen[0][1], start)
    assert torch.equal(seen[-1][1], latent)
    assert torch.isfinite(loss).all()
    latent, loss = fit_latents(toy_prior.field, pool, start, replace(FIT, steps=0))
    assert torch.equal(latent, start)
    assert torch.isnan(loss).all()
    assert fit(case, toy_prior, config=replace(FIT, steps=0)).summary["intensity_bce"] is None


def test_seed(toy_prior):
    case, config = toys.toy_case(50), replace(FIT, steps=5)
    a, b, c = (fit(case, toy_prior, config=config, seed=s).latent for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def stored_backwards(case):
    """The same slices in a file that counts them from the other end."""
    stack = case.stacks[0]
    depth = stack.grid.shape[2]
    turned = Affine(stack.grid.affine.shifted((0, 0, depth - 1)).matrix @ np.diag([1.0, 1, -1, 1]))
    slices = tuple(
        replace(
            s,
            position=depth - 1 - s.position,
            affine=turned.shifted((0, 0, depth - 1 - s.position)),
        )
        for s in case.slices
    )
    grid = Grid(stack.grid.shape, turned, stack.grid.times)
    return Case("backwards", (Stack("sa", grid, intensity_range=stack.intensity_range),), slices, case.labels)


def test_order_of_slices_does_not_matter(toy_prior, toy_fitted):
    assert toy_prior.anatomy.reorder
    other = fit(stored_backwards(toys.toy_case(99)), toy_prior)
    assert other.summary["orientation"]["reverse"] != toy_fitted.summary["orientation"]["reverse"]
    grid = toy_fitted.stacks[0].grid
    a, b = toy_fitted.render(grid), other.render(grid)
    assert (a.label != b.label).mean() < 0.002
    np.testing.assert_allclose(a.image, b.image, atol=30)  # of a thousand
    # Rendered on its own grid, the answer is stored backwards too.
    np.testing.assert_array_equal(np.flip(other.render().label, 2), b.label)


def test_order_is_kept_where_the_anatomy_has_one(toy_prior):
    prior = replace(toy_prior, anatomy=replace(toy_prior.anatomy, reorder=False))
    fitted = fit(stored_backwards(toys.toy_case(99)), prior, config=replace(FIT, steps=2))
    assert not fitted.summary["orientation"]["reverse"]


def test_wrong_channels(toy_prior):
    case = toys.toy_case(0)
    two = replace(
        case, slices=tuple(replace(s, image=np.concatenate([s.image] * 2, axis=-1)) for s in case.slices)
    )
    with pytest.raises(NisfError, match="toy0: 2 intensity channels, but the prior was trained on 1"):
        fit(two, toy_prior)


def test_nothing_in_the_region(toy_prior):
    case = toys.toy_case(0)
    away = Region(reference_pose(case, (900.0, 0.0, 0.0)), np.array([20.0, 20.0, 20.0]))
    with pytest.raises(NisfError, match="toy0: nothing was measured inside the region; give its centre"):
        fit(case, toy_prior, region=away)


def test_ways_to_find_the_region(toy_prior):
    case = toys.toy_case(0, toys.toy_grid((48, 48, 6), frames=6), (16.0, -12.0, 0.0))
    still = case.keep(lambda s: s.frame < 2)
    half = np.array([40.0, 40.0, 30.0])
    prior = replace(toy_prior, half=half)
    assert toy_prior.search.find(case)[1] == "whole"
    assert prior.search.find(case, "whole")[1] == "whole"
    region, how = prior.search.find(case)
    assert how == "motion"
    np.testing.assert_allclose(region.centre(), [16, -12, 0], atol=6)
    region, how = prior.search.find(still)
    assert how == "centre"
    np.testing.assert_allclose(region.centre(), 0, atol=1e-9)
    np.testing.assert_array_equal(region.half, half)
    assert prior.search.find(case, "centre")[1] == "centre"
    with pytest.raises(NisfError, match="toy0: the region cannot be found by motion"):
        prior.search.find(still, "motion")
    with pytest.raises(NisfError, match="toy0: the region cannot be found by finder"):
        prior.search.find(case, "finder")
