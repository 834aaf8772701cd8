"""Prepare the data of coming steps in other processes.

A GPU finishes a step faster than one core can draw and augment the samples of the next.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from nisf.device import usable_cores

Drawn = TypeVar("Drawn")
Setting = TypeVar("Setting")

MOST = 8
"""Maximum useful number of processes; beyond it the training step is the bottleneck."""


def workers_for(device: torch.device) -> int:
    """Number of useful processes; 0 if the cores are busy with the network itself."""
    return 0 if device.type == "cpu" else min(MOST, max(1, usable_cores() - 1))


def _as_it_is(drawn: Drawn) -> Drawn:
    return drawn


class _Steps(Dataset[Drawn], Generic[Setting, Drawn]):
    def __init__(self, draw: Callable[[int, Setting], Drawn], setting: Setting) -> None:
        self.draw, self.setting = draw, setting

    def __getitem__(self, index: int) -> Drawn:
        return self.draw(index, self.setting)


class Prefetched(Generic[Setting, Drawn]):
    """``draw`` of a step and a setting, computed in advance as long as steps are consecutive.

    What was computed in advance is thrown away when the setting changes.

    Args:
        draw: depends on its arguments only, computes on the CPU; pickled where processes are not forked.
        steps: one past the last step.
        workers: number of processes; without any, ``draw`` is called when needed.
    """

    def __init__(self, draw: Callable[[int, Setting], Drawn], steps: int, workers: int) -> None:
        self.draw, self.steps, self.workers = draw, steps, workers
        self._next: tuple[int, Setting] | None = None
        self._coming: Iterator[Drawn] = iter(())

    def __call__(self, step: int, setting: Setting) -> Drawn:
        """The result of ``draw`` for the step and the setting."""
        if not self.workers:
            return self.draw(step, setting)
        if self._next != (step, setting):
            self._coming = self._from(step, setting)
        self._next = step + 1, setting
        try:
            return next(self._coming)
        except BaseException as error:
            # The frames of the error refer to the iterator in a cycle. The garbage collector breaks the
            # queues of its processes before it ends them, and then waits 5 s for each.
            traceback.clear_frames(error.__traceback__)
            self.close()
            raise

    def close(self) -> None:
        """End the processes; a later step starts new ones."""
        self._next, self._coming = None, iter(())

    def _from(self, step: int, setting: Setting) -> Iterator[Drawn]:
        return iter(
            DataLoader(
                _Steps(self.draw, setting),
                batch_size=None,
                sampler=range(step, max(self.steps, step + 1)),
                num_workers=self.workers,
                collate_fn=_as_it_is,
                prefetch_factor=4,
            )
        )
