"""Draws of an image-conditioned field's answer: what it would be, had other slices been measured.

Such a field gives one answer and has no posterior to draw from. A draw uses one of the mirror images only,
whose features the answer averages, and leaves out random slices wherever they are not the nearest. Close to a
measured slice the answer depends little on the others, half way between two it depends much. The spread of
the draws shows how the answer depends on the choice of slices: an ensemble over inputs, not a posterior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from nisf.kinds.image.mirrors import flips_of
from nisf.kinds.image.scenes import LeftOut, Residual, Scenes
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField

SHARE = 1 / 3
"""Fraction of the slices that a draw leaves out."""


class Draws:
    """Draws of one subject's answers.

    Args:
        field: the trained field, in evaluation mode.
        canvases: canvases of all slices and times of the subject.
        mirrors: see `nisf.kinds.image.scenes.Scenes`.
        both: likewise.
        count: number of draws.
        seed: seed of the draws.
        residual: see `nisf.kinds.image.scenes.Scenes`.
    """

    def __init__(
        self,
        field: ImageField,
        canvases: Canvases,
        mirrors: int,
        *,
        both: bool,
        count: int,
        seed: int = 0,
        residual: Residual | None = None,
    ) -> None:
        self.scenes = [
            Scenes(field, canvases, both=both, flips=[axes], residual=residual) for axes in flips_of(mirrors)
        ]
        self.left_out: Sequence[LeftOut] = [_left_out(seed, draw) for draw in range(count)]

    def one(
        self,
        draw: int,
        position: Float[np.ndarray, "n 3"],
        time: Float[np.ndarray, "n"],
        *,
        memory_mb: float = 512.0,
    ) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
        """Intensity in [0, 1] and class probabilities of one draw; the draws alternate between mirrors.

        Args:
            draw: its index.
            position: model mm.
            time: fraction of the cycle.
            memory_mb: working memory besides the result and the encoded slices, MiB.
        """
        scenes, left_out = self.scenes[draw % len(self.scenes)], self.left_out[draw]
        return scenes.ask(position, time, memory_mb=memory_mb, left_out=left_out)

    def mean(
        self, position: Float[np.ndarray, "n 3"], time: Float[np.ndarray, "n"], *, memory_mb: float = 512.0
    ) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """Mean intensity and class probabilities over the draws, and the probabilities' standard deviations.

        Args:
            position: model mm.
            time: fraction of the cycle.
            memory_mb: working memory besides the result and the encoded slices, MiB.
        """
        count = len(self.left_out)
        found = [self.one(draw, position, time, memory_mb=memory_mb) for draw in range(count)]
        classes = np.stack([probability for _, probability in found])
        return np.mean([values for values, _ in found], axis=0), classes.mean(0), classes.std(0)


def _left_out(seed: int, draw: int) -> LeftOut:
    """Which slices a draw leaves out: the same at all phases with equally many slices."""

    def choose(count: int) -> Bool[np.ndarray, "n"]:
        return np.random.default_rng([seed, draw, 22]).random(count) < SHARE

    return choose
