"""Minimise a small objective by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimise(objective: Callable[[], Tensor], unknown: Tensor, steps: int) -> None:
    """Move ``unknown``, in place, to where the objective is least.

    Args:
        objective: its value; differentiable in ``unknown``.
        unknown: a leaf that requires a gradient.
        steps: of L-BFGS with a line search by strong Wolfe conditions, at most.
    """
    solver = torch.optim.LBFGS([unknown], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = objective()
        value.backward()
        return value

    solver.step(closure)
