from dataclasses import replace

import numpy as np
import torch

import toys
from nisf.data.points import CasePoints, batch_of
from nisf.data.region import whole_region
from nisf.kinds.latent.fit import fit_latents
from nisf.networks.losses import intensity_bce
from nisf.paper.unfrozen import fit_all, fit_unfrozen
from nisf.prior.fit import fit


def loss_of(field, latent, points):
    batch = batch_of([(points, np.arange(0, len(points), 3))])
    with torch.no_grad():
        logits = field.intensity(batch.coordinates, latent[None])
    return float(intensity_bce(logits, batch.intensity, batch.weight)[0])


def test_free_weights_explain_the_image_better_and_the_prior_stays(toy_prior):
    points = CasePoints(toys.toy_case(70), whole_region(toys.toy_case(70)), 4)
    config = replace(toy_prior.config.fit, steps=60)
    before = toy_prior.fingerprint
    field, latent = fit_all(points, toy_prior, config)
    assert toy_prior.fingerprint == before
    assert not any(p.requires_grad for p in field.parameters())
    start = toy_prior.latent_mean[None]
    frozen, _ = fit_latents(toy_prior.field, [points], start, config)
    assert loss_of(field, latent, points) < loss_of(toy_prior.field, frozen[0], points)


def test_watch_sees_each_step(toy_prior):
    points = CasePoints(toys.toy_case(70), whole_region(toys.toy_case(70)), 4)
    seen = []
    fit_all(
        points,
        toy_prior,
        replace(toy_prior.config.fit, steps=3),
        callback=lambda step, _, latent: seen.append((step, latent.clone())),
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    torch.testing.assert_close(seen[0][1], toy_prior.latent_mean)
    assert (seen[3][1] != seen[0][1]).any()


def test_no_steps_is_the_mean_like_a_frozen_fit(toy_prior):
    case, config = toys.toy_case(70), replace(toy_prior.config.fit, steps=0)
    free = fit_unfrozen(case, toy_prior, config).render()
    frozen = fit(case, toy_prior, config=config).render()
    np.testing.assert_array_equal(free.label, frozen.label)
