from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nisf.config import FieldConfig
from nisf.field import Field
from nisf.gauss_newton import Solver, jacobian, normal_equations, objective, slope_and_weight, solve
from nisf.points import Batch

CONFIG = FieldConfig(latent=6, width=6, layers=2, activation="sine", sine_omega=5.0, channels=2)
SOLVER = Solver(points_worth=200.0, chunk=16)


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    return Field(CONFIG).double().requires_grad_(False)


@pytest.fixture(scope="module")
def problem(field):
    """Points of three subjects with known latents, a prior, and padding."""
    generator = torch.Generator().manual_seed(1)
    coordinates = torch.rand(3, 50, 4, generator=generator, dtype=torch.float64) * 2 - 1
    true = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    weight = torch.ones(3, 50, dtype=torch.float64)
    weight[1, 30:] = 0
    intensity = torch.sigmoid(field.intensity(coordinates, true))
    batch = Batch(coordinates, intensity, torch.zeros(3, 50, dtype=torch.long), weight)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return (
        batch,
        torch.zeros(6, dtype=torch.float64),
        0.1 * (a @ a.T) + 0.5 * torch.eye(6, dtype=torch.float64),
    )


def share_of(batch, solver=SOLVER):
    return batch.weight * solver.points_worth / batch.weight.sum(1, keepdim=True)


def test_jacobian_is_each_points_own_gradient(field, problem):
    batch, _, _ = problem
    latent = torch.randn(3, 6, dtype=torch.float64)
    logits, rows = jacobian(field, batch.coordinates, latent)
    assert rows.shape == (3, 50, 2, 6)
    for s, n, c in [(0, 0, 0), (1, 17, 1), (2, 49, 0)]:
        h = latent[s : s + 1].clone().requires_grad_(True)
        value = field.intensity(batch.coordinates[s : s + 1, n : n + 1], h)[0, 0, c]
        torch.testing.assert_close(logits[s, n, c], value.detach())
        torch.testing.assert_close(rows[s, n, c], torch.autograd.grad(value, h)[0][0])


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_normal_equations_against_autograd(field, problem, likelihood):
    batch, mean, precision = problem
    solver = replace(SOLVER, likelihood=likelihood)
    latent = torch.randn(3, 6, dtype=torch.float64)
    share = share_of(batch)
    gradient, hessian = normal_equations(field, latent, batch, share, mean, precision, solver)
    step = 1e-5
    for i in range(6):
        e = torch.zeros(6, dtype=torch.float64)
        e[i] = step
        up, down = (objective(field, latent + d, batch, share, mean, precision, solver) for d in (e, -e))
        torch.testing.assert_close(gradient[:, i], (up - down) / (2 * step), rtol=1e-5, atol=1e-5)
    logits, rows = jacobian(field, batch.coordinates, latent)
    _, weight = slope_and_weight(logits, batch.intensity, solver)
    naive = precision + torch.einsum("sncl,snc,sncm->slm", rows, weight * share[..., None], rows)
    torch.testing.assert_close(hessian, naive)


def test_finds_the_minimum_that_a_general_optimiser_finds(field, problem):
    batch, mean, precision = problem
    found = solve(field, batch, mean, precision, SOLVER)
    share = share_of(batch)
    for s in range(3):
        one = Batch(*(x[s : s + 1] for x in (batch.coordinates, batch.intensity, batch.label, batch.weight)))

        def cost(h, one=one, s=s):
            latent = torch.tensor(h[None])
            gradient, _ = normal_equations(field, latent, one, share[s : s + 1], mean, precision, SOLVER)
            value = objective(field, latent, one, share[s : s + 1], mean, precision, SOLVER)
            return float(value), gradient[0].numpy()

        best = minimize(cost, found.latent[s].numpy(), jac=True, method="BFGS", options={"gtol": 1e-8})
        assert float(found.objective[s]) - best.fun < 1e-3 * abs(best.fun)


def test_never_accepts_a_worse_objective(field, problem):
    batch, mean, precision = problem
    for start in (None, 20 * torch.randn(3, 6, dtype=torch.float64)):
        history = solve(field, batch, mean, precision, SOLVER, start=start).history
        assert (history.diff(dim=0) <= 0).all()
        assert (history[-1] < history[0]).all()


def test_alone_or_in_company_and_whatever_the_padding(field, problem):
    batch, mean, precision = problem
    together = solve(field, batch, mean, precision, SOLVER)
    part = Batch(*(x[1:2, :30] for x in (batch.coordinates, batch.intensity, batch.label, batch.weight)))
    alone = solve(field, part, mean, precision, SOLVER)
    torch.testing.assert_close(together.latent[1], alone.latent[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together.covariance[1], alone.covariance[0], rtol=1e-5, atol=1e-8)


def test_more_evidence_makes_the_posterior_narrower(field, problem):
    batch, mean, precision = problem
    prior = torch.linalg.inv(precision)
    sizes = [torch.logdet(prior)]
    for worth in (20.0, 200.0, 2000.0):
        found = solve(field, batch, mean, precision, replace(SOLVER, points_worth=worth))
        assert torch.linalg.eigvalsh(found.covariance).min() > 0
        sizes.append(torch.logdet(found.covariance[0]))
    assert np.all(np.diff([float(s) for s in sizes]) < 0)


def test_watch_sees_every_iteration(field, problem):
    seen = []
    batch, mean, precision = problem
    found = solve(
        field, batch, mean, precision, SOLVER, watch=lambda i, latent: seen.append((i, latent.shape))
    )
    assert seen[0] == (0, (3, 6))
    assert [i for i, _ in seen] == list(range(len(found.history)))
