"""The images that a subject was made from, read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nisf.data.case import Case, Stack
from nisf.errors import NisfError
from nisf.io.readers import CaseFiles, open_cohort, read_case
from nisf.io.readers.itk import files_of
from nisf.outputs import among_inputs
from nisf.subject.subject import Subject


def source_case(subject: Subject, scan: Path | None = None) -> tuple[Case | None, str]:
    """Read the case that a subject was made from, without labels.

    Args:
        subject: its stacks name their source, and its summary has the hashes of the files it was made from.
        scan: present location of the images, if they have moved.

    Returns:
        The case, or None and the reason, without capital and full stop.
    """
    source = scan or (subject.stacks[0].source if subject.stacks else None)
    if source is None:
        return None, "the file does not say where the scan is"
    anatomy, recorded = subject.prior.anatomy, _recorded(subject)
    # The frames of some layouts are files of their own, beside the first one.
    places, read, part = [source] if scan else [source, source.parent], False, bool(recorded)
    for place in places:
        try:
            cases = open_cohort(place, anatomy, labels=False).cases
            own = cases if len(cases) == 1 else [files for files in cases if files.name == subject.name]
            own = [files.without_labels() for files in own[:1]]
            found = [read_case(files, anatomy) for files in own if _segmented(files, recorded)]
        except (NisfError, OSError):
            continue
        read, part = read or place == source, part and len(found) == len(own)
        if found and _alike(found[0].stacks, subject.stacks):
            return found[0], ""
    if read and part:
        return None, "the files there are only a part of the scan that was segmented"
    if read:
        return None, "the scan there is not the one that was segmented"
    return None, "the scan has moved or cannot be read"


def _recorded(subject: Subject) -> Sequence[Mapping[str, Any]]:
    """The state of the files that were segmented; empty if the subject's file does not say."""
    request = subject.summary.get("request")
    return (request.get("inputs") if isinstance(request, Mapping) else None) or ()


def _segmented(files: CaseFiles, recorded: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a case has the content that was segmented, as far as that is recorded."""
    return among_inputs(recorded, [file for path in files.paths() for file in files_of(path)])


def _alike(found: tuple[Stack, ...], wanted: tuple[Stack, ...]) -> bool:
    """Whether the first stacks have the same voxels at the same times."""
    a, b = found[0].grid, wanted[0].grid
    if a.shape != b.shape or not np.allclose(a.affine.matrix, b.affine.matrix, atol=1e-3):
        return False
    return len(a.times) == len(b.times) and bool(np.allclose(a.times, b.times, atol=1e-6))
