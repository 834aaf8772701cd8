"""A subject's posterior: tempered likelihood of its intensities times the Gaussian prior of its unknowns.

Every point gets its own copy of the unknowns, so that one backward pass of the summed outputs gives the whole
Jacobian: linearising costs as much as a gradient. The inverse Hessian at the end of a fit is the covariance
of the Laplace approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nisf.chunks import linearised_points
from nisf.config.schema import Likelihood
from nisf.kinds.latent.parametrisation import Parametrisation, PlacedPoints


def misfit(logits: Tensor, target: Tensor, likelihood: Likelihood, sigma: float) -> Tensor:
    """Negative log-likelihood of each intensity, same shape as ``logits``.

    Args:
        logits: logits of the intensities, any shape.
        target: measured intensities in [0, 1], same shape.
        likelihood: cross-entropy of intensities as fractions, or squared differences.
        sigma: standard deviation of an intensity in [0, 1], for the Gaussian likelihood.
    """
    if likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return 0.5 * ((torch.sigmoid(logits) - target) / sigma) ** 2


def slope_and_weight(
    logits: Tensor, target: Tensor, likelihood: Likelihood, sigma: float
) -> tuple[Tensor, Tensor]:
    """First derivative of `misfit` by the logit, and its generalised Gauss-Newton second derivative."""
    p = torch.sigmoid(logits)
    spread = p * (1 - p)
    if likelihood == "bernoulli":
        return p - target, spread
    return (p - target) * spread / sigma**2, (spread / sigma) ** 2


@dataclass(frozen=True, eq=False)
class Posterior:
    """Negative log posterior of ``s`` subjects on fixed points.

    It is a `nisf.kinds.latent.levenberg_marquardt.Problem`.

    Attributes:
        model: the field as a function of the unknowns.
        points: the points.
        intensity: measured there (s, n, c).
        share: number of observations that a point counts for, 0 for padding (s, n).
        strength: weight of the prior over latents.
        likelihood: see `misfit`; likewise ``sigma``.
        dense: whether linearising computes the Hessian with value and gradient, in one pass.
    """

    model: Parametrisation
    points: PlacedPoints
    intensity: Float[Tensor, "s n c"]
    share: Float[Tensor, "s n"]
    strength: float = 1.0
    likelihood: Likelihood = "bernoulli"
    sigma: float = 0.1
    dense: bool = True

    @cached_property
    def inverse_variance(self) -> Float[Tensor, "u"]:
        """Inverse variances of the prior over the unknowns, which is diagonal."""
        latent, *others = self.model.sizes
        return self.intensity.new_tensor([self.strength] * latent + [1.0] * sum(others))

    def parts(self) -> list[slice]:
        """Slices that split the points into chunks."""
        s, n = self.share.shape
        step = linearised_points(s)
        return [slice(first, first + step) for first in range(0, n, step)]

    @torch.no_grad()
    def value(self, unknowns: Float[Tensor, "s u"]) -> Float[Tensor, "s"]:
        total = 0.5 * (self.inverse_variance * unknowns.square()).sum(1)
        for part in self.parts():
            total = total + self.cost(self.model.intensity(unknowns, self.points.part(part)), part)
        return total

    def cost(self, logits: Float[Tensor, "s n c"], part: slice) -> Float[Tensor, "s"]:
        """The tempered misfit of a chunk of points, summed."""
        cost = misfit(logits, self.intensity[:, part], self.likelihood, self.sigma)
        return (cost.sum(-1) * self.share[:, part]).sum(1)

    def linearise(self, unknowns: Float[Tensor, "s u"]) -> Near:
        return Near(self, unknowns.detach())

    def rows(self, unknowns: Tensor, part: slice) -> tuple[Float[Tensor, "s n c"], Float[Tensor, "s n c u"]]:
        """Logits and their derivatives by the unknowns.

        A point's logit depends only on its own copy of the unknowns, so the gradient of the sum over points
        contains every point's own gradient: one backward pass per channel, for any number of points.
        """
        points = self.points.part(part)
        s, n = points.group.shape
        copies = unknowns[:, None].expand(s, n, -1).reshape(s * n, -1).requires_grad_(True)
        with torch.enable_grad():
            logits = self.model.intensity(copies, points.apart())[:, 0]
            c = logits.shape[-1]
            rows = [
                torch.autograd.grad(logits[:, channel].sum(), copies, retain_graph=channel + 1 < c)[0]
                for channel in range(c)
            ]
        return logits.detach().reshape(s, n, c), torch.stack(rows, 1).reshape(s, n, c, -1)

    def covariance(self, unknowns: Float[Tensor, "s u"]) -> Float[Tensor, "s u u"]:
        """Covariance of the Laplace approximation at these unknowns."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.linearise(unknowns).matrix()))


