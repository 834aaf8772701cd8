"""Ask an image-conditioned field anywhere at any time: the slices of each phase are encoded when needed."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nisf.chunks import IMAGE_ROWS, rows_at_a_time
from nisf.data.geometry import cycle_distance
from nisf.data.scratch import let_go, room
from nisf.device import module_device
from nisf.kinds.image.mirrors import flipped, flips_of
from nisf.kinds.image.places import PlacesAsked
from nisf.kinds.image.recent import Recent
from nisf.networks.canvas import Canvases
from nisf.networks.encoder_inference import FrozenEncoder
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import without_slices
from nisf.networks.phase_exchange import most_different
from nisf.stopwatch import stage

KEPT_BYTES = 300 * 2**20
"""Encoded phases are kept up to this, in files if they are many; a phase of a cine takes about 15 MB."""
KEPT = 4
"""Of them at least, or as many as an average needs."""
LEAST_WEIGHT = 0.02
"""Phases that count less are left out of an average over time."""


Residual = Callable[[Scene, float], Scene]
"""The slices of a phase with something added to their features, from the phase and its time."""
LeftOut = Callable[[int], Bool[np.ndarray, "n"]]


@dataclass(frozen=True, eq=False)
class _Reference:
    """The reference phases of some slices in one mirror.

    Attributes:
        shown: what they show to every phase, level by level.
        coarse: what the features of each are made of, by its index among the times; gone once all mirrors are
            known.
        latents: likewise (l,).
    """

    shown: list[Tensor]
    coarse: dict[int, Tensor]
    latents: dict[int, Tensor]


class Scenes:
    """One subject's canvases and the field that sees them.

    Args:
        field: the trained field, in evaluation mode; its weights stay as they are.
        canvases: of all the subject's slices and times.
        mirrors: number of pixel axes along which they are also seen in a mirror, 0 to 2; the features are the
            mean of 1, 2 or 4.
        both: whether slices are also counted from the other end, for anatomies whose order is not known.
        flips: pixel axes along which each image is flipped, instead of all that ``mirrors`` asks for.
        ready: averages over time kept at hand; between two phases there are two.
        residual: what a person's corrections add to the features; nothing if None.
    """

    def __init__(
        self,
        field: ImageField,
        canvases: Canvases,
        mirrors: int = 0,
        *,
        both: bool = True,
        flips: Sequence[Sequence[int]] | None = None,
        ready: int = 2,
        residual: Residual | None = None,
    ) -> None:
        self.residual = residual
        self.field, self.canvases, self.mirrors, self.both = field, canvases, mirrors, both
        self.times = np.unique(canvases.times)
        self._flips = flips_of(mirrors) if flips is None else [list(axes) for axes in flips]
        self.device, self._encoder = module_device(field), FrozenEncoder(field.encoder)
        # One more than an average over time needs: between two phases there are two averages.
        most = 1 + max(len(self._near(phase)) for phase in range(len(self.times)))
        # Every further thread is at a frame of its own, next to the others'.
        further = torch.get_num_threads() - 1
        n, _, *pixels = canvases.images.shape
        size = 4 * math.prod(pixels) * field.image.features * -(-n // len(self.times))
        most = max(KEPT, most, min(len(self.times), KEPT_BYTES // size))
        self._kept: Recent[int, Scene] = Recent(most + further)
        self._averages: Recent[int, Scene] = Recent(ready + further)
        self._changed: Recent[int, Scene] = Recent(ready + further)
        self._references: Recent[tuple[bytes, int], _Reference] = Recent()
        self._own: Recent[bytes, Mapping[int, tuple[Tensor, Tensor]]] = Recent()
        self._maps: list[Tensor] = []
        self._lock = threading.Lock()
        self._local = threading.local()

    def at(self, phase: int) -> Scene:
        """The slices of the phase with this index in ``times``, averaged over its neighbours in time.

        Averages are of features, not of answers: as good, and the field is asked once.
        """
        return self._changed.get(phase, self._corrected) if self.residual else self._averaged(phase)

    def corrected(self, residual: Residual) -> Scenes:
        """The same slices, encoded once for both, with a residual on their features."""
        out = copy.copy(self)
        out.residual, out._changed = residual, Recent(self._changed.most)
        return out

    def _corrected(self, phase: int) -> Scene:
        scene = self._averaged(phase)
        return scene if self.residual is None else self.residual(scene, float(self.times[phase]))

    def _averaged(self, phase: int) -> Scene:
        found = self._averages.get(phase, self._average)
        if len(self._kept) and self._averages.done() == len(self.times):
            # All averages are at hand: what they were made of is not needed any more.
            self._kept = Recent(self._kept.most)
        return found

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
            if self.device.type == "cpu":
                let_go(scene.features.numpy())
        return Scene(features, own.maps, latent)

    def _near(self, phase: int) -> list[tuple[int, float]]:
        """The phases that count in the average around one, and how much."""
        sigma = self.field.image.time_sigma
        away = cycle_distance(self.times, self.times[phase])
        weight = np.exp(-0.5 * (away / sigma) ** 2) if sigma else np.float64(away == 0)
        weight /= weight.sum()
        return [(int(i), float(weight[i])) for i in np.flatnonzero(weight >= LEAST_WEIGHT)]

    def _encoded(self, phase: int) -> Scene:
        return self._kept.get(phase, self._encode)

    @torch.inference_mode()
    def _encode(self, phase: int) -> Scene:
        """The encoded slices of one phase; what was seen in a mirror is turned back."""
        with stage("encoding"):
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[phase]))
            images = self.canvases.images[index].to(self.device).float()
            maps = self._same_maps(self.canvases.maps[index].to(self.device))
            references, own = self._seen_together(maps)
            if phase in own:
                return Scene(self._aside(own[phase][0]), maps, own[phase][1])
            coarse, latents = [], []
            for flips, reference in zip(self._flips, references, strict=True):
                mirrored = images.flip([2 + axis for axis in flips])
                shown = None if reference is None else reference.shown
                found, latent, _ = self._encoder.coarse(
                    mirrored, flipped(maps, flips, images.shape[2]), shown
                )
                coarse.append(found)
                latents.append(latent.mean(0))
            return Scene(self._aside(self._joined(coarse)), maps, torch.stack(latents).mean(0))

    def _joined(self, coarse: Sequence[Tensor]) -> Float[Tensor, "n h w f"]:
        """The mean of the features that were seen in each mirror, turned back."""
        return self._encoder.features(list(zip(coarse, self._flips, strict=True)))

    def _aside(self, features: Float[Tensor, "n h w f"]) -> Float[Tensor, "n h w f"]:
        """Features of a phase that is kept, in a file if those of all that are kept are large."""
        size = features.numel() * features.element_size()
        if self.device.type != "cpu" or features.dtype != torch.float32:
            return features
        array = room(tuple(features.shape[::-1]), np.float32, part_of=size * (self._kept.most or 1))
        kept = torch.from_numpy(array.T).copy_(features)
        let_go(array)
        return kept

    def _same_maps(self, maps: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 3 4"]:
        """The very tensor that another phase with the same maps has."""
        with self._lock:
            for known in self._maps:
                if torch.equal(known, maps):
                    return known
            self._maps.append(maps)
            return maps

    def _seen_together(
        self, maps: Float[Tensor, "n 3 4"]
    ) -> tuple[Sequence[_Reference | None], Mapping[int, tuple[Tensor, Tensor]]]:
        """The reference phases of the slices with these maps in each mirror; their features and latents."""
        if not self.field.image.phase_exchange:
            return [None] * len(self._flips), {}
        key = maps.cpu().numpy().tobytes()
        keys = [(key, mirror) for mirror in range(len(self._flips))]
        found = self._references.get_all(keys, lambda key: self._reference(maps, self._flips[key[1]]))

        def own(_: bytes) -> Mapping[int, tuple[Tensor, Tensor]]:
            means = {}
            for phase in list(found[0].coarse):
                features = self._joined([reference.coarse.pop(phase) for reference in found])
                means[phase] = features, torch.stack([one.latents[phase] for one in found]).mean(0)
            return means

        return found, self._own.get(key, own)

    def _reference(self, maps: Float[Tensor, "n 3 4"], flips: list[int]) -> _Reference:
        """The two phases that differ most among those with these slices, seen in one mirror."""
        pose, phases, found = maps.cpu(), [], []
        for phase, time in enumerate(self.times):
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == time))
            if torch.equal(self.canvases.maps[index], pose):
                phases.append(phase)
                found.append(self.canvases.images[index])
        images = torch.stack(found)
        chosen = list(most_different(images))
        flat = images[chosen].flatten(0, 1).to(self.device).float().flip([2 + axis for axis in flips])
        coarse, latents, shown = self._encoder.coarse(flat, flipped(maps, flips, flat.shape[-1]))
        own, each = [phases[i] for i in chosen], coarse.split(len(maps))
        means = [part.mean(0) for part in latents.split(len(maps))]
        return _Reference(shown, dict(zip(own, each, strict=True)), dict(zip(own, means, strict=True)))

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

    def rows(self, memory_mb: float) -> int:
        """Places that are asked at a time within ``memory_mb`` MiB beside the encoded slices."""
        image = self.field.image
        # The hidden layers of the nearest slices, and their features with the corners' weights.
        bytes_a_place = 4 * (image.neighbours * (3 * image.hidden + image.features + 24) + 5 * image.hidden)
        return rows_at_a_time(self.device, memory_mb, bytes_a_place, IMAGE_ROWS)

    def places(self, position: Float[np.ndarray, "n 3"], memory_mb: float = 512.0) -> PlacesAsked:
        """Places in model mm that are to be asked at several times."""
        points = torch.from_numpy(position.astype(np.float32)).to(self.device)
        return PlacesAsked(points, self.rows(memory_mb))

    def _at_rest(self, rows: int) -> FrozenImageField:
        """The field with buffers of this thread's own for so many places."""
        frozen: FrozenImageField | None = getattr(self._local, "frozen", None)
        if frozen is None or frozen.rows < rows:
            frozen = self._local.frozen = FrozenImageField(self.field, rows)
        return frozen

    @torch.inference_mode()
    def answer(
        self, places: PlacesAsked, time: float, left_out: LeftOut | None = None
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n k"]]:
        """Intensity in [0, 1] and class probabilities of places at one time, on the field's device.

        Args:
            places: from `places`.
            time: fraction of the cycle; between two measured phases their features are mixed.
            left_out: for a number of slices, which of them count only where they are the nearest.
        """
        mixes = self._mixed(time)
        total: list[tuple[Tensor, Tensor]] = []
        for scenes, weight in mixes:
            near = places.near(scenes[0][0], self.field.image.neighbours)
            frozen = self._at_rest(max(len(part) for part in places.parts))
            if left_out is not None:
                chosen = torch.from_numpy(left_out(len(scenes[0][0].maps))).to(self.device)
                near = [without_slices(part, chosen) for part in near]
            for i, part in enumerate(near):
                values, classes = frozen(scenes, part, both=self.both)
                values, classes = torch.sigmoid(values).mul_(weight), torch.softmax(classes, 1).mul_(weight)
                if len(total) == i:
                    total.append((values, classes))
                else:
                    total[i][0].add_(values)
                    total[i][1].add_(classes)
        return torch.cat([values for values, _ in total]), torch.cat([classes for _, classes in total])

    def _mixed(self, time: float) -> list[tuple[list[tuple[Scene, float]], float]]:
        """What is decoded at a time, and how much each answer counts.

        Between two phases that are posed alike this is the mean of their features, asked once: as over
        neighbouring phases, and nearer to a frame that was hidden than the mean of two answers is. Phases of
        other maps have no pixel in common, so that their answers are mixed.
        """
        found = [(self.at(phase), weight) for phase, weight in self.weights(time)]
        if len(found) > 1 and found[0][0].maps is found[1][0].maps:
            return [(found, 1.0)]
        return [([(scene, 1.0)], weight) for scene, weight in found]

    def ask(
        self,
        position: Float[np.ndarray, "n 3"],
        time: Float[np.ndarray, "n"],
        *,
        memory_mb: float = 512.0,
        left_out: LeftOut | None = None,
    ) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "n k"]]:
        """Intensity in [0, 1] and class probabilities.

        Args:
            position: model mm.
            time: fraction of the cycle; between two measured phases their features are mixed.
            memory_mb: working memory beside the result and the encoded slices, MiB.
            left_out: for a number of slices, which of them count only where they are the nearest.
        """
        config = self.field.config
        intensity = np.zeros((len(position), config.channels), dtype=np.float32)
        probability = np.zeros((len(position), config.classes), dtype=np.float32)
        for wanted in np.unique(time):
            asked = np.flatnonzero(time == wanted)
            places = self.places(position[asked], memory_mb)
            values, classes = self.answer(places, float(wanted), left_out)
            intensity[asked], probability[asked] = values.cpu().numpy(), classes.cpu().numpy()
        return intensity, probability
