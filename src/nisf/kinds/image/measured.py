"""The labelled stacks of a case that the image recipe draws from, as arrays on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from nisf.data.case import Case
from nisf.data.region import Region
from nisf.kinds.image.augment import PhaseStack, phase_stacks
from nisf.kinds.pool import Arrays, Prepared

NAME = "measured-1"
PARTS = ("images", "labels", "spacing", "middle", "z")


def measured_stacks(pixel_mm: float) -> Prepared[list[PhaseStack]]:
    """How labelled stacks are prepared from a case and stored, one array per field and stack.

    Args:
        pixel_mm: pixel size of the canvases.
    """
    return Prepared(NAME, {"pixel_mm": pixel_mm}, partial(_made, pixel_mm=pixel_mm), _kept, _taken)


def _made(case: Case, region: Region, *, pixel_mm: float) -> list[PhaseStack]:
    return phase_stacks(case, region.centre(), pixel_mm)


def _kept(stacks: Sequence[PhaseStack]) -> Arrays:
    arrays = {
        f"{part}.{number}": getattr(stack, part).numpy()
        for number, stack in enumerate(stacks)
        for part in PARTS
    }
    return arrays, {"stacks": len(stacks)}


def _taken(arrays: Mapping[str, np.ndarray], notes: Any) -> list[PhaseStack]:
    return [
        PhaseStack(*(torch.from_numpy(arrays[f"{part}.{number}"]) for part in PARTS))
        for number in range(int(notes["stacks"]))
    ]
