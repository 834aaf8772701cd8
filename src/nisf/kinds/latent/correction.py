"""Propagate strokes: label terms added to the fit of a latent.

The Laplace posterior, a Gaussian, summarises what the intensities say about the latent, so pixels are not
used again. The corrected latent maximises that posterior times the likelihood of the strokes. It moves most
in the directions that the intensities leave uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.correction.minimise import minimise
from nisf.correction.stroke import Stroke
from nisf.correction.targets import misfit, targets_of
from nisf.data.region import Region
from nisf.networks.latent_field import LatentField
from nisf.stopwatch import stage

WORTH = 2_000.0
"""Number of observations that a stroke counts for, relative to those of the intensities."""
STEPS = 40


def corrected_latent(
    field: LatentField,
    latent: Float[Tensor, "l"],
    covariance: Float[Tensor, "l l"],
    strokes: Sequence[Stroke],
    labels: Sequence[str],
    region: Region,
) -> Float[Tensor, "l"]:
    """The latent that also explains the strokes.

    Args:
        field: the network, on the latent's device.
        latent: fitted to the intensities.
        covariance: covariance of its posterior.
        strokes: at least one.
        labels: names of the classes.
        region: region of the subject.
    """
    targets = targets_of(strokes, labels)
    places = np.c_[region.coordinates(targets.position), targets.time % 1.0][:, : field.config.dimensions]
    with stage("correcting"), torch.inference_mode(False), torch.enable_grad():
        start, spread = latent.clone(), covariance.clone().to(latent.device).double()
        coordinates = torch.from_numpy(places.astype(np.float32)).to(start.device)[None]
        label, present = (torch.from_numpy(x).to(start.device) for x in (targets.label, targets.present))
        share = torch.from_numpy(targets.share).to(start)
        values, vectors = torch.linalg.eigh(spread)
        root = (vectors * values.clamp_min(0.0).sqrt()).to(start.dtype)
        # In standard deviations of the posterior, all directions have the same scale.
        moved = torch.zeros_like(start, requires_grad=True)

        def objective() -> Tensor:
            logits = field(coordinates, (start + root @ moved)[None])[1][0]
            return 0.5 * moved.square().sum() + WORTH * misfit(logits, label, present, share)

        minimise(objective, moved, STEPS)
        return start + root @ moved.detach()
