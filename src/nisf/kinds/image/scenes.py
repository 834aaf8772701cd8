"""Ask an image-conditioned field anywhere at any time: the slices of each phase are encoded when needed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.chunks import IMAGE_ROWS, rows_at_a_time
from nisf.data.geometry import cycle_distance
from nisf.device import module_device
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import nearby
from nisf.networks.phase_exchange import most_different
from nisf.stopwatch import stage

KEPT = 4
"""Encoded phases kept at hand, or as many as an average needs; a phase of a cine takes about 15 MB."""
LEAST_WEIGHT = 0.02
"""Phases that count less are left out of an average over time."""


class _Recent(OrderedDict[int, Scene]):
    """Scenes by phase; the one that was not wanted for the longest goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def get_or(self, phase: int, make: Callable[[], Scene]) -> Scene:
        """The scene of a phase, made if it is not there."""
        if phase not in self:
            self[phase] = make()
            while len(self) > self.most:
                self.popitem(last=False)
        self.move_to_end(phase)
        return self[phase]


class Scenes:
    """One subject's canvases and the field that sees them.

    Args:
        field: the trained field, in evaluation mode; its weights stay as they are.
        canvases: of all the subject's slices and times.
        mirrors: number of pixel axes along which they are also seen in a mirror, 0 to 2; the features are the
            mean of 1, 2 or 4.
        both: whether slices are also counted from the other end, for anatomies whose order is not known.
        ready: averages over time kept at hand; between two phases there are two.
    """

    def __init__(
        self, field: ImageField, canvases: Canvases, mirrors: int = 0, *, both: bool = True, ready: int = 2
    ) -> None:
        self.field, self.canvases, self.mirrors, self.both = field, canvases, mirrors, both
        self.times = np.unique(canvases.times)
        # The pixel axes along which each image is flipped.
        self._flips: list[list[int]] = [[]]
        for axis in range(mirrors):
            self._flips += [[*flips, axis] for flips in self._flips]
        self.device = module_device(field)
        # One more than an average over time needs: between two phases there are two averages.
        most = 1 + max(len(self._near(phase)) for phase in range(len(self.times)))
        self._kept, self._averages = _Recent(max(KEPT, most)), _Recent(ready)
        # Two threads may ask: each has buffers of its own, and one at a time encodes.
        self._own, self._encoding = threading.local(), threading.RLock()
        self._references: dict[bytes, list[list[Tensor]]] = {}

    def at(self, phase: int) -> Scene:
        """The slices of the phase with this index in ``times``, averaged over its neighbours in time.

        Averages are of features, not of answers: as good, and the field is asked once.
        """
        with self._encoding:
            return self._averages.get_or(phase, lambda: self._average(phase))

    def _average(self, phase: int) -> Scene:
        own = self._encoded(phase)
        near = [(self._encoded(other), weight) for other, weight in self._near(phase)]
        # Phases that are posed alike, as those of a cine, have the very same maps.
        near = [(scene, weight) for scene, weight in near if scene.maps is own.maps]
        if len(near) == 1:
            return own
        total = sum(weight for _, weight in near)
        features, latent = torch.zeros_like(own.features), torch.zeros_like(own.latent)
        for scene, weight in near:
            features.add_(scene.features, alpha=weight / total)
            latent.add_(scene.latent, alpha=weight / total)
        return Scene(features, own.maps, latent)

    def _near(self, phase: int) -> list[tuple[int, float]]:
        """The phases that count in the average around one, and how much."""
        sigma = self.field.image.time_sigma
        away = cycle_distance(self.times, self.times[phase])
        weight = np.exp(-0.5 * (away / sigma) ** 2) if sigma else np.float64(away == 0)
        weight /= weight.sum()
        return [(int(i), float(weight[i])) for i in np.flatnonzero(weight >= LEAST_WEIGHT)]

    def _encoded(self, phase: int) -> Scene:
        def encode() -> Scene:
            with stage("encoding"):
                return self._encode(phase)

        return self._kept.get_or(phase, encode)

    @torch.inference_mode()
    def _encode(self, phase: int) -> Scene:
        """The encoded slices of one phase; what was seen in a mirror is turned back."""
        index = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[phase]))
        images = self.canvases.images[index].to(self.device).float()
        maps = self.canvases.maps[index].to(self.device)
        maps = next((s.maps for s in self._kept.values() if torch.equal(s.maps, maps)), maps)
        features, latents = [], []
        for flips, shown in zip(self._flips, self._shown(maps), strict=True):
            mirrored = images.flip([2 + axis for axis in flips])
            seen = self.field.encode(mirrored, _flipped(maps, flips, images.shape[2]), shown)
            features.append(seen.features.flip([1 + axis for axis in flips]))
            latents.append(seen.latent)
        return Scene(torch.stack(features).mean(0), maps, torch.stack(latents).mean(0))

    def _shown(self, maps: Float[Tensor, "n 3 4"]) -> Sequence[list[Tensor] | None]:
        """What the reference phases of the slices with these maps show, in each mirror."""
        if not self.field.image.phase_exchange:
            return [None] * len(self._flips)
        key = maps.cpu().numpy().tobytes()
        if key not in self._references:
            images, pose = self._reference(maps)
            flat = images.flatten(0, 1).to(self.device).float()
            self._references[key] = [
                self.field.encoder.shown_by(
                    flat.flip([2 + axis for axis in flips]),
                    [_flipped(pose, flips, flat.shape[-1]).to(self.device)] * len(images),
                )
                for flips in self._flips
            ]
        return self._references[key]

    def _reference(
        self, maps: Float[Tensor, "n 3 4"]
    ) -> tuple[Float[Tensor, "t n c h w"], Float[Tensor, "n 3 4"]]:
        """The images of the two phases that differ most among those with these slices, and their maps."""
        pose, found = maps.cpu(), []
        for time in self.times:
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == time))
            if torch.equal(self.canvases.maps[index], pose):
                found.append(self.canvases.images[index])
        images = torch.stack(found)
        return images[list(most_different(images))], pose

    def weights(self, time: float) -> list[tuple[int, float]]:
        """The measured phases around a time on the cycle, and how much each counts."""
        time, count = time % 1.0, len(self.times)
        after = int(np.searchsorted(self.times, time)) % count
        before = (after - 1) % count
        for phase in (after, before):
            if count == 1 or np.isclose(self.times[phase], time):
                return [(phase, 1.0)]
        gap = (self.times[after] - self.times[before]) % 1.0
        way = ((time - self.times[before]) % 1.0) / gap
        return [(before, 1 - way), (after, way)]

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
            time: fraction of the cycle; between measured phases the answers of both are mixed.
            memory_mb: working memory beside the result and the encoded slices, MiB.
        """
        config, image = self.field.config, self.field.image
        # The hidden layers of the nearest slices, and their features with the corners' weights.
        bytes_a_place = 4 * (image.neighbours * (3 * image.hidden + image.features + 24) + 5 * image.hidden)
        step = rows_at_a_time(self.device, memory_mb, bytes_a_place, IMAGE_ROWS)
        frozen: FrozenImageField | None = getattr(self._own, "frozen", None)
        if frozen is None or frozen.rows != step:
            frozen = self._own.frozen = FrozenImageField(self.field, step)
        intensity = np.zeros((len(position), config.channels), dtype=np.float32)
        probability = np.zeros((len(position), config.classes), dtype=np.float32)
        for wanted in np.unique(time):
            asked = np.flatnonzero(time == wanted)
            scenes = [(self.at(phase), weight) for phase, weight in self.weights(float(wanted))]
            for first in range(0, len(asked), step):
                chosen = asked[first : first + step]
                points = torch.from_numpy(position[chosen].astype(np.float32)).to(self.device)
                maps = near = None
                for scene, weight in scenes:
                    if near is None or scene.maps is not maps:
                        maps = scene.maps
                        near = nearby(maps, points, scene.features.shape[1], image.neighbours)
                    values, classes = frozen(scene, near, both=self.both)
                    intensity[chosen] += weight * torch.sigmoid(values).cpu().numpy()
                    probability[chosen] += weight * torch.softmax(classes, dim=1).cpu().numpy()
        return intensity, probability


def _flipped(maps: Float[Tensor, "n 3 4"], axes: list[int], size: int) -> Float[Tensor, "n 3 4"]:
    """Maps to canvases of ``size`` pixels that are flipped along these pixel axes."""
    maps = maps.clone()
    maps[:, axes] *= -1
    maps[:, axes, 3] += size - 1
    return maps
