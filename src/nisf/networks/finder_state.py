"""The state of a finder's training, so that it can be saved and resumed."""

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
        optimiser: Adam for its weights.
        schedule: schedule of the learning rate.
        rng: chooses the slices of each step.
        generator: generator of the augmentation.
        steps: number of steps in this round of the training.
        step: steps of this round that are done.
        before: number of steps in earlier rounds.
        after: number of steps in later rounds.
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
        """Number of steps done in all rounds."""
        return self.before + self.step

    @property
    def total(self) -> int:
        """Number of steps in all rounds."""
        return self.before + self.steps + self.after

    def tensors(self) -> dict[str, Tensor]:
        """The state for `load`, including that of the random generators."""
        out = {f"finder.{name}": tensor for name, tensor in self.finder.state_dict().items()}
        for number, entries in self.optimiser.state_dict()["state"].items():
            out |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        drawn = json.dumps(self.rng.bit_generator.state).encode("ascii")
        out["rng"] = torch.frombuffer(bytearray(drawn), dtype=torch.uint8)
        counts = {"step": torch.tensor(self.step), "before": torch.tensor(self.before)}
        return {**out, "generator": self.generator.get_state(), **counts}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Return to the state that `tensors` saved.

        A state of an earlier round is ignored. A state of a later round marks this round as done; the later
        round loads the network.

        Raises:
            KeyError, ValueError, RuntimeError: the tensors are not those of such a training.
        """
        # Older checkpoints know only the first round.
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
        # The scheduler's own step sets the optimiser's rate and momentum.
        counts = {"last_epoch": step - 1, "_step_count": step + 1}
        self.schedule.load_state_dict({**self.schedule.state_dict(), **counts})
        self.schedule.step()
        self.rng.bit_generator.state = json.loads(bytes(tensors["rng"].numpy()))
        self.generator.set_state(tensors["generator"])
        self.step = step


@runtime_checkable
class FinderKeeper(Protocol):
    """Saves and restores a finder's training, and reports its progress."""

    def begin(self, state: FinderState) -> None:
        """Load the saved state of this round, if there is any, into a state without steps."""

    def after_step(self, state: FinderState) -> None:
        """Called after each step."""
