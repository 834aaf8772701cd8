"""Ask an image-conditioned field anywhere at any time: the slices of each moment are encoded when needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nisf.data.geometry import cycle_distance
from nisf.device import place_of, rows_at_a_time
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import nearby
from nisf.networks.phase_exchange import most_different

KEPT = 4
"""Encoded moments kept at hand, or as many as an average needs; a moment of a cine takes about 15 MB."""
LEAST_SHARE = 0.02
"""Moments that count less are left out of an average over time."""
CHUNK = 2_048
"""Places at a time that keep the layers' results in the processor's cache."""


class _Recent(OrderedDict[int, Scene]):
    """Scenes by moment; the one that was not wanted for the longest goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def get_or(self, moment: int, make: Callable[[], Scene]) -> Scene:
        """The scene of a moment, made if it is not there."""
        if moment not in self:
            self[moment] = make()
            while len(self) > self.most:
                self.popitem(last=False)
        self.move_to_end(moment)
        return self[moment]


class Scenes:
    """One subject's canvases and the field that sees them.

    Args:
        field: the trained field, in evaluation mode; its weights stay as they are.
        canvases: of all the subject's slices and times.
        mirrors: number of pixel axes along which they are also seen in a mirror, 0 to 2; the features are the
            mean of 1, 2 or 4.
        both: whether slices are also counted from the other end, for anatomies whose order is not known.
    """

    def __init__(self, field: ImageField, canvases: Canvases, mirrors: int = 0, *, both: bool = True) -> None:
        self.field, self.canvases, self.mirrors, self.both = field, canvases, mirrors, both
        self.times = np.unique(canvases.times)
        # The pixel axes along which each image is flipped.
        self._flips: list[list[int]] = [[]]
        for axis in range(mirrors):
            self._flips += [[*flips, axis] for flips in self._flips]
        self.device = place_of(field)
        # One more than an average over time needs: between two moments there are two averages.
        most = 1 + max(len(self._near(moment)) for moment in range(len(self.times)))
        self._kept, self._averages = _Recent(max(KEPT, most)), _Recent(2)
        self._frozen: FrozenImageField | None = None
        self._references: dict[bytes, list[list[Tensor]]] = {}

    def at(self, moment: int) -> Scene:
        """The slices of the moment with this index in ``times``, averaged over its neighbours in time.

        Averages are of features, not of answers: as good, and the field is asked once.
        """
        return self._averages.get_or(moment, lambda: self._average(moment))

    def _average(self, moment: int) -> Scene:
        own = self._encoded(moment)
        near = [(self._encoded(other), share) for other, share in self._near(moment)]
        # Moments that are posed alike, as those of a cine, have the very same maps.
        near = [(scene, share) for scene, share in near if scene.maps is own.maps]
        if len(near) == 1:
            return own
        total = sum(share for _, share in near)
        features, latent = torch.zeros_like(own.features), torch.zeros_like(own.latent)
        for scene, share in near:
            features.add_(scene.features, alpha=share / total)
            latent.add_(scene.latent, alpha=share / total)
        return Scene(features, own.maps, latent)

    def _near(self, moment: int) -> list[tuple[int, float]]:
        """The moments that count in the average around one, and how much."""
        sigma = self.field.image.time_sigma
        away = cycle_distance(self.times, self.times[moment])
        weight = np.exp(-0.5 * (away / sigma) ** 2) if sigma else np.float64(away == 0)
        weight /= weight.sum()
        return [(int(i), float(weight[i])) for i in np.flatnonzero(weight >= LEAST_SHARE)]

    def _encoded(self, moment: int) -> Scene:
        return self._kept.get_or(moment, lambda: self._encode(moment))

    @torch.inference_mode()
    def _encode(self, moment: int) -> Scene:
        """The encoded slices of one moment; what was seen in a mirror is turned back."""
        of = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[moment]))
        images = self.canvases.images[of].to(self.device).float()
        maps = self.canvases.maps[of].to(self.device)
        maps = next((s.maps for s in self._kept.values() if torch.equal(s.maps, maps)), maps)
        features, latents = [], []
        for flips, shown in zip(self._flips, self._shown(maps), strict=True):
            mirrored = images.flip([2 + axis for axis in flips])
            seen = self.field.encode(mirrored, _flipped(maps, flips, images.shape[2]), shown)
            features.append(seen.features.flip([1 + axis for axis in flips]))
            latents.append(seen.latent)
        return Scene(torch.stack(features).mean(0), maps, torch.stack(latents).mean(0))

    def _shown(self, maps: Float[Tensor, "n 3 4"]) -> Sequence[list[Tensor] | None]:
        """What the reference moments of the slices with these maps show, in each mirror."""
        if not self.field.image.moments:
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
        """The images of the two moments that differ most among those with these slices, and their maps."""
        pose, found = maps.cpu(), []
        for time in self.times:
            of = torch.from_numpy(np.flatnonzero(self.canvases.times == time))
            if torch.equal(self.canvases.maps[of], pose):
                found.append(self.canvases.images[of])
        images = torch.stack(found)
        return images[list(most_different(images))], pose

    def shares(self, time: float) -> list[tuple[int, float]]:
        """The measured moments around a time on the cycle, and how much each counts."""
        time, count = time % 1.0, len(self.times)
        after = int(np.searchsorted(self.times, time)) % count
        before = (after - 1) % count
        for moment in (after, before):
            if count == 1 or np.isclose(self.times[moment], time):
                return [(moment, 1.0)]
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
        # The hidden layers of the nearest slices, and their features with the corners' shares.
        bytes_a_place = 4 * (image.neighbours * (3 * image.hidden + image.features + 24) + 5 * image.hidden)
        step = rows_at_a_time(self.device, memory_mb, bytes_a_place, CHUNK)
        if self._frozen is None or self._frozen.rows != step:
            self._frozen = FrozenImageField(self.field, step)
        intensity = np.zeros((len(position), config.channels), dtype=np.float32)
        probability = np.zeros((len(position), config.classes), dtype=np.float32)
        for moment in np.unique(time):
            of = np.flatnonzero(time == moment)
            scenes = [(self.at(index), share) for index, share in self.shares(float(moment))]
            for first in range(0, len(of), step):
                chosen = of[first : first + step]
                points = torch.from_numpy(position[chosen].astype(np.float32)).to(self.device)
                maps = near = None
                for scene, share in scenes:
                    if near is None or scene.maps is not maps:
                        maps = scene.maps
                        near = nearby(maps, points, scene.features.shape[1], image.neighbours)
                    values, classes = self._frozen(scene, near, both=self.both)
                    intensity[chosen] += share * torch.sigmoid(values).cpu().numpy()
                    probability[chosen] += share * torch.softmax(classes, dim=1).cpu().numpy()
        return intensity, probability


def _flipped(maps: Float[Tensor, "n 3 4"], axes: list[int], size: int) -> Float[Tensor, "n 3 4"]:
    """Maps to canvases of ``size`` pixels that are flipped along these pixel axes."""
    maps = maps.clone()
    maps[:, axes] *= -1
    maps[:, axes, 3] += size - 1
    return maps
