"""Train a finder on labelled cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from nisf.data.case import UNKNOWN, Case
from nisf.networks.finder import SIZE, Finder, coarse_case, coarse_slice
from nisf.networks.finder_state import FinderKeeper, FinderState
from nisf.networks.finder_views import PATTERNS, CoarseSlices, patterns

BATCH = 16
"""Slices per step."""
LAST = 6
"""One in this many steps belongs to the second round."""


@dataclass(frozen=True)
class Round:
    """Settings of one round of the training.

    Attributes:
        rate: maximum learning rate.
        nothing: loss weight of views without the anatomy: a false positive there covers few pixels, yet
            gives a wrong answer.
    """

    rate: float
    nothing: float


FIRST, SECOND = Round(5e-3, 3.0), Round(2e-3, 1.0)
"""The second round starts from a finder that rejects other images, and makes it surer of the anatomy."""


def train_finder(
    cases: Sequence[Case], *, steps: int = 2400, seed: int = 0, keeper: FinderKeeper | None = None
) -> Finder | None:
    """Train a finder on the labelled cases; None if no slice is labelled.

    Args:
        cases: cases without labels are left out.
        steps: optimiser steps of 16 slices each, in two rounds.
        seed: seed of all randomness.
        keeper: saves the training and resumes a saved one; the result is the same.
    """
    fields_mm = [
        float(max(np.array(s.image.shape[:2]) * s.affine.spacing[:2]))
        for c in cases
        for s in c.labelled()[:1]
    ]
    if not fields_mm:
        return None
    pixel_mm = float(np.max(fields_mm)) / SIZE
    rng = np.random.default_rng([seed, 1])
    seen = coarse_slices(cases, pixel_mm, min(PATTERNS, BATCH * steps + 1), rng)
    if seen is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        finder = Finder(pixel_mm)
    last = steps // LAST
    first = _begin(finder, FIRST, (0, steps - last, last), rng, seed)
    train_round(first, seen, FIRST, keeper)
    second = _begin(finder, SECOND, (steps - last, last, 0), np.random.default_rng([seed, 2]), seed + 1)
    train_round(second, seen, SECOND, keeper)
    return finder.eval().requires_grad_(False)


def _begin(
    finder: Finder, settings: Round, steps: tuple[int, int, int], rng: np.random.Generator, seed: int
) -> FinderState:
    """The initial state of a round.

    Args:
        finder: the network to train further.
        settings: settings of the round.
        steps: number of steps before, in and after the round.
        rng: chooses the slices.
        seed: seed of the augmentation.
    """
    before, own, after = steps
    optimiser = torch.optim.AdamW(finder.parameters(), lr=settings.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=max(own, 2))
    generator = torch.Generator().manual_seed(seed)
    return FinderState(finder, optimiser, schedule, rng, generator, own, before=before, after=after)


def train_round(
    state: FinderState, seen: CoarseSlices, settings: Round, keeper: FinderKeeper | None = None
) -> None:
    """Continue the training of a finder from the state of its round."""
    if keeper is not None:
        keeper.begin(state)
    while state.step < state.steps:
        chosen = torch.from_numpy(state.rng.integers(len(seen.image), size=BATCH))
        image, target = seen.views(chosen, state.generator)
        logits = state.finder(image[:, None])
        target = functional.avg_pool2d(target, 2)
        probability = torch.sigmoid(logits)
        overlap = (2 * (probability * target).sum() + 1) / ((probability + target).sum() + 1)
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
        weight = torch.where(target.sum((1, 2)) > 0, 1.0, settings.nothing)
        # Dice loss besides cross-entropy, because the anatomy covers only a few per cent of the pixels.
        loss = (weight * entropy).mean() + 1 - overlap
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.schedule.step()
        state.step += 1
        if keeper is not None:
            keeper.after_step(state)


def coarse_slices(
    cases: Sequence[Case], pixel_mm: float, count: int, rng: np.random.Generator
) -> CoarseSlices | None:
    """The completely labelled slices of the cases on the coarse grid; None if there are none.

    Args:
        cases: labelled and unlabelled cases.
        pixel_mm: pixel size of the grid.
        count: number of patterns to add.
        rng: generates the patterns.
    """
    images, targets, extents, measured, numbers = [], [], [], [], []
    for case in cases:
        found = []
        slices, coarse = coarse_case(case, pixel_mm)
        for item, image in zip(slices, coarse, strict=True):
            if item.label is not None and (item.label != UNKNOWN).all():
                found.append((image, coarse_slice(item, (item.label > 0).astype(np.float32), pixel_mm)))
                first = item
        if found:
            images += [image for image, _ in found]
            targets += [target for _, target in found]
            numbers += [len(extents)] * len(found)
            extents.append((np.max([target for _, target in found], axis=0) > 0.5).astype(np.float32))
            filled = np.ones(first.image.shape[:2], dtype=np.float32)
            measured.append(coarse_slice(first, filled, pixel_mm, order=0))
    if not images:
        return None
    parts = (images, targets, extents, measured)
    tensors = [torch.from_numpy(np.stack(part).astype(np.float32)) for part in parts]
    return CoarseSlices(*tensors, torch.tensor(numbers), torch.from_numpy(patterns(count, rng)))
