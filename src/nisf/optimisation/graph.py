"""Capture a training step as a CUDA graph, which needs one launch per step instead of thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

WARM_UP = 3
"""Ordinary steps before the capture, in which libraries choose algorithms and optimisers make their state."""

Work = Callable[[], Mapping[str, Tensor]]


class Captured:
    """Repeats ``work``: from a captured graph on a GPU, by an ordinary call elsewhere or if capture fails.

    Every call is one step, including those before the capture. The result of a captured step is overwritten
    by the next call.

    Args:
        work: reads and writes the same tensors at each call, and never reads their values back.
        device: where it computes.
        say: called with one sentence if capture fails.
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
            self._capture()
        if self._replay is None:
            return self.work()
        self._replay()
        return self._outcome

    def _aside(self) -> Mapping[str, Tensor]:
        """One step on a side stream, which PyTorch requires before capture."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            outcome = self.work()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return outcome

    def _capture(self) -> None:
        """Capture the work without executing it; after a failure, capture is not tried again."""
        try:
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize(self.device)
            with torch.cuda.device(self.device), torch.cuda.graph(graph):
                self._outcome = self.work()
            self._replay = graph.replay
        except Exception as error:  # e.g. operations that the GPU or a library does not support
            self.possible = False
            torch.cuda.synchronize(self.device)
            self.say(
                f"steps are not captured ({type(error).__name__}: {str(error)[:200]}): they go on, slower"
            )
