"""Choose, once per prior, the strength of the prior and the width of the posterior.

The strength of the prior determines where a second-order fit ends: the strength with the best Dice on
validation subjects is kept. The width of the posterior determines the confidence of the answers: the width
with the best calibrated probabilities there is kept. No later fit uses labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.config.schema import Config, FitConfig
from nisf.data.points import CasePoints
from nisf.evaluation.calibration import Reliability, reliability
from nisf.kinds.latent.parametrisation import parametrisation_of
from nisf.kinds.latent.posterior import draw_latents
from nisf.kinds.latent.second_order import SecondOrderFit, fit_second_order
from nisf.kinds.latent.validation import point_dice, scored_points
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask_samples

STRENGTHS = (0.03, 0.1, 0.3, 1.0)
TEMPERATURES = (0.25, 1.0, 4.0, 16.0, 64.0)
SAMPLES, CALIBRATED = 16, 2048
"""Number of posterior samples, and of voxels per case, from which calibration is estimated."""


def choose_fit(
    field: LatentField,
    mean: Float[Tensor, "l"],
    covariance: Float[Tensor, "l l"],
    cases: Sequence[CasePoints],
    config: Config,
    labels: Sequence[str],
    say: Callable[[str], None],
) -> FitConfig:
    """The fit settings with the best strength of the prior and temperature of the posterior.

    Args:
        field: the trained network.
        mean: mean of the training latents.
        covariance: likewise.
        cases: validation cases, labelled.
        config: settings to start from.
        labels: class names, background first.
        say: called with a line about the outcome.
    """
    seed, training = config.train.seed, field.training
    field.eval()
    index = scored_points(cases, seed)
    tried: list[tuple[float, FitConfig, SecondOrderFit]] = []
    for strength in STRENGTHS:
        settings = replace(config.fit, prior_strength=strength, temperature=1.0)
        model = parametrisation_of(field, mean, covariance, settings, cases)
        found = fit_second_order(model, cases, settings, seed=seed)
        rows = [
            point_dice(field, latent, case, one, len(labels))
            for latent, case, one in zip(found.latent, cases, index, strict=True)
        ]
        tried.append((float(np.nanmean(rows)), settings, found))
    best, chosen, fits = max(tried, key=lambda one: one[0])
    errors = {
        temperature: calibration(field, fits, temperature, cases, seed).expected_error
        for temperature in TEMPERATURES
    }
    temperature = min(errors, key=lambda t: errors[t])
    field.train(training)
    say(
        f"second-order fit: prior strength {chosen.prior_strength:g} (Dice {best:.3f}), posterior "
        f"temperature {temperature:g} (expected calibration error {errors[temperature]:.3f})"
    )
    return replace(chosen, temperature=temperature)


def calibration(
    field: LatentField,
    fits: SecondOrderFit,
    temperature: float,
    cases: Sequence[CasePoints],
    seed: int,
    *,
    samples: int = SAMPLES,
    count: int = CALIBRATED,
) -> Reliability:
    """Reliability of probabilities, averaged over the cases' posteriors, at their labelled voxels.

    Args:
        field: the network.
        fits: fits of the cases.
        temperature: factor on the fits' covariances; 0 uses the latents only.
        cases: labelled.
        seed: seed of the voxels and samples.
        samples: number of samples from each posterior.
        count: number of voxels per case.
    """
    probabilities, truths = [], []
    drawn = scored_points(cases, seed, count)
    for latent, covariance, case, index in zip(fits.latent, fits.covariance, cases, drawn, strict=True):
        latents = draw_latents(latent, temperature * covariance, samples if temperature else 1, seed)
        with torch.no_grad():
            probabilities.append(ask_samples(field, latents, case.coordinates(index))[1])
        truths.append(case.label[index].astype(np.int64))
    return reliability(np.concatenate(probabilities).astype(np.float64), np.concatenate(truths))
