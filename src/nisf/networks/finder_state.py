"""Everything that changes while a finder is trained, so that its training can be kept and goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(eq=False)
class FinderState:
    """A finder in training.

    Attributes:
        finder: the network.
        optimiser: of its weights, an Adam.
        schedule: of the optimiser's rate.
        rng: chooses the slices of a step.
        generator: of the augmentation.
        steps: of this round of the training.
        step: done.
        before: steps of the rounds before.
        after: steps of the rounds after.
    """

    finder: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator
    generator: torch.Generator
    steps: int
    step: int = 0
    before: int = 0
    after: int = 0

    @property
    def done(self) -> int:
        """Steps of all rounds that are done."""
        return self.before + self.step

    @property
    def total(self) -> int:
        """Steps of all rounds."""
        return self.before + self.steps + self.after

    def tensors(self) -> dict[str, Tensor]:
        """What `load` takes back; the generators' states are among them."""
        out = {f"finder.{name}": tensor for name, tensor in self.finder.state_dict().items()}
        for number, entries in self.optimiser.state_dict()["state"].items():
            out |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        drawn = json.dumps(self.rng.bit_generator.state).encode("ascii")
        out["rng"] = torch.frombuffer(bytearray(drawn), dtype=torch.uint8)
        counts = {"step": torch.tensor(self.step), "before": torch.tensor(self.before)}
        return {**out, "generator": self.generator.get_state(), **counts}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Back to where `tensors` was called.

        If that was in an earlier round, nothing is loaded. If it was in a later one, this round is over; the
        later one loads the network.

        Raises:
            KeyError, ValueError, RuntimeError: they are not those of such a training.
        """
        # Older checkpoints know the first round alone.
        before = int(tensors.get("before", torch.tensor(0)))
        if before < self.before:
            return
        if before > self.before:
            if not self.before + self.steps <= before < self.total:
                raise ValueError(f"a round after {before} steps")
            self.step = self.steps
            return
        step = int(tensors["step"])
        if not 0 < step <= self.steps:
            raise ValueError(f"step {step} of {self.steps}")
        named = {n.removeprefix("finder."): t for n, t in tensors.items() if n.startswith("finder.")}
        self.finder.load_state_dict(named)
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, number, entry = name.split(".", 2)
                state.setdefault(int(number), {})[entry] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        # Its own step sets the optimiser's rate and momentum.
        counts = {"last_epoch": step - 1, "_step_count": step + 1}
        self.schedule.load_state_dict({**self.schedule.state_dict(), **counts})
        self.schedule.step()
        self.rng.bit_generator.state = json.loads(bytes(tensors["rng"].numpy()))
        self.generator.set_state(tensors["generator"])
        self.step = step


@runtime_checkable
class FinderKeeper(Protocol):
    """Keeps a finder's training, and shows how far it is."""

    def begin(self, state: FinderState) -> None:
        """Load what was kept of its round into the state, which has not made a step; or leave it as it is."""

    def after_step(self, state: FinderState) -> None:
        """Called after each step."""
