"""Everything that changes while training, and how it is saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nisf.config import Config, TrainConfig
from nisf.field import Field


@dataclass(eq=False)
class State:
    """Everything that changes while training."""

    field: Field
    latents: nn.Embedding
    optimisers: list[torch.optim.Optimizer]
    step: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by name."""
        out = {f"field.{name}": t for name, t in self.field.state_dict().items()}
        out["latents"] = self.latents.weight
        for i, optimiser in enumerate(self.optimisers):
            for j, entries in optimiser.state_dict()["state"].items():
                for name, value in entries.items():
                    out[f"optimiser.{i}.{j}.{name}"] = torch.as_tensor(value)
        return out

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Back to what `tensors` returned at ``step``."""
        self.field.load_state_dict(
            {n.removeprefix("field."): t for n, t in tensors.items() if n.startswith("field.")}
        )
        self.latents.load_state_dict({"weight": tensors["latents"]})
        for i, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Any]] = {}
            prefix = f"optimiser.{i}."
            for name, tensor in tensors.items():
                if name.startswith(prefix):
                    j, entry = name.removeprefix(prefix).split(".", 1)
                    # SparseAdam counts its steps in a plain number, Adam in a tensor.
                    plain = isinstance(optimiser, torch.optim.SparseAdam) and entry == "step"
                    state.setdefault(int(j), {})[entry] = int(tensor) if plain else tensor
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.step = step


def new_state(config: Config, subjects: int) -> State:
    """Weights, latents and optimisers before the first step."""
    torch.manual_seed(config.train.seed)
    field = Field(config.field)
    latents = nn.Embedding(subjects, config.field.latent, sparse=config.train.latent_rows)
    nn.init.normal_(latents.weight, std=config.train.latent_init)
    weights = torch.optim.Adam(field.parameters(), lr=config.train.learning_rate)
    kind = torch.optim.SparseAdam if config.train.latent_rows else torch.optim.Adam
    return State(field, latents, [weights, kind(latents.parameters(), lr=config.train.latent_rate)])


def rate_factor(config: TrainConfig, step: int) -> float:
    """Learning rate at a step, as a share of the setting."""
    if config.schedule == "constant":
        return 1.0
    warm = max(1, config.steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
