"""Few slices beside the reference stack, such as long-axis planes, at the times of its frames.

Slices of one time are encoded together. A long-axis cine often has another number of frames; a time at which
only its plane was measured would be answered from this plane alone, everywhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nisf.data.case import Case, Slice
from nisf.data.geometry import cycle_distance

FARTHEST = 0.05
"""Maximum distance in time, a fraction of the cycle, from a slice to the frame at which it is used."""
ENOUGH = 0.5
"""A stack with at least this fraction of the reference stack's positions shows the anatomy by itself."""


def at_reference_times(case: Case) -> Case:
    """The case with the slices of small stacks at the nearest times of the reference stack's slices.

    Of the slices at one position, each time gets only the nearest; the others, and those farther than
    `FARTHEST`, are left out. Slices that are at these times already, and stacks that show the anatomy by
    themselves (`ENOUGH`), stay as they are.
    """
    times = np.unique([item.time for item in case.slices if item.stack == 0])
    small = _small_stacks(case)
    if all(item.stack not in small or item.time in times for item in case.slices):
        return case
    nearest: dict[tuple[int, int, int], tuple[float, Slice]] = {}
    for item in case.slices:
        away = cycle_distance(times, item.time)
        phase = int(away.argmin())
        key = item.stack, item.position, phase
        if item.stack not in small or away[phase] > FARTHEST:
            continue
        if key not in nearest or away[phase] < nearest[key][0]:
            nearest[key] = float(away[phase]), replace(item, time=float(times[phase]))
    own = [item for item in case.slices if item.stack not in small]
    return replace(case, slices=(*own, *(item for _, item in nearest.values())))


def _small_stacks(case: Case) -> set[int]:
    """Indices of the stacks that have too few positions to show the anatomy by themselves."""
    positions: dict[int, set[int]] = {}
    for item in case.slices:
        positions.setdefault(item.stack, set()).add(item.position)
    least = ENOUGH * len(positions.get(0, ()))
    return {stack for stack, found in positions.items() if stack and len(found) < least}
