"""Choose the frames of a segmentation that are written as separate files, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Integer

from nisf.data.anatomy import Anatomy
from nisf.data.geometry import nearest_frame
from nisf.data.wording import counted
from nisf.errors import BadFileError, BadSettingError


def frames_by_name(
    name: str,
    label: np.ndarray,
    times: np.ndarray,
    anatomy: Anatomy,
    phases: Mapping[str, float],
    wish: str = "auto",
    option: str = "dicom_seg",
) -> dict[str, int]:
    """The frames to write, by the suffix that is added to the case's name.

    Args:
        name: name of the case.
        label: class of each voxel (x, y, z, t).
        times: times of the frames, as fractions of the cycle.
        anatomy: anatomy of the classes.
        phases: the case's named phases.
        wish: ``auto``: the named phases, else those of largest and smallest volume, else all; ``all``; or
            names and frame numbers from 0, separated by commas.
        option: name of the option with the wish, for messages.

    Raises:
        BadSettingError: there is no such frame or phase.
        BadFileError: the structure that defines the phases is in no frame.
    """
    count = label.shape[-1]
    words = _words(wish)
    numbered = all(map(_is_number, words))
    if count == 1 and wish in ("auto", "all"):
        return {"": 0}
    if wish == "all":
        return {_numbered(frame): frame for frame in range(count)}
    named = {} if numbered else _named(name, label, times, anatomy, phases, option)
    if wish == "auto":
        return named or {_numbered(frame): frame for frame in range(count)}
    out: dict[str, int] = {}
    for word in words:
        if word in named:
            out[word] = named[word]
        elif _is_number(word) and int(word) < count:
            out[_numbered(int(word))] = int(word)
        else:
            raise _no_phase(name, word, count, named, option)
    return out


def check_wish(
    name: str, count: int, anatomy: Anatomy, phases: Mapping[str, float], wish: str, option: str
) -> None:
    """Check before any fit whether `frames_by_name` will find the wish.

    Args:
        name: name of the case.
        count: number of frames.
        anatomy: anatomy of the classes.
        phases: the case's named phases.
        wish: as for `frames_by_name`.
        option: name of the option with the wish, for messages.

    Raises:
        BadSettingError: there is no such phase or frame.
    """
    known = list(phases) or (anatomy.phase_names if count > 1 else ())
    for word in () if wish in ("auto", "all") else _words(wish):
        if word not in known and not (_is_number(word) and int(word) < count):
            raise _no_phase(name, word, count, known, option)


def _words(wish: str) -> list[str]:
    return [word.strip() for word in wish.split(",")]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


def _no_phase(name: str, word: str, count: int, known: Iterable[str], option: str) -> BadSettingError:
    named = "".join(f"{phase}, " for phase in known)
    return BadSettingError(
        f"{name}: no phase {word!r} among its {counted(count, 'frame')}; give auto, all, or {named}0 to "
        f"{count - 1}, with commas",
        options=[option],
    )


def phases_by_volume(label: Integer[np.ndarray, "x y z t"], anatomy: Anatomy) -> dict[str, int]:
    """The frames of largest and smallest volume of the structure that defines the phases, by phase.

    Empty if the anatomy has no such structure or does not name the phases.

    Raises:
        ValueError: the structure is in fewer than two frames.
    """
    rule = anatomy.phases
    if rule is None or rule["by"] not in anatomy.labels[1:] or len(anatomy.phase_names) < 2:
        return {}
    sizes = np.count_nonzero(label == anatomy.labels.index(rule["by"]), axis=(0, 1, 2))
    drawn = np.flatnonzero(sizes)
    if len(drawn) < 2:
        raise ValueError(f"{rule['by']} is in {counted(len(drawn), 'frame')}")
    largest, smallest = drawn[sizes[drawn].argmax()], drawn[sizes[drawn].argmin()]
    return {rule["largest"]: int(largest), rule["smallest"]: int(smallest)}


def _numbered(frame: int) -> str:
    return f"frame{frame:02d}"


def _named(
    name: str,
    label: np.ndarray,
    times: np.ndarray,
    anatomy: Anatomy,
    phases: Mapping[str, float],
    option: str,
) -> dict[str, int]:
    """The case's named phases; else those that the anatomy defines by a volume; else none."""
    if phases:
        return {phase: nearest_frame(times, time) for phase, time in phases.items()}
    if anatomy.phases is None or label.shape[-1] < 2:
        return {}
    try:
        return phases_by_volume(label, anatomy)
    except ValueError as error:
        raise BadFileError(
            f"{name}: {error}, so its phases are unknown; give frame numbers", options=[option]
        ) from error
