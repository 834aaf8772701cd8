"""Judge a segmentation without labels: predicted Dice, and a warning light with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer

from nisf.data.anatomy import Anatomy
from nisf.data.case import Case
from nisf.data.geometry import nearest_frame
from nisf.data.scratch import by_frame, let_go
from nisf.data.time_axis import same_images
from nisf.quality.judgement import Judgement, with_judgement
from nisf.quality.model import REASONS, QualityModel, from_json, with_features
from nisf.quality.sampling import FrameSample, places_of, sample_frame
from nisf.quality.signs import Signs, between_frames, of_frame
from nisf.subject.subject import Subject

STILL = "the images at the two times are the same: nothing moves"
STEADY = "the volume of the {0} is the same at all times"
"""Reasons why measures of contraction mean nothing."""


@dataclass(frozen=True, eq=False)
class Examined:
    """One examined frame.

    Attributes:
        frame: its index.
        sample: the data from which its signs were computed.
        signs: signs of the frame and of its case.
    """

    frame: int
    sample: FrameSample
    signs: Signs


def examine(subject: Subject, case: Case, frames: Sequence[int] | None = None) -> list[Examined]:
    """Compute the signs of some frames of a subject; empty if no pixel of the first stack is in its region.

    Args:
        subject: the segmented case.
        case: its intensities are used, its labels never.
        frames: indices in the reference stack; if None, the named phases or the two that differ most.
    """
    places = places_of(subject) if subject.stacks and case.slices else None
    if places is None:
        return []
    names = subject.prior.anatomy.labels[1:]
    pixel_mm = subject.stacks[0].grid.spacing[:2]
    chosen = frames_to_judge(case, subject.prior.anatomy) if frames is None else frames
    # As the finder saw it: a stack that was reoriented for the fit is reoriented here too.
    seen = case.arranged(subject.prior.way(case)) if "turned" in subject.summary else case
    doubts = subject.prior.search.doubts(seen, subject.region)
    common: Signs = {} if doubts is None else {"finder": doubts[0], "second": doubts[1]}
    samples = {frame: sample_frame(subject, case, frame, places) for frame in chosen}
    signs = {frame: of_frame(found, names, pixel_mm) for frame, found in samples.items()}
    pair = _larger_and_smaller(case, subject.prior.anatomy, signs)
    if pair is not None:
        common |= between_frames(signs[pair[0]], signs[pair[1]], names)
    return [Examined(frame, samples[frame], {**signs[frame], **common}) for frame in chosen]


def judge(
    subject: Subject, case: Case, *, labels: Integer[np.ndarray, "x y z t"] | None = None
) -> Judgement | None:
    """Judge the segmentation of a case.

    Args:
        subject: the segmented case.
        case: as measured; its labels are not used.
        labels: the segmentation on the reference stack's grid, if it is known already; it tells which frames
            of a cine to examine.

    Returns:
        The judgement, or None if the prior has no ``quality.json``.

    Raises:
        BadFileError: the prior's ``quality.json`` is damaged.
    """
    model = model_of(subject)
    if model is None:
        return None
    anatomy = subject.prior.anatomy
    frames = None if labels is None else _extremes(labels, case, anatomy)
    frames = frames_to_judge(case, anatomy) if frames is None else frames
    judgement = judgement_of(examine(subject, case, frames), model)
    stopped = _standstill(case, anatomy, frames)
    if stopped is None:
        return judgement
    return replace(judgement, light="red", reasons=(stopped, *judgement.reasons)[:REASONS])


def judged(subject: Subject, case: Case, *, labels: Integer[np.ndarray, "x y z t"] | None = None) -> Subject:
    """Judge the segmentation of a case, and add the judgement to the subject's summary.

    Of a corrected subject, the answer without its strokes is judged: the judgement by which its intervals
    widen, and which returns when the last stroke is removed. Arguments and errors as for `judge`.
    """
    own = subject.corrected(()) if subject.strokes else subject
    return with_judgement(subject, judge(own, case, labels=labels))


def model_of(subject: Subject) -> QualityModel | None:
    """The quality model of a subject's prior; None if there is none.

    Raises:
        BadFileError: the prior's ``quality.json`` is damaged.
    """
    prior = subject.prior
    if "quality" not in prior.appendices:
        return None
    where = f"{prior.source or 'the prior'}: quality.json"
    return from_json(prior.appendices["quality"], prior.anatomy.labels[1:], where)


def judgement_of(examined: Sequence[Examined], model: QualityModel) -> Judgement:
    """Judge a case from its frames: averages over them, and reasons from the most unusual one."""
    if not examined:
        nothing = dict.fromkeys(model.structures, 0.0)
        return Judgement("red", nothing, 0.0, ("no pixel of the image lies in the region of interest",))
    return model.light([with_features(e.signs, e.sample.signature, model.signature) for e in examined])


def _standstill(case: Case, anatomy: Anatomy, frames: Sequence[int]) -> str | None:
    """Why nothing contracts between the frames that should differ most; None if it may, or need not."""
    if not anatomy.phases or len(_measured(case)) < 2:
        return None
    steady = frames[0] == frames[-1]
    pair = frames_to_judge(case, anatomy) if steady else frames
    stack = [s for s in case.slices if s.stack == 0]
    first, last = ({s.position: s.image for s in stack if s.frame == t} for t in (pair[0], pair[-1]))
    if first.keys() == last.keys() and same_images((first[z], last[z]) for z in first):
        return STILL
    return STEADY.format(anatomy.phases["by"]) if steady else None


def frames_to_judge(case: Case, anatomy: Anatomy) -> list[int]:
    """Indices of the frames to examine: those of named phases, all if few, or the two that differ most."""
    named = _named(case, anatomy)
    if named is not None:
        return list(named)
    frames = _measured(case)
    if len(frames) <= 2:
        return frames
    coarse = {}
    for frame in frames:
        slices = sorted(
            (s for s in case.slices if s.stack == 0 and s.frame == frame), key=lambda s: s.position
        )
        coarse[frame] = np.concatenate([s.image[::4, ::4, 0].ravel() for s in slices]).astype(np.float64)
        let_go(slices[0].image)
    first = coarse[frames[0]]
    alike = [f for f in frames if coarse[f].shape == first.shape]
    furthest = max(alike, key=lambda f: float(np.abs(coarse[f] - first).sum()))
    return [frames[0], furthest]


def _measured(case: Case) -> list[int]:
    """Indices of the frames of the reference stack in which a slice was measured."""
    return sorted({s.frame for s in case.slices if s.stack == 0})


def _named(case: Case, anatomy: Anatomy) -> tuple[int, int] | None:
    """The measured frames nearest to the two named phases; None if these are unknown or the same."""
    times = [case.phases[name] for name in anatomy.phase_names if name in case.phases]
    frames = _measured(case)
    if len(times) != 2 or not frames:
        return None
    measured = case.stacks[0].grid.times[frames]
    first, second = (frames[nearest_frame(measured, time)] for time in times)
    return None if first == second else (first, second)


def _extremes(labels: Integer[np.ndarray, "x y z t"], case: Case, anatomy: Anatomy) -> list[int] | None:
    """The measured frames at which the structure that names phases is largest and smallest.

    Frames without it count only if it is in fewer than two; None if the anatomy does not name phases.
    """
    frames = np.array(_measured(case))
    if len(frames) <= 2:
        return frames.tolist()
    if not anatomy.phases:
        return None
    wanted = anatomy.labels.index(anatomy.phases["by"])
    size = np.array([np.count_nonzero(frame == wanted) for _, frame in by_frame(labels)])[frames]
    if np.count_nonzero(size) > 1:
        frames, size = frames[size > 0], size[size > 0]
    return [int(frames[size.argmax()]), int(frames[size.argmin()])]


def _larger_and_smaller(case: Case, anatomy: Anatomy, signs: dict[int, Signs]) -> tuple[int, int] | None:
    """The frames between which the anatomy should contract; None if it does not beat or there is only one."""
    if not anatomy.phases or len(signs) != 2:
        return None
    named = _named(case, anatomy)
    if named is not None:
        larger, smaller = named
    else:
        volume = f"volume/{anatomy.phases['by']}"
        larger, smaller = sorted(signs, key=lambda frame: -signs[frame][volume])
    return (larger, smaller) if {larger, smaller} == set(signs) else None
