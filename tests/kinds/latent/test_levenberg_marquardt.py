import pytest
import torch
from scipy.optimize import minimize

from nisf.kinds.latent.levenberg_marquardt import Solver, conjugate_gradients, solve


class Rosenbrock:
    """A curved valley per subject, as a sum of squares; minimum zero at (1, 1, ...)."""

    def __init__(self, steep=10.0, size=4):
        self.steep, self.size, self.seen = steep, size, 0

    def residuals(self, x):
        return torch.cat([self.steep * (x[:, 1:] - x[:, :-1] ** 2), 1 - x[:, :-1]], dim=1)

    def value(self, unknowns):
        return 0.5 * self.residuals(unknowns).square().sum(1) + 1.0

    def linearise(self, unknowns):
        self.seen += 1
        rows = torch.stack([torch.func.jacrev(lambda x: self.residuals(x[None])[0])(row) for row in unknowns])
        return Near(self, unknowns, rows)


class Near:
    def __init__(self, problem, x, rows):
        self.rows = rows
        self.value = problem.value(x)
        self.gradient = torch.einsum("sru,sr->su", rows, problem.residuals(x))

    def matrix(self):
        return self.rows.transpose(1, 2) @ self.rows

    def product(self, vector):
        return torch.einsum("sru,srv,sv->su", self.rows, self.rows, vector)


START = torch.tensor([[0.2, 1.0, 0.5, 0.3], [0.0, 0.0, 0.0, 0.0], [3.0, 2.0, 1.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("dense", [0, 512])
def test_finds_the_minimum_that_a_general_optimiser_finds(dense):
    problem = Rosenbrock()
    solver = Solver(
        iterations=300, tolerance=1e-12, damping=1.0, least_damping=1e-9, dense=dense, residual=1e-9
    )
    found = solve(lambda _: problem, START, solver)
    assert found.converged.all()
    for s in range(3):
        best = minimize(
            lambda x: float(problem.value(torch.tensor(x)[None])), START[s].numpy(), method="BFGS"
        )
        assert float(found.objective[s]) <= best.fun + 1e-6
    torch.testing.assert_close(found.unknowns, torch.ones_like(START), atol=1e-3, rtol=0)


def test_matrix_and_products_take_the_same_way():
    solvers = [Solver(iterations=6, damping=1.0, dense=dense, residual=1e-12) for dense in (0, 512)]
    problem = Rosenbrock()
    ways = [solve(lambda _: problem, START, solver).history for solver in solvers]
    torch.testing.assert_close(*ways, rtol=1e-6, atol=1e-8)


def test_never_accepts_a_worse_objective():
    problem = Rosenbrock(steep=100.0)
    seen = []
    found = solve(
        lambda _: problem,
        20 * START,
        Solver(iterations=60, damping=1e-2),
        callback=lambda _, x: seen.append(problem.value(x)),
    )
    values = torch.stack(seen)
    assert (values.diff(dim=0) <= 0).all()
    torch.testing.assert_close(values, found.history)
    assert (values[-1] < 0.1 * values[0])[[0, 2]].all()


def test_alone_or_in_company():
    problem, solver = Rosenbrock(), Solver(iterations=50, damping=1.0)
    together = solve(lambda _: problem, START, solver)
    for s in range(3):
        alone = solve(lambda _: problem, START[s : s + 1], solver)
        torch.testing.assert_close(alone.unknowns[0], together.unknowns[s])
        assert alone.iterations[0] == together.iterations[s]
    assert len(set(together.iterations.tolist())) > 1


def test_a_fit_ends_only_on_a_problem_that_stays():
    fixed = Rosenbrock()
    fresh = lambda i: Rosenbrock() if i < 40 else fixed  # noqa: E731
    solver = Solver(iterations=100, tolerance=1e-3, damping=1.0)
    assert (solve(lambda _: fixed, START, solver).iterations < 40).all()
    found = solve(fresh, START, solver)
    assert (found.iterations > 40).all()
    assert found.converged.all()


def test_a_refused_step_costs_no_new_linearisation():
    problem = Rosenbrock(steep=100.0)
    found = solve(lambda _: problem, -START[2:], Solver(iterations=20, damping=1e-2))
    accepted = int((found.history.diff(dim=0) < 0).sum())
    assert accepted < len(found.history) - 1
    assert problem.seen <= accepted + 1


def test_the_iterations_may_run_out():
    problem = Rosenbrock()
    found = solve(lambda _: problem, START, Solver(iterations=2, damping=1.0))
    assert not found.converged.any()
    assert found.iterations.tolist() == [2, 2, 2]
    none = solve(lambda _: problem, START, Solver(iterations=0))
    assert torch.equal(none.unknowns, START)


def test_conjugate_gradients():
    a = torch.randn(3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = a @ a.transpose(1, 2) + 0.1 * torch.eye(7, dtype=torch.float64)
    right = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    right[1] = 0

    def product(v):
        return torch.einsum("suv,sv->su", matrices, v)

    found = conjugate_gradients(product, right, products=50, residual=1e-10)
    torch.testing.assert_close(found, torch.linalg.solve(matrices, right), rtol=1e-6, atol=1e-8)
    assert (found[1] == 0).all()
    # Stopped early, it is a direction of descent already.
    early = conjugate_gradients(product, right, products=2, residual=1e-10)
    assert ((early * right).sum(1)[[0, 2]] > 0).all()
