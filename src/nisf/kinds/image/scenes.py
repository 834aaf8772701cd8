"""Query an image-conditioned field anywhere and at any time; the slices of a phase are encoded on demand."""

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
"""Total size up to which encoded phases are cached, in files if large; a cine's phase takes about 15 MB."""
KEPT = 4
"""Minimum number of cached phases; more if an average over time needs them."""
LEAST_WEIGHT = 0.02
"""Phases of less weight are left out of an average over time."""


Residual = Callable[[Scene, float], Scene]
"""Adds a correction to the features of a phase's slices, given the phase's scene and time."""
LeftOut = Callable[[int], Bool[np.ndarray, "n"]]


@dataclass(frozen=True, eq=False)
class _Reference:
    """The reference phases of some slices in one mirror image.

    Attributes:
        shown: the features passed to every phase, level by level.
        coarse: coarse features of each reference phase, by its index among the times; deleted once all
            mirror images are done.
        latents: latents of each reference phase (l,), likewise.
    """

    shown: list[Tensor]
    coarse: dict[int, Tensor]
    latents: dict[int, Tensor]


@dataclass(frozen=True, eq=False)
class _Kept:
    """An encoded phase, and the array with its features if that may be in a file.

    A tensor does not know the array that it was made from, and only the array can release its pages.
    """

    scene: Scene
    array: np.ndarray | None = None

    def let_go(self) -> None:
        """Release the memory pages of the features if they are in a file."""
        if self.array is not None:
            let_go(self.array)


