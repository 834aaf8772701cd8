"""Minimise a small objective by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(objective: Callable[[], Tensor], unknown: Tensor, steps: int) -> None:
    """Minimise an objective by changing ``unknown`` in place.

    Args:
        objective: its value; differentiable in ``unknown``.
        unknown: a leaf tensor that requires a gradient.
        steps: maximum number of L-BFGS steps, with a line search by strong Wolfe conditions.
    """
    solver = torch.optim.LBFGS([unknown], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = objective()
        value.backward()
        return value

    solver.step(closure)
