"""Run SimpleITK in its own process, so that a file that crashes it does not affect others.

One process serves all files, which pays its start only once; if it dies or hangs, it is replaced.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from nisf.data.scratch import STEP, let_go, room
from nisf.errors import BadFileError

SECONDS = 60.0
"""Time limit for a header, including the start of the process on a busy machine."""
BYTES_A_SECOND = 2e6
"""Minimum rate for voxels, compressed and from a slow disk."""

_turn = threading.Lock()
_running: tuple[int, subprocess.Popen[bytes]] | None = None
"""Process ID of the starter, and the process; after a fork it belongs to the parent."""


def itk_information(path: Path) -> dict[str, Any]:
    """The header of an image, see `nisf.io.readers.itk_worker.information`.

    Raises:
        BadFileError: SimpleITK is missing, cannot read it, crashes or hangs.
    """
    with _asked(path, voxels=False, seconds=SECONDS) as (said, _):
        return said


def itk_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The voxels of an image, first axis fastest.

    Args:
        path: path of the image.
        shape: according to its header.
        dtype: likewise.

    Raises:
        BadFileError: see `itk_information`; or there are more or fewer voxels.
    """
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    with _asked(path, voxels=True, seconds=SECONDS + nbytes / BYTES_A_SECOND) as (said, answers):
        if said["nbytes"] != nbytes or said["dtype"] != dtype.name:
            raise BadFileError(f"{path}: its voxels are not what its header says; write it again")
        out = room((nbytes,), np.uint8)
        for first in range(0, nbytes, STEP):
            part = out[first : first + STEP]
            if answers.readinto(part) < len(part):  # ty: ignore[missing-attribute]
                raise _crashed(path)
            let_go(out)
    return np.ndarray(shape, dtype, buffer=out.data, order="F")


@contextmanager
def _asked(path: Path, *, voxels: bool, seconds: float) -> Generator[tuple[dict[str, Any], IO[bytes]]]:
    """Ask the process about an image; yields its reply, and the stream of the voxels.

    The process is killed if the block takes longer than ``seconds``, and ended if the block fails, because
    unread voxels would be taken for the next reply.

    Raises:
        BadFileError: there is no reply, or it is an error.
    """
    with _turn:
        process = _process(path)
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None
        alarm = threading.Timer(seconds, process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            line = b""
            with suppress(OSError):
                questions.write(json.dumps({"path": str(path), "voxels": voxels}).encode() + b"\n")
                questions.flush()
                line = answers.readline()
            if not line.endswith(b"\n"):
                raise _crashed(path)
            said = json.loads(line)
            if "error" not in said:
                yield said, answers
        except BaseException:
            _end()
            raise
        finally:
            alarm.cancel()
    if "error" in said:
        raise BadFileError(f"{path}: SimpleITK cannot read it ({said['error']}); write it again")


def _process(path: Path) -> subprocess.Popen[bytes]:
    global _running
    if find_spec("SimpleITK") is None:
        raise BadFileError(f"{path}: needs the package SimpleITK: pip install 'nisf[itk]'")
    if _running is None or _running[0] != os.getpid() or _running[1].poll() is not None:
        _end()
        worker = Path(__file__).with_name("itk_worker.py")
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-P", str(worker)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        _running = os.getpid(), process
    return _running[1]


def _crashed(path: Path) -> BadFileError:
    return BadFileError(
        f"{path}: SimpleITK crashed or hung on this file; write it again, or convert it to .nii.gz with the "
        "program that made it"
    )


@atexit.register
def _end() -> None:
    """End the process, if this process started it."""
    global _running
    if _running is not None and _running[0] == os.getpid():
        _running[1].kill()
        _running[1].communicate()
    _running = None
