"""Ranks: several processes, started by ``torchrun``, that train one prior together; one alone is one rank.

A step is the same on any number of ranks: each takes a range of its samples, everything that the objective
needs from all samples is gathered, and gradients are summed. Only the first rank writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from nisf.errors import BadSettingError

Value = TypeVar("Value")
Loss = tuple[Tensor, dict[str, Tensor]]

PATIENCE = timedelta(days=1)
"""Ranks wait this long for the first one to train a finder, validate or write; torchrun detects deaths."""


def launched() -> bool:
    """Whether torchrun or a similar launcher started this process as one of several."""
    size = os.environ.get("WORLD_SIZE", "1")
    return size.isascii() and size.isdecimal() and int(size) > 1


@contextmanager
def joined(device: torch.device) -> Generator[torch.device]:
    """Join the ranks that torchrun started; does nothing in a single process.

    Args:
        device: ``cpu``, where ranks communicate by gloo, or ``cuda``, where each rank of a machine takes one
            GPU and communicates by nccl.

    Yields:
        This rank's device.

    Raises:
        BadSettingError: there are fewer GPUs than ranks, or the ranks cannot connect.
    """
    if not launched():
        yield device
        return
    device = _own(device)
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:  # torchrun's variables are incomplete or wrong
        reason = " ".join(str(error).split())[:200]
        raise BadSettingError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the ranks cannot connect ({reason}); start them "
            "with torchrun, or unset it"
        ) from error
    try:
        yield device
        wait()  # a rank that exits takes its connections with it
    finally:
        distributed.destroy_process_group()


def leave(status: int) -> int:
    """End this process now with an exit status if it is one of several ranks; otherwise return the status.

    `DistributedDataParallel` keeps gloo's threads until the end. If one releases a tensor while Python
    shuts down, the process is killed, and a finished rank counts as failed.
    """
    if launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _own(device: torch.device) -> torch.device:
    if device.type != "cuda":
        return device
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise BadSettingError(
            f"cuda: rank {local} of this machine has no GPU of its own, there are {count}; start fewer ranks",
            options=["device"],
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def world() -> int:
    """Number of ranks; 1 for a single process."""
    return distributed.get_world_size() if _initialised() else 1


def rank() -> int:
    """Number of this rank, from 0."""
    return distributed.get_rank() if _initialised() else 0


def _initialised() -> bool:
    return distributed.is_available() and distributed.is_initialized()  # some builds of PyTorch lack it


def is_first() -> bool:
    """Whether this is the rank that writes."""
    return rank() == 0


def share(count: int) -> range:
    """The range of ``count`` items that belongs to this rank; lengths differ by at most one."""
    whole, number = world(), rank()
    return range(count * number // whole, count * (number + 1) // whole)


def refuse_idle(subjects: int, cases: int) -> None:
    """Reject more ranks than there are subjects in a step, or cases.

    Raises:
        BadSettingError: a rank would have nothing to do.
    """
    for count, what in ((subjects, "subjects in a step (train.subjects)"), (cases, "cases")):
        if count < world():
            raise BadSettingError(f"{world()} ranks, but only {count} {what}; start no more ranks than that")


def wait() -> None:
    """Wait until all ranks have arrived."""
    if world() > 1:
        distributed.barrier()


def from_first(make: Callable[[], Value]) -> Value:
    """The first rank's result, on every rank; pickled between the processes of one run."""
    if world() == 1:
        return make()
    made: list[Any] = [make() if is_first() else None]
    distributed.broadcast_object_list(made, src=0)
    return made[0]


def of_all(part: list[Value]) -> list[Value]:
    """The concatenated lists of all ranks, on every rank."""
    if world() == 1:
        return part
    parts: list[Any] = [None] * world()
    distributed.all_gather_object(parts, part)
    return [one for each in parts for one in each]


def gathered(own: Tensor) -> Tensor:
    """The rows of all ranks, in their order; gradients flow into this rank's own rows.

    If each rank backpropagates the same function of the result, the gradients of its weights sum over the
    ranks to those of a single process with all rows.

    Args:
        own: rows (n, ...); n may differ between ranks.
    """
    if world() == 1:
        return own
    lengths = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in range(world())]
    distributed.all_gather(lengths, torch.tensor([len(own)], device=own.device))
    counts = [int(length) for length in lengths]
    padded = own.detach().new_zeros(max(counts), *own.shape[1:])
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    rows = [part[:count] for part, count in zip(parts, counts, strict=True)]
    rows[rank()] = own
    return torch.cat(rows)


def summed(own: Tensor) -> Tensor:
    """The sum of all ranks' tensors, without gradients."""
    total = own.detach().clone()
    if world() > 1:
        distributed.all_reduce(total)
    return total


def counted_once(term: Tensor) -> Tensor:
    """A term that all ranks compute alike: its full value, with this rank's fraction of its gradient."""
    return term if world() == 1 else term.detach() + (term - term.detach()) / world()


class _Objective(nn.Module):
    """The objective of a step as the module that `DistributedDataParallel` wraps."""

    def __init__(self, network: nn.Module, loss: Callable[[int], Loss]) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, step: int) -> Loss:
        return self._loss(step)


def together(network: nn.Module, loss: Callable[[int], Loss]) -> Callable[[int], Loss]:
    """``loss``, such that the gradients of the network's weights are summed over all ranks.

    Args:
        network: its weights start as those of the first rank, and stay the same on all ranks.
        loss: loss of a step on this rank's samples, see `gathered`.
    """
    if world() == 1:
        return loss
    from torch.nn.parallel import DistributedDataParallel

    module = DistributedDataParallel(_Objective(network, loss))

    def call(step: int) -> Loss:
        value, terms = module(step)
        return value * world(), terms  # DistributedDataParallel averages the gradients

    return call


class Rows(nn.Embedding):
    """A vector for each of many subjects, distributed over the ranks: each rank stores a range of rows.

    ``weight`` has this rank's rows. Every rank looks up the same rows, and after the backward pass `settle`
    sends their gradients to the ranks that store them.

    Args:
        weight: all rows (n, l), of which this rank keeps its own.
        sparse: see `torch.nn.Embedding`.
    """

    def __init__(self, weight: Tensor, *, sparse: bool) -> None:
        self.range, self.count = share(len(weight)), len(weight)
        own = weight[self.range.start : self.range.stop].clone()
        super().__init__(len(own), own.shape[1], sparse=sparse, _weight=own)
        self._asked: tuple[Tensor, Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as in PyTorch
        if world() == 1:
            return super().forward(input)
        mine = ((input >= self.range.start) & (input < self.range.stop)).nonzero().flatten()
        found = super().forward(input[mine] - self.range.start)
        table = found.new_zeros(len(input), self.embedding_dim).index_copy(0, mine, found)
        asked = summed(table).requires_grad_()
        self._asked = table, asked
        return asked

    def settle(self) -> None:
        """Collect the gradients of this rank's rows from all ranks."""
        if self._asked is None:
            return
        (table, asked), self._asked = self._asked, None
        gradient = torch.zeros_like(asked) if asked.grad is None else asked.grad
        table.backward(summed(gradient) / world())  # undoes the factor in `together`

    def whole(self, own: Tensor) -> Tensor:
        """All rows of a tensor that is stored by rows, e.g. an optimiser's state; on the CPU, for a file.

        Args:
            own: this rank's rows (m, ...).
        """
        return gathered(own.detach().cpu())

    def part(self, whole: Tensor) -> Tensor:
        """The rows of this rank, from a tensor with all rows (n, ...)."""
        return whole[self.range.start : self.range.stop]
