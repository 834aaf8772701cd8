"""torch.compile where it works, plain PyTorch where it does not."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException


def can_compile() -> bool:
    """Whether a C++ compiler is at hand (on a GPU, Triton brings its own)."""
    return torch.cuda.is_available() or any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))


def compiled(function: Callable[..., Any], say: Callable[[str], None]) -> Callable[..., Any]:
    """``function``, compiled at its first call; if that fails, the plain one from then on.

    Args:
        function: a module or function of tensors.
        say: told in one sentence when the plain one is used.
    """
    if not can_compile():
        say("no C++ compiler found: training runs uncompiled, at about half the speed")
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own parts, which it imports only now
        fast: Callable[..., Any] | None = torch.compile(function)

    def call(*arguments: Any) -> Any:
        nonlocal fast
        if fast is None:
            return function(*arguments)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice of the compiler to its developers
                return fast(*arguments)
        except TorchDynamoException as error:
            say(f"compiling failed ({type(error).__name__}): it goes on uncompiled, at half the speed")
            fast = None
            return function(*arguments)

    return call
