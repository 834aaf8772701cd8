from dataclasses import replace

import numpy as np
import pytest
import torch

from nisf.config.schema import FieldConfig
from nisf.kinds.latent.levenberg_marquardt import Solver, solve
from nisf.kinds.latent.parametrisation import Parametrisation, PlacedPoints
from nisf.kinds.latent.posterior import Posterior, misfit, slope_and_weight
from nisf.networks.latent_field import LatentField

CONFIG = FieldConfig(latent=6, width=6, layers=2, activation="sine", sine_omega=5.0, channels=2)
WORTH = 200.0


def double(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def subject():
    """Everything unknown: latent, shifts and gains of four slices, pose."""
    torch.manual_seed(0)
    field = LatentField(CONFIG).double().requires_grad_(False)
    root = torch.linalg.cholesky(0.2 * (lambda a: a @ a.T)(double(6, 6, seed=1)) + torch.eye(6).double())
    return Parametrisation(
        field, double(6, seed=2) / 4, root, 4, shift_mm=3.0, gain=0.2, pose_mm=4.0, pose_degrees=9.0
    )


@pytest.fixture(scope="module")
def posterior(subject):
    """Points of three subjects with known unknowns, some loose, some padding."""
    generator = torch.Generator().manual_seed(3)
    coordinates = torch.rand(3, 50, 4, generator=generator, dtype=torch.float64) * 2 - 1
    group = torch.randint(-1, 4, (3, 50), generator=generator)
    axes = torch.linalg.qr(double(3, 50, 3, 3, seed=4))[0][..., :2]
    half = torch.tensor([[60.0, 50.0, 40.0]] * 3, dtype=torch.float64)
    points = PlacedPoints(coordinates, half, group, axes)
    share = torch.full((3, 50), WORTH / 50, dtype=torch.float64)
    share[1, 30:] = 0
    true = double(3, sum(subject.sizes), seed=5)
    return Posterior(subject, points, torch.sigmoid(subject.intensity(true, points)), share, strength=0.7)


def unknowns(posterior, seed=6):
    return 0.5 * double(3, len(posterior.inverse_variance), seed=seed)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradient_and_hessian_against_differences(posterior, likelihood):
    posterior = replace(posterior, likelihood=likelihood)
    x = unknowns(posterior)
    near = posterior.linearise(x)
    torch.testing.assert_close(near.value, posterior.value(x))
    step = 1e-6
    rows = []
    for i in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, i] = step
        slope = (posterior.value(x + e) - posterior.value(x - e)) / (2 * step)
        torch.testing.assert_close(near.gradient[:, i], slope, rtol=1e-5, atol=1e-5)
        up, down = (posterior.model.intensity(x + d, posterior.points) for d in (e, -e))
        rows.append((up - down) / (2 * step))
    rows = torch.stack(rows, -1)
    logits = posterior.model.intensity(x, posterior.points)
    _, weight = slope_and_weight(logits, posterior.intensity, likelihood, 0.1)
    naive = torch.einsum("sncu,snc,sncv->suv", rows, weight * posterior.share[..., None], rows)
    torch.testing.assert_close(
        near.matrix(), naive + torch.diag(posterior.inverse_variance), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_slope_and_weight(likelihood):
    logits, target = double(40, seed=7).requires_grad_(True), torch.rand(40, dtype=torch.float64)
    slope, weight = slope_and_weight(logits, target, likelihood, 0.3)
    torch.testing.assert_close(
        slope, torch.autograd.grad(misfit(logits, target, likelihood, 0.3).sum(), logits)[0]
    )
    assert (weight >= 0).all()


def test_products_are_those_of_the_matrix(posterior):
    x, v = unknowns(posterior), unknowns(posterior, seed=8)
    dense = posterior.linearise(x)
    sparse = replace(posterior, dense=False).linearise(x)
    torch.testing.assert_close(sparse.value, dense.value)
    torch.testing.assert_close(sparse.gradient, dense.gradient)
    torch.testing.assert_close(sparse.product(v), torch.einsum("suv,sv->su", dense.matrix(), v))


def test_both_paths_end_at_the_same_place(posterior):
    start = torch.zeros_like(unknowns(posterior))
    solver = Solver(iterations=8, damping=1.0, residual=1e-10)
    dense = solve(lambda _: posterior, start, solver)
    matrix_free = replace(posterior, dense=False)
    sparse = solve(lambda _: matrix_free, start, replace(solver, dense=0))
    torch.testing.assert_close(dense.history, sparse.history, rtol=1e-6, atol=1e-6)
    assert (dense.history[-1] < dense.history[0] - 1).all()


def test_the_size_of_the_pieces_changes_nothing(posterior, monkeypatch):
    x = unknowns(posterior)
    whole = posterior.linearise(x).matrix()
    monkeypatch.setattr("nisf.chunks.LINEARISED_POINTS", 20)
    assert len(posterior.parts()) > 5
    torch.testing.assert_close(posterior.linearise(x).matrix(), whole)


def test_padding_does_not_count(posterior):
    x = unknowns(posterior)
    points = PlacedPoints(
        *(v[1:2, :30] if v.ndim > 2 or v.shape[1] == 50 else v[1:2] for v in vars(posterior.points).values())
    )
    part = replace(
        posterior, points=points, intensity=posterior.intensity[1:2, :30], share=posterior.share[1:2, :30]
    )
    torch.testing.assert_close(part.value(x[1:2])[0], posterior.value(x)[1])
    torch.testing.assert_close(part.covariance(x[1:2])[0], posterior.covariance(x)[1])


def test_more_evidence_makes_the_posterior_narrower(posterior):
    x = unknowns(posterior)
    sizes = []
    for factor in (0.0, 0.1, 1.0, 10.0):
        covariance = replace(posterior, share=factor * posterior.share).covariance(x)
        assert torch.linalg.eigvalsh(covariance).min() > 0
        sizes.append(float(torch.logdet(covariance[0])))
    assert np.all(np.diff(sizes) < 0)
    torch.testing.assert_close(sizes[0], -float(posterior.inverse_variance.log().sum()))


def test_the_inverse_hessian_is_the_covariance_of_a_linear_model():
    """Bayesian linear regression has the posterior in closed form."""

    class Linear(LatentField):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def intensity(self, coordinates, latent):
            return (coordinates * latent[:, None]).sum(-1, keepdim=True)

    x = double(1, 40, 4, seed=9)
    points = PlacedPoints(
        x, torch.ones(1, 3).double(), torch.full((1, 40), -1), torch.zeros(1, 40, 3, 2).double()
    )
    model = Parametrisation(Linear(), torch.zeros(4).double(), torch.eye(4).double())
    target = torch.full((1, 40, 1), 0.5, dtype=torch.float64)
    found = Posterior(
        model, points, target, torch.ones(1, 40).double(), likelihood="gaussian", sigma=0.25
    ).covariance(torch.zeros(1, 4).double())
    # At logit 0 the intensity has slope 1/4: residuals are x h / 4 over 0.25.
    torch.testing.assert_close(found[0], torch.linalg.inv(x[0].T @ x[0] + torch.eye(4).double()))
