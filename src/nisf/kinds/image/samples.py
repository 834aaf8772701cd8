"""Which samples a step of the image recipe sees: subjects in turn, a phase or two of each, one view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nisf.config.schema import AugmentConfig, Config, ImageConfig
from nisf.kinds.image.augment import Measured, Sample, alike, draw_sample
from nisf.optimisation.loop import subjects_of

ALONE = 0.1
"""Share of the samples in which a field that sees two phases together gets only one, as of a still image."""


def image_at(step: int, config: Config) -> ImageConfig:
    """The canvases of a step: coarse ones over the same field of view at first."""
    image, augment = config.image, config.augment
    if step >= augment.coarse * config.train.steps:
        return image
    side_mm = image.pixels * image.pixel_mm
    return replace(image, pixels=augment.coarse_pixels, pixel_mm=side_mm / augment.coarse_pixels)


@dataclass(frozen=True, eq=False)
class Sampler:
    """What each training step sees.

    Attributes:
        pool: of each subject, its labelled stacks phase by phase.
        config: settings.
        augment: how far to augment.
    """

    pool: Sequence[Sequence[Measured]]
    config: Config
    augment: AugmentConfig

    def __call__(self, step: int) -> list[list[Sample]]:
        """Of each subject of a step, one phase or two; depends on seed and step alone."""
        train, image, out = self.config.train, image_at(step, self.config), []
        for slot, subject in enumerate(subjects_of(step, len(self.pool), train), step * train.subjects):
            rng = np.random.default_rng([train.seed, 3, slot])
            stacks = self.pool[subject]
            stack = stacks[int(rng.integers(len(stacks)))]
            if not self.config.image.phase_exchange:
                out.append([draw_sample(stack, image, self.augment, train.points, rng)])
                continue
            # Both phases in one view: what differs is what moved, and the noise.
            others = [other for other in stacks if other is not stack and alike(stack, other)]
            chosen = [stack]
            if others and rng.random() >= ALONE:
                chosen.append(others[int(rng.integers(len(others)))])
            state = rng.bit_generator.state
            phases = []
            for number, phase in enumerate(chosen):
                rng.bit_generator.state = state
                grains = np.random.default_rng([train.seed, 5, slot, number])
                phases.append(draw_sample(phase, image, self.augment, train.points, rng, grains))
            out.append(phases)
        return out