class Near:
    """A posterior linearised at some unknowns; a `nisf.kinds.latent.levenberg_marquardt.Linearised`."""

    def __init__(self, posterior: Posterior, unknowns: Float[Tensor, "s u"]) -> None:
        self.posterior = posterior
        self.unknowns = unknowns

    def _derivatives(self, logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Tempered first and second derivatives at the points (s, n, c)."""
        posterior = self.posterior
        both = slope_and_weight(logits, posterior.intensity[:, part], posterior.likelihood, posterior.sigma)
        slope, weight = (x * posterior.share[:, part, None] for x in both)
        return slope, weight

    @cached_property
    def _normal(self) -> tuple[Tensor, Tensor, Tensor]:
        """Value, gradient, and Hessian by normal equations."""
        posterior, x = self.posterior, self.unknowns
        value = 0.5 * (posterior.inverse_variance * x.square()).sum(1)
        gradient = posterior.inverse_variance * x
        hessian = torch.diag_embed(posterior.inverse_variance.expand_as(x).clone())
        for part in posterior.parts():
            logits, rows = posterior.rows(x, part)
            value = value + posterior.cost(logits, part)
            slope, weight = (v.flatten(1) for v in self._derivatives(logits, part))
            flat = rows.flatten(1, 2)
            gradient = gradient + (flat.transpose(1, 2) @ slope[..., None])[..., 0]
            hessian = hessian + flat.transpose(1, 2) @ (flat * weight[..., None])
        return value, gradient, hessian

    @cached_property
    def _first_order(self) -> tuple[Tensor, Tensor]:
        """Value and gradient, without computing the Jacobian."""
        posterior, x = self.posterior, self.unknowns
        value, total = 0.5 * (posterior.inverse_variance * x.square()).sum(1), posterior.inverse_variance * x
        for part in posterior.parts():
            leaf = x.clone().requires_grad_(True)
            with torch.enable_grad():
                logits = posterior.model.intensity(leaf, posterior.points.part(part))
                value = value + posterior.cost(logits.detach(), part)
                slope, _ = self._derivatives(logits.detach(), part)
                total = total + torch.autograd.grad((logits * slope).sum(), leaf)[0]
        return value, total

    @property
    def value(self) -> Float[Tensor, "s"]:
        return self._normal[0] if self.posterior.dense else self._first_order[0]

    @property
    def gradient(self) -> Float[Tensor, "s u"]:
        return self._normal[1] if self.posterior.dense else self._first_order[1]

    def matrix(self) -> Float[Tensor, "s u u"]:
        return self._normal[2]

    def product(self, vector: Float[Tensor, "s u"]) -> Float[Tensor, "s u"]:
        """Takes two more backward passes than a gradient; the Jacobian is not stored."""
        posterior = self.posterior
        total = posterior.inverse_variance * vector
        for part in posterior.parts():
            leaf = self.unknowns.clone().requires_grad_(True)
            with torch.enable_grad():
                logits = posterior.model.intensity(leaf, posterior.points.part(part))
                # A product with J' is linear in its vector, and its derivative is a product with J.
                dummy = torch.zeros_like(logits, requires_grad=True)
                (pulled,) = torch.autograd.grad(logits, leaf, dummy, create_graph=True)
                (pushed,) = torch.autograd.grad(pulled, dummy, vector, retain_graph=True)
                _, weight = self._derivatives(logits.detach(), part)
                total = total + torch.autograd.grad(logits, leaf, pushed * weight)[0]
        return total


def draw_latents(
    mean: Float[Tensor, "l"], covariance: Float[Tensor, "l l"], count: int, seed: int
) -> Float[Tensor, "m l"]:
    """Draws of a latent from its Gaussian posterior; they depend only on the seed."""
    values, vectors = torch.linalg.eigh(covariance.double())
    root = vectors * values.clamp_min(0.0).sqrt()
    noise = torch.from_numpy(np.random.default_rng([seed, 21]).standard_normal((count, len(values))))
    return (mean.double() + noise.to(root.device) @ root.T).to(mean.dtype)
