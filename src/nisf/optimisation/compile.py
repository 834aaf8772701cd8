"""torch.compile where it works, plain PyTorch where it does not; networks on parts of fixed size."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nisf.chunks import training_points

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Where PyTorch is told to keep compiled code."""


DEFAULT = "torchinductor_"
"""How the name of PyTorch's own choice begins, a folder of the system's temporary one."""


COMPILER_SECONDS = 60.0
"""Time that a compiler has for a program of one line, before it is taken for one that hangs."""


def can_compile() -> bool:
    """Whether a C++ compiler is at hand and works (on a GPU, Triton brings its own)."""
    if torch.cuda.is_available():
        return True
    named = os.environ.get("CXX")
    names = (named,) if named else ("c++", "g++", "clang++", "cl")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found is not None and _works(found)


@cache
def _works(compiler: str) -> bool:
    """Whether a compiler makes a short program in time; PyTorch would wait for it for ever."""
    if Path(compiler).stem == "cl":
        return True
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "a.cpp"
        source.write_text("int main() { return 0; }\n", encoding="ascii")
        command = [compiler, str(source), "-o", str(Path(folder) / "a.out")]
        try:
            # No pipes: a wrapper's child, which outlives it, would hold them open.
            child = subprocess.Popen(
                command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
            )
        except OSError:
            return False
        try:
            return child.wait(COMPILER_SECONDS) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def keep_compiled_code() -> Path:
    """Have compiled code kept in the user's cache folder, so that the next run starts with it.

    Compiled code is run, and PyTorch keeps pickles beside it: a folder that others own or may write to is
    not used, be it one that was named. Where none can be used, the code lives in a private folder as long as
    this process. Returns the folder in use.
    """
    named = Path(os.environ.get(CACHE, ""))
    # An optimiser imports the compiler, which names its default: nobody's choice.
    by_default = named.parent == Path(tempfile.gettempdir()) and named.name.startswith(DEFAULT)
    chosen = named.name and not by_default
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = named if chosen else Path(base) / "nisf" / "compiled"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private = is_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):  # nobody's home, or nothing can be written there
        private = False
    if not private:
        folder = Path(tempfile.mkdtemp(prefix="nisf-compiled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[CACHE] = str(folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether a folder is ours, and nobody else may write into it."""
    if not hasattr(os, "getuid"):  # Windows keeps others out of a user's folders
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def compiled(function: Callable[..., Any], say: Callable[[str], None]) -> Callable[..., Any]:
    """``function``, compiled at its first call; if that fails, the plain one from then on.

    Args:
        function: a module or function of tensors.
        say: told in one sentence when the plain one is used.
    """
    if not can_compile():
        say("no C++ compiler that works found: training runs uncompiled, at about half the speed")
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own parts, which it imports only now
        keep_compiled_code()
        from torch._dynamo.exc import TorchDynamoException

        # Shapes are few (see `in_parts`), and code for one shape is faster than code for any.
        fast: Callable[..., Any] | None = torch.compile(function, dynamic=False)

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


def in_parts(
    network: Callable[..., tuple[Tensor, Tensor]],
    coordinates: Float[Tensor, "s n d"],
    latent: Float[Tensor, "s l"],
) -> tuple[Float[Tensor, "s n c"], Float[Tensor, "s n k"]]:
    """``network(coordinates, latent)``, a cache full of points at a time.

    A training step on a whole volume would stream every layer's results through main memory. Parts have
    one size (but for the last, if n is not a multiple of it), whatever the volume: nothing is compiled again.
    Differentiable by everything that the network is.
    """
    size = training_points(len(coordinates), coordinates.device)
    if coordinates.shape[1] <= size:
        return network(coordinates, latent)
    # A view keeps strides that depend on n, and compiled code is made for strides too.
    pieces = (part.clone(memory_format=torch.contiguous_format) for part in coordinates.split(size, dim=1))
    parts = [network(part, latent) for part in pieces]
    intensity, classes = zip(*parts, strict=True)
    return torch.cat(intensity, dim=1), torch.cat(classes, dim=1)
