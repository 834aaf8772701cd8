"""Train an orienter on labelled cases that are all stored in the same orientation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from nisf.data.case import Case
from nisf.networks.finder_state import FinderKeeper, FinderState
from nisf.networks.finder_training import coarse_slices
from nisf.networks.finder_views import SIZE
from nisf.networks.orienter import Orienter, every_way
from nisf.types import Vector

BATCH = 32
"""Slices per step."""
WAYS = 3
"""Number of orientations in which a step shows each slice: the right one and random others."""
RATE = 3e-3
"""Maximum learning rate."""
TURNED = np.deg2rad(25.0)
"""Maximum rotation at which a view still counts as having the same orientation."""


def train_orienter(
    cases: Sequence[Case],
    half: Vector,
    *,
    steps: int = 1600,
    seed: int = 0,
    keeper: FinderKeeper | None = None,
) -> Orienter | None:
    """Train an orienter on cases of one orientation; None if no slice is labelled.

    It learns to tell the right orientation of a slice from others, by cross-entropy over orientations.
    Augmentation rotates the slices slightly, scales them, varies their lighting and cuts them to smaller
    fields of view (`nisf.networks.finder_views`).

    Args:
        cases: cases without labels are left out.
        half: half lengths of the region's box, mm; the grid is twice as wide as the box.
        steps: optimiser steps of `BATCH` slices each.
        seed: seed of all randomness.
        keeper: saves the training and resumes a saved one; the result is the same.
    """
    pixel_mm = 4 * float(np.max(np.asarray(half)[:2])) / SIZE
    rng = np.random.default_rng([seed, 1])
    seen = coarse_slices(cases, pixel_mm, 1, rng)
    if seen is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        orienter = Orienter(pixel_mm)
    optimiser = torch.optim.AdamW(orienter.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=max(steps, 2))
    state = FinderState(orienter, optimiser, schedule, rng, torch.Generator().manual_seed(seed), steps)
    if keeper is not None:
        keeper.begin(state)
    while state.step < steps:
        chosen = torch.from_numpy(rng.integers(len(seen.image), size=BATCH))
        ways = every_way(seen.upright(chosen, state.generator, TURNED))
        others = torch.rand(BATCH, ways.shape[1] - 1, generator=state.generator).argsort(dim=1)[:, : WAYS - 1]
        shown = torch.cat([ways[:, :1], ways[torch.arange(BATCH)[:, None], 1 + others]], dim=1)
        logits = orienter(shown.flatten(0, 1)[:, None]).view(BATCH, WAYS)
        loss = functional.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        state.step += 1
        if keeper is not None:
            keeper.after_step(state)
    return orienter.eval().requires_grad_(False)
