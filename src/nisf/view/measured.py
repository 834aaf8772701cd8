"""The pixels of the measured slices, and the description of a case for the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from nisf.correction.file import scan_mark
from nisf.data.case import Case, Stack
from nisf.errors import BadSettingError
from nisf.view.packets import Packet
from nisf.view.viewed import Viewed


def description(viewed: Viewed) -> dict[str, Any]:
    """What the page must know about a case before its first query."""
    subject, anatomy = viewed.subject, viewed.subject.prior.anatomy
    grid = subject.stacks[0].grid if subject.stacks else None
    return {
        "name": subject.name,
        "anatomy": anatomy.name,
        "labels": list(anatomy.labels),
        "colours": list(anatomy.colours),
        "views": list(anatomy.views),
        "region": {"pose": subject.region.pose.matrix.tolist(), "half": subject.region.half.tolist()},
        "times": [0.0] if grid is None else grid.times.tolist(),
        "moves": grid is not None and len(grid.times) > 1,
        "stacks": [_stack(stack, viewed.case, index) for index, stack in enumerate(subject.stacks)],
        "scan": scan_mark(subject.reference_stack),
        "missing": viewed.missing,
        "draws": bool(viewed.spreads.draws),
    }


def _stack(stack: Stack, case: Case | None, index: int) -> dict[str, Any]:
    low, high = stack.intensity_range[0]
    out = {
        "name": stack.name,
        "shape": list(stack.grid.shape),
        "affine": stack.grid.affine.matrix.tolist(),
        "times": stack.grid.times.tolist(),
        "cycle_ms": stack.cycle_ms,
        "range": [float(low), float(high)],
        "oriented": stack.oriented,
    }
    slices = [] if case is None else [item for item in case.slices if item.stack == index]
    if slices:
        out["thickness"] = float(slices[0].thickness)
        there = {(item.position, item.frame) for item in slices}
        positions, frames = stack.grid.shape[2], len(stack.grid.times)
        out["gaps"] = [[k, t] for k in range(positions) for t in range(frames) if (k, t) not in there]
    return out


def measured_frame(viewed: Viewed, stack: int, frame: int) -> Packet:
    """The slices of one stack at one frame, on the field's intensity scale (uint16, x fastest).

    Raises:
        BadSettingError: there is no such stack or frame, or the scan is not available.
    """
    if viewed.case is None:
        raise BadSettingError(viewed.missing)
    stacks = viewed.case.stacks
    if not 0 <= stack < len(stacks) or not 0 <= frame < len(stacks[stack].grid.times):
        raise BadSettingError(f"stack {stack}, frame {frame}: there is no such frame")
    shape = stacks[stack].grid.shape
    volume = np.zeros(shape[::-1], dtype="<u2")
    for item in viewed.case.slices:
        if item.stack == stack and item.frame == frame:
            scaled = stacks[stack].normalise(item.image)[..., 0]
            volume[item.position] = np.round(scaled * 65535).T
    return Packet({"shape": list(shape), "stack": stack, "frame": frame}, volume.tobytes())
