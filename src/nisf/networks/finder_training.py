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
"""Slices of a step."""
LAST = 6
"""One in so many steps belongs to the second round."""


@dataclass(frozen=True)
class Round:
    """How a round of the training is run.

    Attributes:
        rate: the largest learning rate.
        nothing: weight of a view in which there is nothing to find: a false find costs few pixels, and a
            wrong answer.
    """

    rate: float
    nothing: float


FIRST, SECOND = Round(5e-3, 3.0), Round(2e-3, 1.0)
"""The second begins where the first has learnt to refuse, and makes it surer of what is there."""


def train_finder(
    cases: Sequence[Case], *, steps: int = 2400, seed: int = 0, keeper: FinderKeeper | None = None
) -> Finder | None:
    """A finder for the labelled cases; None if no slice is labelled.

    Args:
        cases: those without labels are left out.
        steps: optimiser steps of 16 slices each, in two rounds.
        seed: of everything random.
        keeper: keeps the training, and goes on with one that was kept; the result is the same.
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
    """A round at its beginning.

    Args:
        finder: to be trained on.
        settings: of the round.
        steps: before it, of it, and after it.
        rng: chooses the slices.
        seed: of how they are shown.
    """
    before, own, after = steps
    optimiser = torch.optim.AdamW(finder.parameters(), lr=settings.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=max(own, 2))
    generator = torch.Generator().manual_seed(seed)
    return FinderState(finder, optimiser, schedule, rng, generator, own, before=before, after=after)


def train_round(
    state: FinderState, seen: CoarseSlices, settings: Round, keeper: FinderKeeper | None = None
) -> None:
    """Train a finder on, from where the round is."""
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
        # Dice beside cross-entropy: the anatomy is a few per cent of the pixels.
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
    """The wholly labelled slices of the cases on the coarse grid; None if there is none.

    Args:
        cases: labelled and others.
        pixel_mm: of the grid.
        count: how many patterns are made beside them.
        rng: makes them.
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
