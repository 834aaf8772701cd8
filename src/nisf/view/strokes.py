"""Corrections in the viewer: the page sends its list of strokes, and the open case follows them.

The page implements undo and redo, and saves the list as a file; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nisf.correction.file import strokes_of, strokes_to_json
from nisf.segmentation.correct import correct
from nisf.view.library import Library
from nisf.view.packets import Packet
from nisf.view.questions import whole
from nisf.view.viewed import Viewed
from nisf.view.worker import Work


def strokes_work(library: Library, data: Mapping[str, Any]) -> Work:
    """Return the strokes of an open case; a request with ``strokes`` replaces them first.

    Raises:
        BadSettingError: the case is not open, or a stroke has an unknown class or is out of bounds.
    """
    number = whole(data, "case", 0, 10**6)
    viewed = library.viewed(number)
    if "strokes" not in data:
        return iter([answer(viewed)])
    strokes = strokes_of(data["strokes"], viewed.subject.reference_stack)
    subject = correct(viewed.subject, strokes)

    def work() -> Work:
        # Fitted by the worker's thread now, so that the next request need not wait.
        _ = subject.raw_answers
        corrected = Viewed(subject, viewed.case, viewed.missing)
        library.put(number, corrected)
        yield answer(corrected)

    return work()


def answer(viewed: Viewed) -> Packet:
    """The strokes of a case, in the format of their file."""
    return Packet({"strokes": strokes_to_json(viewed.subject.strokes)})