class Scenes:
    """One subject's canvases and the field that is conditioned on them.

    Args:
        field: the trained field, in evaluation mode; its weights must not change.
        canvases: of all slices and times of the subject.
        mirrors: number of pixel axes along which slices are also mirrored, 0 to 2; the features are averaged
            over 1, 2 or 4 images.
        both: average over both directions of counting slices, for anatomies whose order is not known.
        flips: pixel axes along which each image is flipped, instead of all combinations of ``mirrors``.
        ready: number of averages over time to cache; a time between two phases needs two.
        residual: correction from a person's strokes; none if None.
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
        # One more than an average over time needs: a time between two phases needs two averages.
        most = 1 + max(len(self._near(phase)) for phase in range(len(self.times)))
        # Each further thread works at a frame of its own, next to those of the others.
        further = torch.get_num_threads() - 1
        n, _, *pixels = canvases.images.shape
        size = 4 * math.prod(pixels) * field.image.features * -(-n // len(self.times))
        most = max(KEPT, most, min(len(self.times), KEPT_BYTES // size))
        self._kept: Recent[int, _Kept] = Recent(most + further)
        self._averages: Recent[int, Scene] = Recent(ready + further)
        self._changed: Recent[int, Scene] = Recent(ready + further)
        self._references: Recent[tuple[bytes, int], _Reference] = Recent()
        self._own: Recent[bytes, Mapping[int, tuple[Tensor, Tensor]]] = Recent()
        self._maps: list[Tensor] = []
        self._lock = threading.Lock()
        self._local = threading.local()

    def at(self, phase: int) -> Scene:
        """The slices of the phase with this index in ``times``, averaged over neighbouring phases.

        Averaging features is as accurate as averaging answers, and needs only one query of the field.
        """
        return self._changed.get(phase, self._corrected) if self.residual else self._averaged(phase)

    def corrected(self, residual: Residual) -> Scenes:
        """The same slices with a residual on their features; both share the encoded slices."""
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
        own = self._encoded(phase).scene
        near = [(self._encoded(other), weight) for other, weight in self._near(phase)]
        # Phases with equal poses, as in a cine, share one maps tensor.
        near = [(kept, weight) for kept, weight in near if kept.scene.maps is own.maps]
        if len(near) == 1:
            return own
        total = sum(weight for _, weight in near)
        features, latent = torch.zeros_like(own.features), torch.zeros_like(own.latent)
        for kept, weight in near:
            features.add_(kept.scene.features, alpha=weight / total)
            latent.add_(kept.scene.latent, alpha=weight / total)
            kept.let_go()
        return Scene(features, own.maps, latent)

    def _near(self, phase: int) -> list[tuple[int, float]]:
        """The phases in the average around one phase, with their weights."""
        sigma = self.field.image.time_sigma
        away = cycle_distance(self.times, self.times[phase])
        weight = np.exp(-0.5 * (away / sigma) ** 2) if sigma else np.float64(away == 0)
        weight /= weight.sum()
        return [(int(i), float(weight[i])) for i in np.flatnonzero(weight >= LEAST_WEIGHT)]

    def _encoded(self, phase: int) -> _Kept:
        return self._kept.get(phase, self._encode)

    @torch.inference_mode()
    def _encode(self, phase: int) -> _Kept:
        """Encode the slices of one phase; mirror images are flipped back."""
        with stage("encoding"):
            index = torch.from_numpy(np.flatnonzero(self.canvases.times == self.times[phase]))
            images = self.canvases.images[index].to(self.device).float()
            maps = self._same_maps(self.canvases.maps[index].to(self.device))
            references, own = self._seen_together(maps)
            if phase in own:
                return self._aside(Scene(own[phase][0], maps, own[phase][1]))
            coarse, latents = [], []
            for flips, reference in zip(self._flips, references, strict=True):
                mirrored = images.flip([2 + axis for axis in flips])
                shown = None if reference is None else reference.shown
                found, latent, _ = self._encoder.coarse(
                    mirrored, flipped(maps, flips, images.shape[2]), shown
                )
                coarse.append(found)
                latents.append(latent.mean(0))
            return self._aside(Scene(self._joined(coarse), maps, torch.stack(latents).mean(0)))

    def _joined(self, coarse: Sequence[Tensor]) -> Float[Tensor, "n h w f"]:
        """Features averaged over the mirror images, flipped back."""
        return self._encoder.features(list(zip(coarse, self._flips, strict=True)))

    def _aside(self, scene: Scene) -> _Kept:
        """A phase for the cache; its features are in a file if those of all cached phases are large."""
        features = scene.features
        size = features.numel() * features.element_size()
        if self.device.type != "cpu" or features.dtype != torch.float32:
            return _Kept(scene)
        array = room(tuple(features.shape[::-1]), np.float32, part_of=size * (self._kept.most or 1))
        kept = _Kept(Scene(torch.from_numpy(array.T).copy_(features), scene.maps, scene.latent), array)
        kept.let_go()
        return kept

    def _same_maps(self, maps: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 3 4"]:
        """The tensor of another phase with equal maps, if there is one."""
        with self._lock:
            for known in self._maps:
                if torch.equal(known, maps):
                    return known
            self._maps.append(maps)
            return maps

    def _seen_together(
        self, maps: Float[Tensor, "n 3 4"]
    ) -> tuple[Sequence[_Reference | None], Mapping[int, tuple[Tensor, Tensor]]]:
        """For each mirror image, the reference of the slices with these maps; their features and latents."""
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
        """The reference of these slices in one mirror image: the two phases that differ most."""
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
        """The measured phases around a time of the cycle, with their weights."""
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
        """Points per chunk within ``memory_mb`` MiB of memory besides the encoded slices."""
        image = self.field.image
        # Hidden layers of the nearest slices, and their features with the weights of the corners.
        bytes_a_place = 4 * (image.neighbours * (3 * image.hidden + image.features + 24) + 5 * image.hidden)
        return rows_at_a_time(self.device, memory_mb, bytes_a_place, IMAGE_ROWS)

    def places(self, position: Float[np.ndarray, "n 3"], memory_mb: float = 512.0) -> PlacesAsked:
        """Points in model mm, to be queried at several times."""
        points = torch.from_numpy(position.astype(np.float32)).to(self.device)
        return PlacesAsked(points, self.rows(memory_mb))

    def _at_rest(self, rows: int) -> FrozenImageField:
        """The field for inference, with buffers of this thread's own for this many points."""
        frozen: FrozenImageField | None = getattr(self._local, "frozen", None)
        if frozen is None or frozen.rows < rows:
            frozen = self._local.frozen = FrozenImageField(self.field, rows)
        return frozen

    @torch.inference_mode()
    def answer(
        self, places: PlacesAsked, time: float, left_out: LeftOut | None = None
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n k"]]:
        """Intensity in [0, 1] and class probabilities of points at one time, on the field's device.

        Args:
            places: from `places`.
            time: fraction of the cycle; between two measured phases their features are interpolated.
            left_out: given a number of slices, returns which of them are used only where they are nearest.
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
        """The scenes to decode at a time, and the weights of their answers.

        Between two phases with equal poses, features are interpolated and decoded once, as for neighbouring
        phases; on hidden frames this is more accurate than interpolating answers. Phases with different maps
        have no pixels in common, so their answers are interpolated.
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
            time: fraction of the cycle; between two measured phases their features are interpolated.
            memory_mb: working memory besides the result and the encoded slices, MiB.
            left_out: given a number of slices, returns which of them are used only where they are nearest.
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
