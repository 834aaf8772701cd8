"""Levenberg-Marquardt for many small problems at once, independent of networks.

A problem is an objective that can be linearised: it provides its gradient, and its Gauss-Newton Hessian
either as a matrix (few unknowns: normal equations) or as products with vectors (many unknowns: conjugate
gradients). All unknowns must have one scale, such as standard deviations of their prior, because damping adds
a multiple of the identity. A step that increases the objective is never accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class Linearised(Protocol):
    """A problem linearised at some unknowns."""

    @property
    def value(self) -> Float[Tensor, "s"]:
        """The objective there."""
        ...

    @property
    def gradient(self) -> Float[Tensor, "s u"]:
        """The gradient of the objective."""
        ...

    def matrix(self) -> Float[Tensor, "s u u"]:
        """The Gauss-Newton Hessian, positive definite."""
        ...

    def product(self, vector: Float[Tensor, "s u"]) -> Float[Tensor, "s u"]:
        """The Gauss-Newton Hessian times a vector, without the matrix."""
        ...


@runtime_checkable
class Problem(Protocol):
    """``s`` independent problems of ``u`` unknowns each."""

    def value(self, unknowns: Float[Tensor, "s u"]) -> Float[Tensor, "s"]:
        """The objective; lower is better."""
        ...

    def linearise(self, unknowns: Float[Tensor, "s u"]) -> Linearised:
        """Linearise the problem at these unknowns."""
        ...


@dataclass(frozen=True)
class Solver:
    """Settings of the solver.

    Attributes:
        iterations: maximum number.
        tolerance: converged when the predicted decrease is below this fraction of the objective.
        damping: initial damping; while it outweighs the Hessian, steps are those of gradient descent.
        least_damping: lower bound, so that few attempts are needed after a step that was too long.
        dense: maximum number of unknowns for which the Hessian is computed as a matrix.
        products: maximum number of products of conjugate gradients per step.
        residual: where conjugate gradients stop, as a fraction of the gradient's norm.
    """

    iterations: int = 60
    tolerance: float = 1e-4
    damping: float = 100.0
    least_damping: float = 1e-2
    dense: int = 512
    products: int = 60
    residual: float = 1e-3


@dataclass(frozen=True, eq=False)
class Solution:
    """The result of a fit.

    Attributes:
        unknowns: (s, u).
        objective: (s,) of the last problem.
        iterations: number of iterations of each problem until convergence (s,), including rejected steps.
        converged: (s,); False where the iterations ran out first.
        history: objective after each iteration (i, s); it never rises while the problem stays the same.
    """

    unknowns: Float[Tensor, "s u"]
    objective: Float[Tensor, "s"]
    iterations: Int[Tensor, "s"]
    converged: Bool[Tensor, "s"]
    history: Float[Tensor, "i s"]


def solve(
    problems: Callable[[int], Problem],
    start: Float[Tensor, "s u"],
    solver: Solver,
    *,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Solution:
    """Minimise several problems at once, each with its own damping and convergence.

    Args:
        problems: returns the problem of an iteration. New points need a new object. While the same object is
            returned, its linearisation is kept; the fit can converge only then.
        start: initial unknowns.
        solver: settings of the solver.
        callback: called with the iterations done and the unknowns (s, u), at the start and after each.
    """
    s = len(start)
    x = start.detach().clone()
    damping = torch.full((s,), solver.damping, dtype=x.dtype, device=x.device)
    factor, value = torch.full_like(damping, 2.0), torch.full_like(damping, torch.nan)
    running = torch.ones(s, dtype=torch.bool, device=x.device)
    iterations, slow = torch.zeros(2, s, dtype=torch.long, device=x.device)
    problem: Problem | None = None
    near: Linearised | None = None
    history: list[Tensor] = []
    if callback:
        callback(0, x)
    for iteration in range(solver.iterations):
        following = problems(iteration)
        settled = following is problem
        if near is None or not settled:
            problem = following
            near = problem.linearise(x)
            # Otherwise the rounding of an unchanged value could pass for a step.
            value = value if settled else near.value
        if not history:
            history.append(value)
        step, expected = _step(near, damping, solver)
        proposal = torch.where(running[:, None], x + step, x)
        proposed = following.value(proposal)
        better = (proposed < value) & running
        gain = (value - proposed) / expected.clamp_min(torch.finfo(x.dtype).tiny)
        iterations += running
        little = expected < solver.tolerance * value.abs()
        slow = torch.where(
            better & (value - proposed < solver.tolerance * value.abs()), slow + 1, slow * ~better
        )
        x = torch.where(better[:, None], proposal, x)
        value = torch.where(better, proposed, value)
        damping, factor = _damped(damping, factor, gain, better, solver.least_damping)
        if settled:
            running &= ~little & (slow < 3)
        if bool(better.any()):
            near = None
        history.append(value)
        if callback:
            callback(iteration + 1, x)
        if not running.any():
            break
    return Solution(x, value, iterations, ~running, torch.stack(history) if history else value[None])


def _damped(
    damping: Tensor, factor: Tensor, gain: Tensor, better: Tensor, least: float
) -> tuple[Tensor, Tensor]:
    """Damping, and its growth factor, after a step: Nielsen's rule (IMM-REP-1999-05).

    Smooth in the gain ratio (actual over predicted decrease); the growth accelerates while steps are
    rejected.
    """
    eased = damping * (1 - (2 * gain.clamp(0, 2) - 1) ** 3).clamp(1 / 3, 4.0)
    grown = torch.where(better, eased, damping * factor).clamp(least, 1e12)
    return grown, torch.where(better, torch.full_like(factor, 2.0), factor * 2)


def _step(near: Linearised, damping: Tensor, solver: Solver) -> tuple[Tensor, Tensor]:
    """The damped Gauss-Newton step (s, u), and its predicted decrease of the objective (s,)."""
    gradient = near.gradient
    if gradient.shape[1] <= solver.dense:
        hessian = near.matrix()
        damped = hessian + torch.diag_embed(damping[:, None].expand_as(gradient))
        step = torch.cholesky_solve(-gradient[..., None], torch.linalg.cholesky(damped))[..., 0]
        bent = torch.einsum("suv,sv->su", hessian, step)
    else:
        step = conjugate_gradients(
            lambda v: near.product(v) + damping[:, None] * v,
            -gradient,
            products=solver.products,
            residual=solver.residual,
        )
        bent = near.product(step)
    return step, -(gradient * step).sum(1) - 0.5 * (bent * step).sum(1)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Float[Tensor, "s u"],
    *,
    products: int,
    residual: float,
) -> Float[Tensor, "s u"]:
    """Solve several positive definite systems at once, starting from zero.

    If stopped early, the result is still a descent direction, which every further product improves.

    Args:
        product: multiplies the matrices with vectors (s, u).
        right: the right-hand sides.
        products: maximum number of products.
        residual: a system is solved when its residual is below this fraction of ``right``.
    """
    x = torch.zeros_like(right)
    r, p = right.clone(), right.clone()
    size = (r * r).sum(1)
    goal = residual**2 * size
    for _ in range(products):
        active = size > goal
        if not active.any():
            break
        image = product(p)
        length = torch.where(active, size / (p * image).sum(1).clamp_min(torch.finfo(r.dtype).tiny), 0.0)
        x = x + length[:, None] * p
        r = r - length[:, None] * image
        fresh = (r * r).sum(1)
        p = torch.where(
            active[:, None], r + (fresh / size.clamp_min(torch.finfo(r.dtype).tiny))[:, None] * p, p
        )
        size = fresh
    return x
