"""Follow a running fit: coarse pictures and the loss, step by step; stop it as soon as the viewer leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from queue import Empty, SimpleQueue

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from scipy.ndimage import map_coordinates

from nisf.data.case import Case
from nisf.prior.fit_step import FitStep, OnStep
from nisf.subject.subject import Subject
from nisf.view.packets import Packet
from nisf.view.worker import Step

SIZE = 96
"""Pixels along each side of a picture."""
LEAST_SECONDS = 0.15
"""Minimum time between two pictures."""
PATIENCE = 4.0
"""Pictures take at most one part in this many of the run time."""
FIRST, LAST = 0.2, 0.9
"""Progress of opening a case when its fit begins and ends."""
MEMORY_MB = 128.0


class _StoppedError(Exception):
    """The viewer has left."""


class LiveFit:
    """A fit in its own thread.

    Args:
        fit: runs the fit, and calls its argument with each step.
        case: the case to fit.
    """

    def __init__(self, fit: Callable[[OnStep], Subject], case: Case) -> None:
        self.fit, self.case = fit, case
        self._stop = threading.Event()
        self._found: SimpleQueue[Packet | Subject | BaseException] = SimpleQueue()
        self._next = 0.0

    def work(self) -> Generator[object, None, Subject]:
        """Yields packets about the fit, and returns the subject; closing it ends the fit after the next step.

        Raises:
            NisfError: the case cannot be fitted.
        """
        thread = threading.Thread(target=self._run, name="nisf-fit", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    found = self._found.get(timeout=0.05)
                except Empty:
                    yield Step.WORKED
                    continue
                if isinstance(found, Subject):
                    return found
                if isinstance(found, BaseException):
                    raise found
                yield found
        finally:
            self._stop.set()
            thread.join(timeout=5)

    def _run(self) -> None:
        try:
            self._found.put(self.fit(self._see))
        except _StoppedError:
            pass
        except BaseException as error:  # raised again in the thread that waits for the result
            self._found.put(error)

    def _see(self, step: FitStep) -> None:
        if self._stop.is_set():
            raise _StoppedError
        began = time.perf_counter()
        if began < self._next and step.done < step.most:
            return
        self._found.put(self._packet(step))
        now = time.perf_counter()
        self._next = now + max(LEAST_SECONDS, PATIENCE * (now - began))

    def _packet(self, step: FitStep) -> Packet:
        subject: Subject = step.subject()
        panels = panels_of(subject, self.case)
        fit = {
            "step": step.done,
            "most": step.most,
            "loss": round(step.loss(), 6),
            "size": SIZE,
            "panels": [name for name, _, _ in panels],
            "colours": list(subject.prior.anatomy.colours),
        }
        header = {
            "progress": f"Fitting: step {step.done} of at most {step.most}",
            "fraction": FIRST + (LAST - FIRST) * step.done / max(1, step.most),
            "fit": fit,
        }
        return Packet(header, b"".join(part.tobytes() for _, *parts in panels for part in parts))


def panels_of(
    subject: Subject, case: Case
) -> list[tuple[str, UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]]:
    """Name, intensities and classes of pictures at the first time.

    They show a measured slice, the field there, and the field on a plane across it.

    Args:
        subject: in its present state.
        case: the measured case; without a stack there are no pictures.
    """
    if not subject.stacks:
        return []
    grid, region = subject.stacks[0].grid, subject.region
    x, y = (axis / np.linalg.norm(axis) for axis in grid.affine.axes.T[:2])
    middle = grid.affine.inverse(region.centre())
    middle[2] = np.clip(np.round(middle[2]), 0, grid.shape[2] - 1)
    centre, reach = grid.affine(middle), float(region.half.max())
    along = _places(centre, x, y, reach)
    across = _places(centre, x, np.cross(x, y), reach)
    measured = _measured(case, int(middle[2]), along)
    out = [] if measured is None else [("Measured", measured, np.zeros_like(measured))]
    for name, places in (("Field", along), ("Across", across)):
        answer = subject.raw_answers.answer(places, np.zeros(len(places)), memory_mb=MEMORY_MB)
        label = np.where(answer.inside, answer.probability.argmax(1), 0)
        shade = np.round(answer.intensity[:, 0].clip(0, 1) * 255)
        out.append((name, _picture(shade), _picture(label)))
    return out


def _picture(values: Shaped[np.ndarray, "n"]) -> UInt8[np.ndarray, "h w"]:
    return values.astype(np.uint8).reshape(SIZE, SIZE)


def _places(
    centre: Float[np.ndarray, "3"], right: Float[np.ndarray, "3"], down: Float[np.ndarray, "3"], reach: float
) -> Float[np.ndarray, "n 3"]:
    """World mm of a square picture's pixels, row by row."""
    steps = np.linspace(-reach, reach, SIZE)
    rows = centre + steps[:, None, None] * down + steps[None, :, None] * right
    return rows.reshape(-1, 3)


def _measured(case: Case, position: int, places: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "h w"] | None:
    """The first frame of a measured slice at points on it; None if it was not measured."""
    found = [item for item in case.slices if (item.stack, item.position) == (0, position)]
    if not found:
        return None
    item = min(found, key=lambda item: item.time)
    pixel = item.affine.inverse(places)[:, :2].T
    shade = case.stacks[0].normalise(item.image)[..., 0]
    picture = map_coordinates(shade, pixel, order=1, mode="constant")
    return _picture(np.round(picture * 255))
