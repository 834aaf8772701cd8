"""What each kind of field implements for its subjects, and the errors for what a kind cannot do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nisf.data.region import Region
from nisf.errors import CannotFitError
from nisf.prior.exportable import Exportable
from nisf.prior.prior import Prior
from nisf.subject.answerer import Answerer
from nisf.subject.portable import Portable


@dataclass(frozen=True, eq=False, repr=False)
class Abilities(ABC):
    """The interface in which the kinds of `nisf.subject.subject.Subject` differ.

    Attributes:
        name: the case's name.
        prior: the prior that it belongs to.
    """

    name: str
    prior: Prior

    @cached_property
    @abstractmethod
    def field_answers(self) -> Answerer:
        """The field's own answers, with islands, adapted to the strokes if the kind supports it."""

    @abstractmethod
    def own_tensors(self) -> dict[str, Tensor]:
        """The tensors that its file stores."""

    def own_entries(self) -> dict[str, Any]:
        """Further entries of its file, as JSON."""
        return {}

    def signature(self, time: float) -> Float[np.ndarray, "l"] | None:  # noqa: ARG002 - kinds use it
        """A short feature vector of the whole subject at a time; None if the kind has none.

        Args:
            time: fraction of the cycle.
        """
        return None

    def drawn(self, samples: int, seed: int = 0) -> Answerer:  # noqa: ARG002 - for those that have some
        """Answers averaged over draws, with standard deviations.

        Raises:
            CannotFitError: this kind of subject has no draws.
        """
        raise CannotFitError(
            f"{self.name}: a prior of the kind '{self.prior.kind}' gives one answer and has no posterior to "
            "draw from; ask without samples",
            options=("samples",),
        )

    def single_draws(self, samples: int, seed: int = 0) -> Sequence[Answerer]:
        """The draws that `drawn` averages over, one by one.

        Raises:
            CannotFitError: this kind of subject has no draws.
        """
        return [self.drawn(samples, seed)]

    def portable(self, phases: Sequence[int], box: Region) -> Portable:  # noqa: ARG002 - for those that can
        """A form of the subject, limited to a box, that programs in other languages can query without nisf.

        Args:
            phases: indices of the measured phases to include.
            box: the part of space to include.

        Raises:
            CannotFitError: this kind of subject has no such form.
        """
        raise CannotFitError(
            f"{self.name}: a subject of the kind '{self.prior.kind}' cannot be made into a static page; "
            "give one of the kind 'image'"
        )

    def exportable(self, time: float = 0.0) -> Exportable:  # noqa: ARG002 - for those that can
        """Its own answers, with islands, as a network that other programs can run.

        Args:
            time: fraction of the cycle, for kinds whose network covers one measured phase: the nearest.

        Raises:
            CannotFitError: this kind cannot be exported.
        """
        raise CannotFitError(f"{self.name}: the kind '{self.prior.kind}' cannot be exported")
