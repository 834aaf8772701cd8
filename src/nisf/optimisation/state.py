"""The state of a training, and how it is saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nisf.config.schema import TrainConfig
from nisf.optimisation.ranks import Rows, world


@dataclass(eq=False)
class State:
    """The state of a training.

    `Rows`, and their optimiser's state, are distributed over the ranks; saved tensors contain all rows.

    Attributes:
        modules: networks by name, e.g. ``field``; trained or averaged.
        optimisers: the optimisers of the networks' parameters.
        step: number of optimiser steps done.
        place: place in the schedule, in steps; ahead of ``step`` if a time limit requires it.
    """

    modules: dict[str, nn.Module]
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    place: float = 0.0

    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimisers, each with its learning rate."""
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def rates(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self.groups()]

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the learning rates of the groups; in place if an optimiser keeps its rate on a GPU."""
        for group, rate in zip(self.groups(), rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def descend(self, loss: Tensor) -> None:
        """Do one step of every optimiser along the loss's gradient."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for rows in self._rows():
            rows.settle()
        for optimiser in self.optimisers:
            optimiser.step()

    def trained(self) -> list[nn.Module]:
        """The networks that an optimiser trains and every rank stores completely."""
        known = {id(weight) for group in self.groups() for weight in group["params"]}
        return [
            module
            for module in self.modules.values()
            if not isinstance(module, Rows) and any(id(weight) in known for weight in module.parameters())
        ]

    def _rows(self) -> list[Rows]:
        return [module for module in self.modules.values() if isinstance(module, Rows)]

    def _spread(self) -> dict[str, Rows]:
        """Modules that are distributed over the ranks, by the prefix of their names."""
        found = {}
        for name, rows in self.modules.items():
            if isinstance(rows, Rows) and world() > 1:
                found[f"{name}."] = rows
                found |= {
                    f"optimiser.{i}.": rows
                    for i, optimiser in enumerate(self.optimisers)
                    if any(weight is rows.weight for g in optimiser.param_groups for weight in g["params"])
                }
        return found

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; every rank must call this."""
        out = {
            f"{module}.{name}": t
            for module, network in self.modules.items()
            for name, t in network.state_dict().items()
        }
        for i, optimiser in enumerate(self.optimisers):
            for j, entries in optimiser.state_dict()["state"].items():
                for name, value in entries.items():
                    out[f"optimiser.{i}.{j}.{name}"] = torch.as_tensor(value)
        for beginning, rows in self._spread().items():
            by_row = [name for name, t in out.items() if name.startswith(beginning) and t.ndim]
            out |= {name: rows.whole(out[name]) for name in sorted(by_row)}
        return out

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Return to the state that `tensors` gave at ``step``, on any number of ranks."""
        tensors = dict(tensors)
        for beginning, rows in self._spread().items():
            by_row = [name for name, t in tensors.items() if name.startswith(beginning) and t.ndim]
            tensors |= {name: rows.part(tensors[name]) for name in by_row}
        for module, network in self.modules.items():
            prefix = f"{module}."
            network.load_state_dict(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        for i, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Any]] = {}
            prefix = f"optimiser.{i}."
            for name, tensor in tensors.items():
                if name.startswith(prefix):
                    j, entry = name.removeprefix(prefix).split(".", 1)
                    # SparseAdam counts its steps in a Python number, Adam in a tensor.
                    plain = isinstance(optimiser, torch.optim.SparseAdam) and entry == "step"
                    state.setdefault(int(j), {})[entry] = int(tensor) if plain else tensor
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.step = self.place = step


def rate_factor(config: TrainConfig, step: float) -> float:
    """Learning rate at a step, or between two, as a fraction of the setting."""
    if config.schedule == "constant":
        return 1.0
    warm = max(1, config.steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
