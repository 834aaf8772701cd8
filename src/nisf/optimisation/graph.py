"""A training step recorded as a CUDA graph: a GPU that is fed by one call a step, not by thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP = 3
"""Steps done as usual before one is recorded: libraries choose their ways and optimisers make their state."""

Work = Callable[[], Mapping[str, Tensor]]


class Recorded:
    """Repeats ``work``: on a GPU from a recording, elsewhere and where recording fails as it stands.

    Every call is one step, also those before the recording. What is returned by a recording is overwritten by
    the next call.

    Args:
        work: reads and writes the same tensors at each call, and asks for none of their values.
        device: where it computes.
        say: told in one sentence when recording fails.
    """

    def __init__(self, work: Work, device: torch.device, say: Callable[[str], None]) -> None:
        self.work, self.device, self.say = work, device, say
        self.calls = 0
        self.possible = device.type == "cuda"
        self._replay: Callable[[], None] | None = None
        self._outcome: Mapping[str, Tensor] = {}

    def __call__(self) -> Mapping[str, Tensor]:
        """One step."""
        self.calls += 1
        if not self.possible:
            return self.work()
        if self._replay is None and self.calls <= WARM_UP:
            return self._aside()
        if self._replay is None:
            self._record()
        if self._replay is None:
            return self.work()
        self._replay()
        return self._outcome

    def _aside(self) -> Mapping[str, Tensor]:
        """A step on another stream, as PyTorch asks for before recording."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            outcome = self.work()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return outcome

    def _record(self) -> None:
        """Record the work, which is not done by this; on failure nothing is possible any more."""
        try:
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize(self.device)
            with torch.cuda.device(self.device), torch.cuda.graph(graph):
                self._outcome = self.work()
            self._replay = graph.replay
        except Exception as error:  # whatever the card or a library lacks
            self.possible = False
            torch.cuda.synchronize(self.device)
            self.say(
                f"steps are not recorded ({type(error).__name__}: {str(error)[:200]}): they go on, slower"
            )
