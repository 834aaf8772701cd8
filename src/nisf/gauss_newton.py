"""Second-order fitting: Levenberg-Marquardt on the latent, with the exact Jacobian.

Every point gets its own copy of the latent, so one backward pass of the summed outputs gives the whole
Jacobian: a step costs about what a gradient step costs, and ten replace hundreds. The Gaussian prior over
the training latents makes it a maximum a posteriori fit that ends by convergence, not by a count that was
chosen on labels; the inverse Hessian at its end is the Laplace posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nisf.field import Field
from nisf.points import Batch

Likelihood = Literal["bernoulli", "gaussian"]
Watch = Callable[[int, Tensor], None]
"""Called with the number of iterations done and the latents (s, l)."""


@dataclass(frozen=True)
class Solver:
    """Settings of the fit.

    Attributes:
        likelihood: cross-entropy of intensities as shares, or squared differences.
        sigma: standard deviation of an intensity in [0, 1], for the Gaussian likelihood.
        points_worth: how many independent observations the drawn points are together. Neighbouring
            voxels are not independent; this is the tempering that sets data against prior.
        iterations: at most.
        tolerance: the fit ends when the objective falls by less than this share of itself.
        chunk: points at a time.
    """

    likelihood: Likelihood = "bernoulli"
    sigma: float = 0.1
    points_worth: float = 2000.0
    iterations: int = 40
    tolerance: float = 1e-5
    chunk: int = 4096


@dataclass(frozen=True, eq=False)
class Solution:
    """Where a fit ended.

    Attributes:
        latent: (s, l).
        covariance: of the Laplace posterior (s, l, l).
        objective: (s,) at the end; lower is better.
        iterations: per subject (s,), accepted or not.
        history: objective after each iteration (i, s).
    """

    latent: Float[Tensor, "s l"]
    covariance: Float[Tensor, "s l l"]
    objective: Float[Tensor, "s"]
    iterations: Tensor
    history: Float[Tensor, "i s"]


def misfit(logits: Tensor, target: Tensor, solver: Solver) -> Tensor:
    """Negative log-likelihood of each intensity, same shape as ``logits``."""
    if solver.likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return 0.5 * ((torch.sigmoid(logits) - target) / solver.sigma) ** 2


def slope_and_weight(logits: Tensor, target: Tensor, solver: Solver) -> tuple[Tensor, Tensor]:
    """First derivative of `misfit` by the logit, and its generalised Gauss-Newton second derivative."""
    p = torch.sigmoid(logits)
    spread = p * (1 - p)
    if solver.likelihood == "bernoulli":
        return p - target, spread
    return (p - target) * spread / solver.sigma**2, (spread / solver.sigma) ** 2


def objective(
    field: Field, latent: Tensor, batch: Batch, share: Tensor, mean: Tensor, precision: Tensor, solver: Solver
) -> Float[Tensor, "s"]:
    """Tempered misfit plus the prior's term, per subject.

    Args:
        share: weight of each point (s, n).
        mean: of the prior (l,).
        precision: inverse covariance of the prior (l, l).
    """
    total = torch.zeros(len(latent), dtype=latent.dtype, device=latent.device)
    with torch.no_grad():
        for part in _parts(batch, solver.chunk):
            logits = field.intensity(batch.coordinates[:, part], latent)
            total += (misfit(logits, batch.intensity[:, part], solver).sum(-1) * share[:, part]).sum(1)
    offset = latent - mean
    return total + 0.5 * torch.einsum("sl,lm,sm->s", offset, precision, offset)


def _parts(batch: Batch, chunk: int) -> list[slice]:
    n = batch.coordinates.shape[1]
    return [slice(first, min(first + chunk, n)) for first in range(0, n, chunk)]


def jacobian(
    field: Field, coordinates: Float[Tensor, "s n d"], latent: Float[Tensor, "s l"]
) -> tuple[Float[Tensor, "s n c"], Float[Tensor, "s n c l"]]:
    """Intensity logits and their derivatives by the subject's latent.

    A point's logit depends on its own copy of the latent only, so the gradient of the sum over points
    is every point's own gradient: one backward pass a channel, whatever the number of points.
    """
    s, n, d = coordinates.shape
    copies = latent[:, None].expand(s, n, -1).reshape(s * n, -1).detach().requires_grad_(True)
    with torch.enable_grad():
        logits = field.intensity(coordinates.reshape(s * n, 1, d), copies)[:, 0]
        c = logits.shape[-1]
        rows = [
            torch.autograd.grad(logits[:, channel].sum(), copies, retain_graph=channel + 1 < c)[0]
            for channel in range(c)
        ]
    return logits.detach().reshape(s, n, c), torch.stack(rows, 1).reshape(s, n, c, -1)


def normal_equations(
    field: Field, latent: Tensor, batch: Batch, share: Tensor, mean: Tensor, precision: Tensor, solver: Solver
) -> tuple[Float[Tensor, "s l"], Float[Tensor, "s l l"]]:
    """Gradient and Gauss-Newton Hessian of `objective`; arguments likewise."""
    gradient = (latent - mean) @ precision
    hessian = precision.expand(len(latent), -1, -1).clone()
    for part in _parts(batch, solver.chunk):
        logits, rows = jacobian(field, batch.coordinates[:, part], latent)
        slope, weight = slope_and_weight(logits, batch.intensity[:, part], solver)
        flat = rows.flatten(1, 2)
        slope, weight = ((x * share[:, part, None]).flatten(1) for x in (slope, weight))
        gradient += (flat.transpose(1, 2) @ slope[..., None])[..., 0]
        hessian += flat.transpose(1, 2) @ (flat * weight[..., None])
    return gradient, hessian


def solve(
    field: Field,
    batch: Batch,
    mean: Float[Tensor, "l"],
    precision: Float[Tensor, "l l"],
    solver: Solver,
    *,
    start: Float[Tensor, "s l"] | None = None,
    watch: Watch | None = None,
) -> Solution:
    """Fit several subjects at once on fixed points, never accepting a worse objective.

    Args:
        field: the network; its weights should not require gradients.
        batch: points of each subject; weight 0 marks padding.
        mean: of the Gaussian prior over latents.
        precision: its inverse covariance.
        solver: settings.
        start: latents to start from; the prior's mean if None.
        watch: called before the first iteration and after each.
    """
    s = len(batch.coordinates)
    share = batch.weight * (solver.points_worth / batch.weight.sum(1, keepdim=True).clamp_min(1.0))
    latent = mean.expand(s, -1).clone() if start is None else start.detach().clone()
    scale = torch.diagonal(precision)
    damping = torch.full((s,), 1.0, dtype=latent.dtype, device=latent.device)
    arguments = (batch, share, mean, precision, solver)
    value = objective(field, latent, *arguments)
    history, running = [value], torch.ones(s, dtype=torch.bool, device=latent.device)
    iterations = torch.zeros(s, dtype=torch.long, device=latent.device)
    fresh = True
    gradient = hessian = torch.empty(0)
    if watch:
        watch(0, latent)
    for iteration in range(solver.iterations):
        if fresh:
            gradient, hessian = normal_equations(field, latent, *arguments)
        damped = hessian + torch.diag_embed(damping[:, None] * scale)
        step = torch.cholesky_solve(-gradient[..., None], torch.linalg.cholesky(damped))[..., 0]
        proposal = torch.where(running[:, None], latent + step, latent)
        proposed = objective(field, proposal, *arguments)
        better = (proposed < value) & running
        expected = -(gradient * step).sum(1) - 0.5 * torch.einsum("sl,slm,sm->s", step, hessian, step)
        gain = (value - proposed) / expected.clamp_min(1e-12)
        iterations += running
        # A step that does not help at heavy damping, or hardly helps, is the end of that subject's fit.
        small = better & ((value - proposed) < solver.tolerance * value.abs()) & (gain > 0.25)
        latent = torch.where(better[:, None], proposal, latent)
        value = torch.where(better, proposed, value)
        damping = torch.where(better & (gain > 0.75), damping / 5, damping)
        damping = torch.where(~better | (gain < 0.25), damping * 5, damping).clamp(1e-6, 1e9)
        running &= ~small & (damping < 1e8)
        fresh = bool(better.any())
        history.append(value)
        if watch:
            watch(iteration + 1, latent)
        if not running.any():
            break
    _, hessian = normal_equations(field, latent, *arguments)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return Solution(latent, covariance, value, iterations, torch.stack(history))
