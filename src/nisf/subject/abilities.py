"""What each kind of field answers for itself, and what is said where a kind cannot."""

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
    """What the kinds of `nisf.subject.subject.Subject` differ in.

    Attributes:
        name: the case's name.
        prior: what it belongs to.
    """

    name: str
    prior: Prior

    @cached_property
    @abstractmethod
    def field_answers(self) -> Answerer:
        """The field's own answers, with islands and all, adapted to the strokes if the kind can do that."""

    @abstractmethod
    def own_tensors(self) -> dict[str, Tensor]:
        """The tensors that its file keeps."""

    def own_entries(self) -> dict[str, Any]:
        """What else its file keeps, as JSON takes it."""
        return {}

    def signature(self, time: float) -> Float[np.ndarray, "l"] | None:  # noqa: ARG002 - for those that have one
        """What the prior sees of the whole subject at a time, as a few numbers; None if it has none.

        Args:
            time: fraction of the cycle.
        """
        return None

    def drawn(self, samples: int, seed: int = 0) -> Answerer:  # noqa: ARG002 - for those that have some
        """Answers averaged over draws of what else they could be, with their deviations.

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
        """What answers within a box without nisf, for a program of another language.

        Args:
            phases: indices of the measured phases to take.
            box: where it is to answer.

        Raises:
            CannotFitError: this kind of subject has no such form.
        """
        raise CannotFitError(
            f"{self.name}: a subject of the kind '{self.prior.kind}' cannot be put into a page of its own; "
            "give one of the kind 'image'"
        )

    def exportable(self, time: float = 0.0) -> Exportable:  # noqa: ARG002 - for those that can
        """Its own answers, islands and all, as a network that other programs run.

        Args:
            time: fraction of the cycle, for kinds whose network answers one measured phase: the nearest.

        Raises:
            CannotFitError: this kind has none.
        """
        raise CannotFitError(f"{self.name}: the kind '{self.prior.kind}' cannot be exported")
