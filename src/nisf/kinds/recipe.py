"""What a kind of field implements for `nisf.training.train`: set-up, training, validation, result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nisf.config.schema import Config
from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.outline import Outline, outlines_of
from nisf.data.region import Region, whole_region
from nisf.optimisation.loop import Validation
from nisf.optimisation.ranks import of_all, share, together
from nisf.optimisation.state import State
from nisf.prior.prior import Prior
from nisf.prior.region_search import RegionSearch


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """The cases and settings of a training.

    Attributes:
        cases: training subjects.
        validation: validation subjects; may be empty.
        anatomy: label names.
        config: all settings, with the sizes of the data.
        search: finds the regions of cases.
        say: called with sentences for the user.
        device: where the network is trained.
        workers: number of processes that prepare coming steps; None leaves the choice to the recipe.
    """

    cases: Sequence[Case]
    validation: Sequence[Case]
    anatomy: Anatomy
    config: Config
    search: RegionSearch
    say: Callable[[str], None]
    device: torch.device
    workers: int | None = None

    @cached_property
    def outlines(self) -> Sequence[Outline]:
        """Of each training case."""
        return outlines_of(self.cases, order=self.anatomy.reorder)

    def regions(self) -> list[Region]:
        """Region of each training case: from its labels, or found as at test time."""
        half = self.search.half
        if half is None:
            return of_all([whole_region(self.cases[i]) for i in share(len(self.cases))])
        return of_all(
            [
                self.outlines[i].region(half) or self.search.find(self.cases[i])[0]
                for i in share(len(self.cases))
            ]
        )

    def validated(self) -> list[Case]:
        """The cases used in each validation, evenly spread over all validation cases."""
        return spread(self.validation, self.config.train.validate_cases)


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, evenly spread over the list."""
    indices = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[int(i)] for i in indices]


class Recipe(ABC):
    """How a kind of field is trained; also a `nisf.optimisation.loop.Recipe`.

    Attributes:
        state: everything that changes while training.
        cases: the training cases that are used.
    """

    state: State
    cases: Sequence[Case]

    @cached_property
    def _summed(self) -> Callable[[int], tuple[Tensor, dict[str, Tensor]]]:
        """`loss`, with gradients over the samples of all ranks."""
        return together(nn.ModuleList(self.state.trained()), self.loss)

    @abstractmethod
    def begin_with(self, start: Prior) -> None:
        """Start from the weights of another prior, whose `Prior.accepts` allows these settings."""

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of a step, and its terms for the log.

        On several ranks, each draws its part of the step's samples and gathers what the objective needs from
        the others; see `nisf.optimisation.ranks`.
        """

    def descend(self, step: int) -> Mapping[str, Tensor]:
        """Do one step of the optimisers; returns the terms of the objective for the log."""
        loss, terms = self._summed(step)
        self.state.descend(loss)
        return terms

    def after_step(self) -> None:
        """Called after each optimiser step."""
        return

    def close(self) -> None:
        """Called after the last step, also if that failed."""
        return

    @abstractmethod
    def validate(self) -> Validation | None:
        """Scores of the validation subjects, or None if there are none."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The present values of all tensors that a prior's answers depend on, named as in `Prior.weights`.

        Every rank must call this, whereas only the first rank calls `validate`.
        """

    @abstractmethod
    def finish(self, last: Validation | None, card: Mapping[str, Any]) -> Prior:
        """The trained prior on the CPU, after the final choices on validation cases.

        Args:
            last: result of the last validation.
            card: card of the prior.
        """
