"""Ask an image-conditioned field anywhere at any time: the slices of each moment are encoded when needed."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.canvas import Canvases
from nisf.image_field import ImageField, Scene

KEPT = 4
"""Encoded moments kept at hand; a moment of a cine takes about 15 MB."""
CHUNK = 16_384
"""Places decoded at a time at most."""


def mirrored(
    images: Float[Tensor, "n c h w"], maps: Float[Tensor, "n 3 4"], axis: int
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 3 4"]]:
    """Canvases seen in a mirror along pixel axis 0 or 1, with the maps that lead to the same places."""
    maps = maps.clone()
    maps[:, axis] *= -1
    maps[:, axis, 3] += images.shape[2 + axis] - 1
    return images.flip(2 + axis), maps


class Scenes:
    """One subject's canvases and the field that sees them.

    Args:
        field: the trained field, in evaluation mode.
        canvases: of all the subject's slices and times.
        mirrors: number of pixel axes along which they are also seen in a mirror, 0 to 2; the mean of the
            1, 2 or 4 answers is given.
        both: whether slices are also counted from the other end, for anatomies whose order is not known.
    """

    def __init__(self, field: ImageField, canvases: Canvases, mirrors: int = 0, *, both: bool = True) -> None:
        self.field, self.canvases, self.mirrors, self.both = field, canvases, mirrors, both
        self.times = np.unique(canvases.times)
        self._kept: OrderedDict[int, list[Scene]] = OrderedDict()

    def at(self, moment: int) -> list[Scene]:
        """The encoded slices of the moment with this index in ``times``, once for every mirror image."""
        if moment not in self._kept:
            of = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[moment]))
            views = [(self.canvases.images[of].float(), self.canvases.maps[of])]
            for axis in range(self.mirrors):
                views += [mirrored(*view, axis) for view in views]
            with torch.inference_mode():
                self._kept[moment] = [self.field.encode(*view) for view in views]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(moment)
        return self._kept[moment]

    def shares(self, time: float) -> list[tuple[int, float]]:
        """The measured moments around a time on the cycle, and how much each counts."""
        time, count = time % 1.0, len(self.times)
        after = int(np.searchsorted(self.times, time)) % count
        before = (after - 1) % count
        if count == 1 or np.isclose(self.times[after], time):
            return [(after, 1.0)]
        gap = (self.times[after] - self.times[before]) % 1.0
        share = ((time - self.times[before]) % 1.0) / gap
        return [(before, 1 - share), (after, share)]

    @torch.inference_mode()
    def ask(
        self,
        position: Float[np.ndarray, "n 3"],
        time: Float[np.ndarray, "n"],
        *,
        memory_mb: float = 512.0,
    ) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
        """Intensity in [0, 1] and class probabilities.

        Args:
            position: model mm.
            time: fraction of the cycle; between measured moments the answers of both are mixed.
            memory_mb: working memory beside the result and the encoded slices, MiB.
        """
        config, image = self.field.config, self.field.image
        # Each of the nearest slices costs its features four times over and the hidden layers.
        bytes_a_place = 4 * image.neighbours * (6 * image.features + 4 * image.hidden)
        step = int(np.clip(memory_mb * 2**20 / bytes_a_place, 256, CHUNK))
        intensity = np.zeros((len(position), config.channels), dtype=np.float32)
        probability = np.zeros((len(position), config.classes), dtype=np.float32)
        for moment in np.unique(time):
            of = np.flatnonzero(time == moment)
            for index, share in self.shares(float(moment)):
                scenes = self.at(index)
                for first in range(0, len(of), step):
                    chosen = of[first : first + step]
                    points = torch.from_numpy(position[chosen].astype(np.float32))
                    for scene in scenes:
                        values, classes = self.field(scene, points, both=self.both)
                        part = share / len(scenes)
                        intensity[chosen] += part * torch.sigmoid(values).numpy()
                        probability[chosen] += part * torch.softmax(classes, dim=1).numpy()
        return intensity, probability
