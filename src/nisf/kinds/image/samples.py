"""Choose the samples of a step of the image recipe: subjects in turn, one or two phases of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nisf.config.schema import AugmentConfig, Config, ImageConfig
from nisf.kinds.image.augment import PhaseStack, Sample, alike, draw_sample
from nisf.optimisation.loop import subjects_of
from nisf.optimisation.ranks import share

ALONE = 0.1
"""Fraction of the samples with one phase only, as in still images, for fields that see two together."""


def image_at(place: float, config: Config) -> ImageConfig:
    """The canvases at a place of the schedule: coarse ones over the same field of view first, then finer."""
    image, augment = config.image, config.augment
    if place >= augment.coarse * config.train.steps:
        return image
    side_mm = image.pixels * image.pixel_mm
    return replace(image, pixels=augment.coarse_pixels, pixel_mm=side_mm / augment.coarse_pixels)


@dataclass(frozen=True, eq=False)
class Chosen:
    """The stacks chosen from one subject.

    Attributes:
        slot: number of the choice, counted over all steps.
        subject: index into the pool.
        stacks: indices of one or two of its stacks; two are phases of the same slices.
        rng: source of all further randomness.
    """

    slot: int
    subject: int
    stacks: list[int]
    rng: np.random.Generator


def choose(step: int, pool: Sequence[Sequence[PhaseStack]], config: Config) -> Iterator[Chosen]:
    """Choose one or two phases of each subject of a step; depends only on seed and step."""
    train = config.train
    for slot, subject in enumerate(subjects_of(step, len(pool), train), step * train.subjects):
        rng = np.random.default_rng([train.seed, 3, slot])
        stacks = pool[subject]
        first = int(rng.integers(len(stacks)))
        chosen = [first]
        if config.image.phase_exchange:
            others = [k for k, other in enumerate(stacks) if k != first and alike(stacks[first], other)]
            if others and rng.random() >= ALONE:
                chosen.append(others[int(rng.integers(len(others)))])
        yield Chosen(slot, subject, chosen, rng)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws the samples of each training step; they depend only on seed, step and canvases.

    Attributes:
        pool: for each subject, its labelled stacks phase by phase.
        config: all settings.
        augment: strength of the augmentation.
    """

    pool: Sequence[Sequence[PhaseStack]]
    config: Config
    augment: AugmentConfig

    def __call__(self, step: int, image: ImageConfig) -> list[list[Sample]]:
        """One or two phases of each of this rank's subjects of a step, on canvases of the given sizes."""
        train, out = self.config.train, []
        own = share(train.subjects)
        for number, one in enumerate(choose(step, self.pool, self.config)):
            if number not in own:
                continue
            # Both phases share one view: they differ only by motion and noise.
            state = one.rng.bit_generator.state
            phases = []
            for phase, stack in enumerate(one.stacks):
                one.rng.bit_generator.state = state
                grains = None
                if self.config.image.phase_exchange:
                    grains = np.random.default_rng([train.seed, 5, one.slot, phase])
                stacks = self.pool[one.subject]
                phases.append(draw_sample(stacks[stack], image, self.augment, train.points, one.rng, grains))
            out.append(phases)
        return out
