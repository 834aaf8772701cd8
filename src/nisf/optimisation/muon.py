"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al., 2024).

Every direction of a layer then moves equally far, rare directions as far as those that dominate the gradient.
PyTorch's Muon supports only matrices and computes in bf16, which is thirty times slower on CPUs without bf16
units. Here convolution kernels count as matrices with one row per output, in the weights' own precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nisf.config.schema import TrainConfig

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration: singular values are between 0.7 and 1.2 after five steps."""
STEPS = 5
LEAST = 16
"""Minimum number of rows and columns; smaller weights, at the input and the output, are left to Adam."""


def orthogonal(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Approximately the nearest matrix with orthonormal rows or columns: singular values are roughly one."""
    a, b, c = QUINTIC
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


SIZES = (160, 640)
"""Numbers of columns to which matrices are zero-padded, so that they can be orthogonalised in batches."""


def orthogonal_each(matrices: Sequence[Tensor]) -> list[Tensor]:
    """`orthogonal` of each matrix, in batches; zero padding stays zero."""
    wide = [m if m.shape[0] <= m.shape[1] else m.T for m in matrices]
    out: list[Tensor] = list(matrices)
    for low, high in zip((0, *SIZES), (*SIZES, max(m.shape[1] for m in wide)), strict=True):
        chosen = [i for i, m in enumerate(wide) if low < m.shape[1] <= high]
        if not chosen:
            continue
        rows, columns = (max(wide[i].shape[axis] for i in chosen) for axis in (0, 1))
        x = wide[0].new_zeros(len(chosen), rows, columns)
        for place, i in enumerate(chosen):
            x[place, : wide[i].shape[0], : wide[i].shape[1]] = wide[i]
        a, b, c = QUINTIC
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
        for _ in range(STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        for place, i in enumerate(chosen):
            found = x[place, : wide[i].shape[0], : wide[i].shape[1]]
            out[i] = found if matrices[i].shape[0] <= matrices[i].shape[1] else found.T
    return out


class Muon(torch.optim.Optimizer):
    """Optimiser for weights with two or more axes; the first axis counts as rows.

    Steps are scaled so that their entries are as large as Adam's (Liu et al., 2025), so that learning rate
    and weight decay have the same meaning as for Adam.

    Args:
        params: weights.
        lr: learning rate; a tensor on a GPU, where a step may be captured.
        weight_decay: decoupled, as in AdamW.
        momentum: decay of the running mean of gradients; Nesterov's form.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float | Tensor, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Do one step with the present gradients, or those of ``closure``; returns the closure's result."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            if isinstance(group["lr"], Tensor):
                self._together(group)
                continue
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state, beta = self.state[weight], group["momentum"]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                mean = state["momentum"].lerp_(weight.grad, 1 - beta)
                ahead = weight.grad.lerp(mean, beta).flatten(1)
                change = orthogonal(ahead).reshape(weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(change, alpha=-0.2 * math.sqrt(max(ahead.shape)) * group["lr"])
        return value

    def _together(self, group: dict[str, Any]) -> None:
        """Step all weights of a group in few calls, with the rate as a tensor."""
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        rate, beta = group["lr"], group["momentum"]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        means = [self.state[weight]["momentum"] for weight in weights]
        gradients = [weight.grad for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - beta)
        ahead = [m.flatten(1) for m in torch._foreach_lerp(gradients, means, beta)]
        changes = [
            change.reshape(weight.shape) * (0.2 * math.sqrt(max(matrix.shape)))
            for change, weight, matrix in zip(orthogonal_each(ahead), weights, ahead, strict=True)
        ]
        torch._foreach_mul_(changes, rate)
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        torch._foreach_sub_(weights, changes)


def weight_optimisers(
    network: nn.Module, config: TrainConfig, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Optimisers of a network's weights: Adam for all, or Muon for the matrices between input and output.

    Args:
        network: on its device.
        config: optimiser and learning rate.
        weight_decay: decoupled.
    """
    weights = list(network.parameters())
    rate: float | Tensor = config.learning_rate
    more: dict[str, Any] = {}
    if all(weight.is_cuda for weight in weights):
        # A graph would freeze a plain number: the rate is a tensor, one for each optimiser.
        rate = torch.tensor(rate, device=weights[0].device)
        more = {"fused": True, "capturable": True}
    if config.optimiser == "adam":
        return [torch.optim.AdamW(weights, lr=rate, weight_decay=weight_decay, **more)]
    inner = [w for w in weights if w.ndim > 1 and min(w.flatten(1).shape) >= LEAST]
    chosen = {id(w) for w in inner}
    rest = [w for w in weights if id(w) not in chosen]
    adam = torch.optim.AdamW(rest, lr=rate, weight_decay=weight_decay, **more)
    own = rate.clone() if isinstance(rate, Tensor) else rate
    return [adam, Muon(inner, own, weight_decay)] if inner else [adam]
