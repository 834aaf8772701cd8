"""Query an image-conditioned field anywhere and at any time; the slices of a phase are encoded on demand."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nisf.chunks import IMAGE_ROWS, batching, rows_at_a_time
from nisf.data.geometry import cycle_distance
from nisf.device import Arriving, module_device
from nisf.kinds.image.batches import InBatches
from nisf.kinds.image.mirrors import flips_of
from nisf.kinds.image.phases import OneByOne, Phases
from nisf.kinds.image.places import PlacesAsked
from nisf.kinds.image.recent import Recent
from nisf.networks.canvas import Canvases
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.image_inference import FrozenImageField
from nisf.networks.lookup import without_slices

KEPT_BYTES = 300 * 2**20
"""Total size up to which encoded phases are cached, in files if large; a cine's phase takes about 15 MB."""
KEPT = 4
"""Minimum number of cached phases; more if an average over time needs them."""
LEAST_WEIGHT = 0.02
"""Phases of less weight are left out of an average over time."""


Residual = Callable[[Scene, float], Scene]
"""Adds a correction to the features of a phase's slices, given the phase's scene and time."""
LeftOut = Callable[[int], Bool[np.ndarray, "n"]]


class Scenes:
    """One subject's canvases and the field that is conditioned on them.

    Args:
        field: the trained field, in evaluation mode; its weights must not change.
        canvases: canvases of all slices and times of the subject.
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
        flips = flips_of(mirrors) if flips is None else [list(axes) for axes in flips]
        self.device = module_device(field)
        # One more than an average over time needs: a time between two phases needs two averages.
        most = 1 + max(len(self._near(phase)) for phase in range(len(self.times)))
        # Each further thread works at a frame of its own, next to those of the others.
        further = torch.get_num_threads() - 1
        n, _, *pixels = canvases.images.shape
        size = 4 * math.prod(pixels) * field.image.features * -(-n // len(self.times))
        most = max(KEPT, most, min(len(self.times), KEPT_BYTES // size)) + further
        together = batching(self.device).encoding_bytes
        self._phases: Phases
        if together:
            self._phases = InBatches(field, canvases, flips, most, together)
            ready = max(ready, most)  # they stay on the device, which has room for them
        else:
            self._phases = OneByOne(field, canvases, flips, most)
        self._averages: Recent[int, Scene] = Recent(ready + further)
        self._changed: Recent[int, Scene] = Recent(ready + further)
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
        if len(self._phases) and self._averages.done() == len(self.times):
            # All averages are at hand: what they were made of is not needed any more.
            self._phases.clear()
        return found

    def _average(self, phase: int) -> Scene:
        own = self._phases.get(phase).scene
        near = [(self._phases.get(other), weight) for other, weight in self._near(phase)]
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
        weight = np.exp(-0.5 * (away / sigma) ** 2) if sigma else (away == 0).astype(np.float64)
        weight /= weight.sum()
        return [(int(i), float(weight[i])) for i in np.flatnonzero(weight >= LEAST_WEIGHT)]

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
        points = torch.from_numpy(position.astype(np.float32)).to(self.device, non_blocking=True)
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
                chosen = torch.from_numpy(left_out(len(scenes[0][0].maps)))
                chosen = chosen.to(self.device, non_blocking=True)
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
        distinct = np.unique(time)
        for wanted in distinct:
            asked = slice(None) if len(distinct) == 1 else np.flatnonzero(time == wanted)
            places = self.places(position[asked], memory_mb)
            values, classes = self.answer(places, float(wanted), left_out)
            intensity[asked], probability[asked] = Arriving(values, classes)()
        return intensity, probability
