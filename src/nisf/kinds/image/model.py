"""The prior of an image-conditioned field, and its subjects: a case's slices on canvases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from nisf.chunks import batching
from nisf.config.schema import Config, FitConfig
from nisf.correction.stroke import Stroke
from nisf.data.case import Case
from nisf.data.geometry import nearest_frame
from nisf.data.region import Region, over_all_slices
from nisf.device import Arriving, one_core, require_bytes
from nisf.errors import CannotFitError
from nisf.kinds.image.companions import at_reference_times
from nisf.kinds.image.correction import fit_residual
from nisf.kinds.image.draws import Draws
from nisf.kinds.image.exportable import exportable_decoder, exportable_scene
from nisf.kinds.image.exportable_encoder import exportable_encoder
from nisf.kinds.image.phases import encoding_bytes
from nisf.kinds.image.portable import portable_field
from nisf.kinds.image.scenes import Scenes
from nisf.networks.canvas import Canvases, canvases
from nisf.networks.image_field import ImageField
from nisf.prior.exportable import Exportable
from nisf.prior.prior import FitCallback, Prior
from nisf.prior.region_search import recentred
from nisf.prior.stored import Stored
from nisf.prior.subject_record import SubjectRecord
from nisf.subject.answerer import Answerer, AskedAgain, InRegion
from nisf.subject.portable import Portable
from nisf.subject.subject import Subject
from nisf.types import PointsMm

COARSE_MM = 6.0
"""Spacing of the points that show whether a region is centred on the anatomy."""

READY_BYTES = 2**30
"""Memory for the encoded phases of a subject that answers many queries."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageSubject(Subject):
    """A subject of an `ImagePrior`.

    Attributes:
        canvases: its slices.
        ready: number of phases whose encoded slices are cached; see `nisf.kinds.image.scenes.Scenes`.
        encoded: encoded slices taken over from the same subject with other strokes.
    """

    prior: ImagePrior
    canvases: Canvases = field(kw_only=True)
    ready: int = field(default=2, kw_only=True)
    encoded: Scenes | None = field(default=None, kw_only=True)

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "encoded": None}  # encoded again where it is needed

    @cached_property
    def scenes(self) -> Scenes:
        """Its encoded slices, phase by phase, with the effect of its strokes."""
        if not self.strokes:
            return self.uncorrected
        labels = self.prior.anatomy.labels
        return self.uncorrected.corrected(fit_residual(self.uncorrected, self.strokes, labels, self.region))

    @cached_property
    def uncorrected(self) -> Scenes:
        """Its encoded slices without the effect of strokes."""
        prior, known = self.prior, self.encoded
        if known is not None and (known.field, known.canvases) == (prior.field, self.canvases):
            return known
        return Scenes(prior.field, self.canvases, prior.mirrors, both=prior.anatomy.reorder, ready=self.ready)

    @override
    def corrected(self, strokes: Sequence[Stroke]) -> ImageSubject:
        return replace(self, strokes=super().corrected(strokes).strokes, encoded=self.uncorrected)

    @override
    def noted(self, **entries: Any) -> ImageSubject:
        known = self.__dict__.get("uncorrected", self.encoded)  # keeps what is encoded already
        return replace(self, encoded=known, **entries)

    def drawn_places(self) -> PointsMm:
        """Coarsely sampled points in its structures at the first measured time: world mm (n, 3)."""
        region, grid = self.region, self.stacks[0].grid
        sides = [np.arange(-half + COARSE_MM / 2, half, COARSE_MM) for half in region.half[:2]]
        slices = grid.affine(np.stack([np.zeros(grid.shape[2])] * 2 + [np.arange(grid.shape[2])], axis=-1))
        places = np.meshgrid(*sides, region.pose(slices)[:, 2], indexing="ij")
        world = region.pose.inverse(np.stack(places, axis=-1).reshape(-1, 3))
        _, probability = self.query(world, float(grid.times[0]))
        return world[probability.argmax(axis=-1) > 0]

    @cached_property
    def field_answers(self) -> Answerer:
        prior, half, scenes = self.prior, self.region.half, self.scenes

        def inside(
            scaled: np.ndarray, time: np.ndarray, memory_mb: float
        ) -> tuple[np.ndarray, np.ndarray, None]:
            return *scenes.ask(scaled * half, time, memory_mb=memory_mb), None

        def again(scaled: np.ndarray, memory_mb: float) -> AskedAgain:
            places = scenes.places(scaled * half, memory_mb)

            def at(time: float) -> Arriving:
                return Arriving(*scenes.answer(places, time))

            return at

        return InRegion(self.region, prior.config.field, inside, again, batching(scenes.device).whole_frames)

    def _draws(self, samples: int, seed: int) -> Draws:
        prior = self.prior
        both = prior.anatomy.reorder
        return Draws(
            prior.field,
            self.canvases,
            prior.mirrors,
            both=both,
            count=samples,
            seed=seed,
            residual=self.scenes.residual,
        )

    @override
    def drawn(self, samples: int, seed: int = 0) -> Answerer:
        draws, half = self._draws(samples, seed), self.region.half

        def inside(
            scaled: np.ndarray, time: np.ndarray, memory_mb: float
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return draws.mean(scaled * half, time, memory_mb=memory_mb)

        return InRegion(self.region, self.prior.config.field, inside)

    @override
    def single_draws(self, samples: int, seed: int = 0) -> Sequence[Answerer]:
        draws, half = self._draws(samples, seed), self.region.half

        def answers_of(draw: int) -> Answerer:
            def inside(
                scaled: np.ndarray, time: np.ndarray, memory_mb: float
            ) -> tuple[np.ndarray, np.ndarray, None]:
                return *draws.one(draw, scaled * half, time, memory_mb=memory_mb), None

            return InRegion(self.region, self.prior.config.field, inside)

        return [answers_of(draw) for draw in range(samples)]

    @override
    def signature(self, time: float) -> np.ndarray:
        """The latent of the nearest measured phase."""
        phase = nearest_frame(self.scenes.times, time)
        return self.scenes.at(phase).latent.cpu().double().numpy()

    @override
    def for_many_questions(self) -> ImageSubject:
        image, phases = self.prior.config.image, len(np.unique(self.canvases.times))
        bytes_a_phase = 4 * len(self.canvases.images) / phases * image.pixels**2 * image.features
        return replace(self, ready=max(2, min(phases, int(READY_BYTES / bytes_a_phase))))

    @override
    def portable(self, phases: Sequence[int], box: Region) -> Portable:
        shift = self.region.pose(box.centre())
        return portable_field(self.prior.field, self.scenes, phases, box, shift)

    @override
    def exportable(self, time: float = 0.0) -> Exportable:
        """Its answers at the measured phase nearest to ``time``."""
        phase, prior = nearest_frame(self.scenes.times, time), self.prior
        scene, at = self.scenes.at(phase), float(self.scenes.times[phase])
        return exportable_scene(prior.field, scene, self.region, at, both=prior.anatomy.reorder)

    @override
    def own_tensors(self) -> dict[str, Tensor]:
        times = torch.from_numpy(self.canvases.times)
        return {
            "canvases.images": self.canvases.images,
            "canvases.maps": self.canvases.maps,
            "canvases.times": times,
        }


def _require_memory(case: Case, config: Config) -> None:
    """Reject a case whose slices of one time, which are encoded together, do not fit into memory.

    Raises:
        CannotFitError: they do not fit.
    """
    image, (_, each) = config.image, np.unique([item.time for item in case.slices], return_counts=True)
    together = 2 if image.phase_exchange and len(each) > 1 else 1
    slices = together * int(each.max())
    nbytes = slices * encoding_bytes(image)
    advice = "give fewer slices of a time"
    require_bytes(nbytes, f"{case.name}: encoding {slices} slices together", advice=advice, options=())


@dataclass(frozen=True, eq=False, repr=False)
class ImagePrior(Prior[ImageSubject]):
    """An encoder of slices and a field that decodes their features, trained on a population."""

    field: ImageField

    fit_options = frozenset({"islands", "enclosed", "as_stored"})

    @property
    def mirrors(self) -> int:
        """Number of pixel axes along which slices are also mirrored; 0 if files are never mirrored."""
        return self.config.image.mirrors if self.anatomy.turn else 0

    @classmethod
    def new_field(cls, config: Config) -> ImageField:
        return ImageField(config.field, config.image)

    @override
    def exportable(self) -> Exportable:
        return exportable_decoder(self.field, both=self.anatomy.reorder)

    @override
    def exportable_encoder(self) -> Exportable:
        return exportable_encoder(self.field, self.mirrors)

    @classmethod
    @override
    def own_parts(cls, stored: Stored) -> dict[str, object]:
        return {}

    @override
    def own_tensors(self) -> dict[str, Tensor]:
        return {}

    @override
    def fit_inside(
        self, case: Case, region: Region, *, config: FitConfig, seed: int, callback: FitCallback | None
    ) -> ImageSubject:
        """Encode the case. Nothing is fitted, so ``config``, ``seed`` and ``callback`` have no effect."""
        if not case.slices:
            raise CannotFitError(
                f"{case.name}: has no slices, which this prior needs; use a prior that fits points"
            )
        case = at_reference_times(case)
        _require_memory(case, self.config)
        region = over_all_slices(case, region)
        seen = canvases(case, case.slices, region, self.config.image)
        return ImageSubject(case.name, self, region, case.stacks, {"steps": 0}, canvases=seen)

    @override
    def looked_again(self, case: Case, subject: ImageSubject) -> ImageSubject:
        # Once only: encoding is cheap, and the second region is kept only if the first was off centre.
        if not case.stacks:
            return subject
        with one_core():  # bitwise the same on any number of threads, as in renderings
            drawn = subject.drawn_places()
        region = recentred(subject.region, drawn, case.stacks[0].grid.corners())
        if region is None:
            return subject
        return self.fit_inside(case, region, config=self.config.fit, seed=0, callback=None)

    @override
    def subject_of(self, record: SubjectRecord) -> ImageSubject:
        return ImageSubject(prior=self, canvases=self._canvases(record.tensors), **record.common())

    def _canvases(self, tensors: Mapping[str, Tensor]) -> Canvases:
        """Read the canvases of a file.

        Raises:
            KeyError, ValueError: they are missing, or their sizes are not the prior's.
        """
        images, maps, times = (tensors[f"canvases.{name}"] for name in ("images", "maps", "times"))
        n, side = len(images), self.config.image.pixels
        shapes = (images.shape, maps.shape, times.shape)
        if shapes != ((n, self.config.field.channels, side, side), (n, 3, 4), (n,)) or not n:
            raise ValueError(f"canvases of shapes {[tuple(shape) for shape in shapes]}")
        if not all(torch.isfinite(t).all() for t in (images, maps, times)):
            raise ValueError("canvases that are not finite")
        return Canvases(images, maps, times.numpy().astype(np.float64))

    @override
    def accepts(self, config: Config) -> bool:
        # Settings of queries may change, and exchanges between slices or phases may be added.
        image, wanted = self.config.image, config.image
        free = {"mirrors": wanted.mirrors, "time_sigma": wanted.time_sigma}
        for name in ("slice_exchange", "phase_exchange"):
            free[name] = max(getattr(image, name), getattr(wanted, name))
        return (self.config.field, replace(image, **free)) == (config.field, wanted)

    @override
    def continued(self) -> Config:
        """Its own settings, without the coarse canvases at the start of a first training."""
        return replace(self.config, augment=replace(self.config.augment, coarse=0.0))
