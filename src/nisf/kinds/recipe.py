"""What `nisf.training.train` asks of a kind of field: set up, train, validate, finish."""

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
from nisf.data.region import Region, region_from_labels, whole_region
from nisf.optimisation.loop import Validation
from nisf.optimisation.ranks import of_all, share, together
from nisf.optimisation.state import State
from nisf.prior.prior import Prior
from nisf.prior.region_search import RegionSearch


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What is trained on, and how.

    Attributes:
        cases: training subjects.
        validation: validation subjects; may be empty.
        anatomy: label names.
        config: all settings, with the sizes of the data.
        search: where cases are looked at.
        say: called with sentences for the user.
        device: where the network is trained.
        workers: processes that prepare the coming steps; None leaves it to the recipe.
    """

    cases: Sequence[Case]
    validation: Sequence[Case]
    anatomy: Anatomy
    config: Config
    search: RegionSearch
    say: Callable[[str], None]
    device: torch.device
    workers: int | None = None

    def regions(self) -> list[Region]:
        """Where each training case is looked at: from its labels, else as at test."""
        return of_all([self._region(self.cases[i]) for i in share(len(self.cases))])

    def _region(self, case: Case) -> Region:
        half = self.search.half
        if half is None:
            return whole_region(case)
        return region_from_labels(case, half, order=self.anatomy.reorder) or self.search.find(case)[0]

    def validated(self) -> list[Case]:
        """The validation cases that are looked at each time, evenly spread over all."""
        return spread(self.validation, self.config.train.validate_cases)


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, evenly spread over the list."""
    indices = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[i] for i in indices]


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
        """Take over the weights of another prior, which `Prior.accepts` the settings."""

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of a step, and its terms for the log.

        On several ranks each draws its share of the step's samples and gathers what the objective needs of
        the others'; see `nisf.optimisation.ranks`.
        """

    def descend(self, step: int) -> Mapping[str, Tensor]:
        """One step of the optimisers; the terms of the objective for the log."""
        loss, terms = self._summed(step)
        self.state.descend(loss)
        return terms

    def after_step(self) -> None:
        """Called after each optimiser step."""
        return

    @abstractmethod
    def validate(self) -> Validation | None:
        """Scores of the validation subjects, or None if there are none."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """What a prior's answers depend on as they are now, by the names of `Prior.weights`.

        Every rank has to ask, as for `validate`, which only the first rank does.
        """

    @abstractmethod
    def finish(self, last: Validation | None, card: Mapping[str, Any]) -> Prior:
        """The trained prior on the processor, with what is chosen on validation cases at the end.

        Args:
            last: the last validation.
            card: of the prior.
        """
