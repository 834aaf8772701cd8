"""Use torch.compile where it works and plain PyTorch elsewhere; run networks on chunks of fixed size."""

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
"""Environment variable that tells PyTorch where to keep compiled code."""


DEFAULT = "torchinductor_"
"""Prefix of PyTorch's default folder name in the system's temporary folder."""


COMPILER_SECONDS = 60.0
"""Time limit for compiling a one-line program; a compiler that takes longer is taken to hang."""


def can_compile() -> bool:
    """Whether there is a working C++ compiler (on a GPU, Triton brings its own)."""
    if torch.cuda.is_available():
        return True
    named = os.environ.get("CXX")
    names = (named,) if named else ("c++", "g++", "clang++", "cl")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found is not None and _works(found)


@cache
def _works(compiler: str) -> bool:
    """Whether a compiler makes a short program in time; PyTorch would wait for it forever."""
    if Path(compiler).stem == "cl":
        return True
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "a.cpp"
        source.write_text("int main() { return 0; }\n", encoding="ascii")
        command = [compiler, str(source), "-o", str(Path(folder) / "a.out")]
        try:
            # No pipes: a child of a compiler wrapper could outlive it and hold them open.
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
    """End a process and all processes that it started."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def keep_compiled_code() -> Path:
    """Keep compiled code in the user's cache folder, so that later runs can reuse it.

    Compiled code is executed, and PyTorch stores pickles beside it. A folder that others own or may write to
    is therefore never used, even if it was given explicitly. If no folder can be used, the code is kept in a
    private folder that lives as long as this process. Returns the folder in use.
    """
    named = Path(os.environ.get(CACHE, ""))
    # Importing an optimiser imports the compiler, which sets its default: not a choice of the user.
    by_default = named.parent == Path(tempfile.gettempdir()) and named.name.startswith(DEFAULT)
    chosen = named.name and not by_default
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = named if chosen else Path(base) / "nisf" / "compiled"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private = is_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):  # no home folder, or it is not writable
        private = False
    if not private:
        folder = Path(tempfile.mkdtemp(prefix="nisf-compiled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[CACHE] = str(folder)
    return folder


def is_private(folder: Path) -> bool:
    """Whether a folder is ours, and no one else may write to it."""
    if not hasattr(os, "getuid"):  # Windows keeps others out of a user's folders
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def compiled(function: Callable[..., Any], say: Callable[[str], None]) -> Callable[..., Any]:
    """``function``, compiled at its first call; if that fails, plain from then on.

    Args:
        function: a module or function of tensors.
        say: called with one sentence when the plain function is used.
    """
    if not can_compile():
        say("no working C++ compiler found: training runs uncompiled, at about half the speed")
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch imports some of its parts only now, with warnings
        keep_compiled_code()
        from torch._dynamo.exc import TorchDynamoException

        # There are few shapes (see `in_parts`), and code for one shape is faster than generic code.
        fast: Callable[..., Any] | None = torch.compile(function, dynamic=False)

    def call(*arguments: Any) -> Any:
        nonlocal fast
        if fast is None:
            return function(*arguments)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's advice to its developers
                return fast(*arguments)
        except TorchDynamoException as error:
            say(f"compilation failed ({type(error).__name__}); training runs uncompiled, at half the speed")
            fast = None
            return function(*arguments)

    return call


def in_parts(
    network: Callable[..., tuple[Tensor, Tensor]],
    coordinates: Float[Tensor, "s n d"],
    latent: Float[Tensor, "s l"],
) -> tuple[Float[Tensor, "s n c"], Float[Tensor, "s n k"]]:
    """``network(coordinates, latent)`` in chunks whose results fit into the cache.

    A training step on a whole volume would stream every layer's results through main memory. All chunks have
    the same size (except the last if n is not a multiple of it), so that other volumes cause no
    recompilation. Differentiable wherever the network is.
    """
    size = training_points(len(coordinates), coordinates.device)
    if coordinates.shape[1] <= size:
        return network(coordinates, latent)
    # A view keeps strides that depend on n, and compiled code is specialised for strides too.
    pieces = (part.clone(memory_format=torch.contiguous_format) for part in coordinates.split(size, dim=1))
    parts = [network(part, latent) for part in pieces]
    intensity, classes = zip(*parts, strict=True)
    return torch.cat(intensity, dim=1), torch.cat(classes, dim=1)
