"""Propagate strokes: a small residual on the features of one subject.

The residual of a pixel is a weighted sum over anchors, which are points on the strokes. The weight of an
anchor is a Wendland function of its distance, which vanishes beyond a radius, times Gaussians of the
differences in time and in the encoder's features. This is a Gaussian process prior on the change of the
features (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2). A few steps of
L-BFGS fit the coefficients so that the strokes are followed and the answer at random points around them stays
as it was. Beyond the radius, features remain bitwise unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from nisf.correction.minimise import minimise
from nisf.correction.stroke import Stroke
from nisf.correction.targets import Targets, misfit, targets_of
from nisf.data.geometry import nearest_frame
from nisf.data.region import Region
from nisf.kinds.image.scenes import Scenes
from nisf.networks.image_field import Scene
from nisf.networks.lookup import Nearby, corners_of, interpolate, nearby
from nisf.stopwatch import stage

REACH_MM, REACH = 40.0, 0.53
"""Distance at which the weight of an anchor vanishes, and its maximum as a fraction of half the longest side
of the region, for structures smaller than a heart."""
ALIKE = 0.7
"""Root mean square difference of features, in standard deviations, at which the weight is exp(-1/2)."""
TIME = 0.3
"""Difference in time, as a fraction of the cycle, at which the weight is exp(-1/2)."""
SMALL = 1e-2
"""Weight of the penalty on squared coefficients, which keeps the residual small."""
AS_BEFORE, AROUND = 1.0, 600
"""Weight of the term that keeps the previous answer, and the number of points at which it is evaluated."""
STEPS = 20
"""Maximum number of L-BFGS steps."""
ANCHOR_MM, MOST_ANCHORS = 3.0, 400
"""Spacing of the anchors along a stroke, and their maximum number."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of encoded slices, or points between pixels.

    Attributes:
        place: model mm (q, 3).
        features: in standard deviations (q, f).
        time: time of each pixel, fraction of the cycle (q,).
    """

    place: Float[Tensor, "q 3"]
    features: Float[Tensor, "q f"]
    time: Float[Tensor, "q"]


def reach_in(region: Region) -> float:
    """Distance at which the weight of an anchor vanishes in a region, mm."""
    return min(REACH_MM, REACH * float(region.half.max()))


def likeness(pixels: Pixels, anchors: Pixels, reach_mm: float) -> Float[Tensor, "q m"]:
    """Weight of each anchor for each pixel, in [0, 1]: a positive definite kernel, 0 from ``reach_mm`` on."""
    way = (torch.cdist(pixels.place, anchors.place, compute_mode=EXACT) / reach_mm).clamp_max(1.0)
    apart = torch.cdist(pixels.features, anchors.features).square()
    apart = apart / (anchors.features.shape[1] * ALIKE**2)
    later = (pixels.time[:, None] - anchors.time + 0.5) % 1.0 - 0.5
    return (1 - way) ** 4 * (4 * way + 1) * torch.exp(-0.5 * (apart + (later / TIME).square()))


EXACT = "donot_use_mm_for_euclid_dist"
"""`torch.cdist` by differences: matrix products would blur the radius by their rounding."""


def pixel_places(maps: Float[Tensor, "n 3 4"], size: int) -> Float[Tensor, "n h w 3"]:
    """Position of every pixel of canvases with ``size`` pixels a side, model mm."""
    inverse = torch.linalg.inv(maps[:, :, :3].double())
    steps = torch.arange(size, dtype=torch.float64, device=maps.device)
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    pixel = torch.stack([u, v, torch.zeros_like(u)], dim=-1)
    moved = pixel - maps[:, None, None, :, 3].double()
    return torch.einsum("nij,nhwj->nhwi", inverse, moved).float()


@dataclass(frozen=True, eq=False)
class Residual:
    """A correction that is added to the features of a subject's slices.

    Attributes:
        anchors: points on the strokes.
        weight: weight of each anchor (m, f).
        scale: standard deviation of each feature (f,).
        reach_mm: see `reach_in`.
    """

    anchors: Pixels
    weight: Float[Tensor, "m f"]
    scale: Float[Tensor, "f"]
    reach_mm: float

    @torch.inference_mode()
    def __call__(self, scene: Scene, time: float) -> Scene:
        """Add the residual to the slices of one phase; returns the same object if nothing changes.

        Args:
            scene: the encoded slices.
            time: time of the phase.
        """
        place = pixel_places(scene.maps, scene.features.shape[1]).flatten(0, 2)
        own, reach = self.anchors.place, self.reach_mm
        near = ((place > own.amin(0) - reach) & (place < own.amax(0) + reach)).all(1)
        index = near.nonzero()[:, 0]
        if not len(index):
            return scene
        table = scene.features.flatten(0, 2).clone()
        for part in index.split(PIXELS):
            pixels = Pixels(place[part], table[part] / self.scale, self.scale.new_full((len(part),), time))
            table[part] += likeness(pixels, self.anchors, reach) @ self.weight
        return Scene(table.reshape(scene.features.shape), scene.maps, scene.latent)


PIXELS = 8_192
"""Number of pixels that are compared with all anchors at a time."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Points of one phase at which the residual is constrained.

    Attributes:
        near: their nearest slices.
        features: the features there, without the residual (p, k, f).
        basis: basis of the residual there (p, k, m).
        latent: latent of the phase.
        targets: what the strokes demand; None where the answer should stay.
    """

    near: Nearby
    features: Float[Tensor, "p k f"]
    basis: Float[Tensor, "p k m"]
    latent: Float[Tensor, "l"]
    targets: Targets | None


def fit_residual(
    scenes: Scenes, strokes: Sequence[Stroke], labels: Sequence[str], region: Region
) -> Residual:
    """Fit the residual for some strokes; deterministic.

    Args:
        scenes: the subject's slices as encoded.
        strokes: at least one.
        labels: names of the classes.
        region: region of the subject.
    """
    with stage("correcting"), torch.inference_mode(False), torch.enable_grad():
        return _Fit(scenes, targets_of(strokes, labels), region).residual(strokes)


class _Fit:
    """One fit of a residual."""

    def __init__(self, scenes: Scenes, targets: Targets, region: Region) -> None:
        self.scenes, self.targets, self.region, self.reach = scenes, targets, region, reach_in(region)
        self.image = scenes.field.image
        self.frames = np.array([nearest_frame(scenes.times, time) for time in targets.time], dtype=int)
        self.phases = [int(frame) for frame in np.unique(self.frames)]
        shown = torch.cat([self._scene(phase).features.flatten(0, 2) for phase in self.phases])
        self.scale = shown.std(0) + 1e-6

    def _scene(self, phase: int) -> Scene:
        """A phase's slices, for differentiation."""
        scene = self.scenes.at(phase)
        return Scene(*(getattr(scene, name).clone() for name in ("features", "maps", "latent")))

    def _model(self, position: np.ndarray) -> Float[Tensor, "n 3"]:
        place = self.region.pose(position).astype(np.float32)
        return torch.from_numpy(place).to(self.scenes.device)

    def anchors(self, strokes: Sequence[Stroke]) -> Pixels:
        """Points along the strokes, on their nearest slices."""
        step = max(ANCHOR_MM, sum(stroke.length_mm for stroke in strokes) / MOST_ANCHORS)
        most = max(2, MOST_ANCHORS // len(strokes))
        places, features, times = [], [], []
        for stroke in strokes:
            phase = nearest_frame(self.scenes.times, stroke.time)
            scene, place = self._scene(phase), self._model(stroke.along(step, most))
            near = nearby(scene.maps, place, scene.features.shape[1], 1)
            where = near.index[:, 0], near.u[:, 0], near.v[:, 0]
            places.append(interpolate(pixel_places(scene.maps, scene.features.shape[1]), *where))
            features.append(interpolate(scene.features, *where) / self.scale)
            times.append(self.scale.new_full((len(place),), float(self.scenes.times[phase])))
        return Pixels(torch.cat(places), torch.cat(features), torch.cat(times))

    def around(self, scene: Scene, anchors: Pixels, phase: int) -> Float[Tensor, "p 3"]:
        """Random points on slices around the anchors; they depend on the phase only."""
        low, high = anchors.place.amin(0), anchors.place.amax(0)
        share = torch.from_numpy(np.random.default_rng([phase, 20]).random((AROUND, 3), dtype=np.float32))
        place = low - self.reach + share.to(low.device) * (high - low + 2 * self.reach)
        near = nearby(scene.maps, place, scene.features.shape[1], 1)
        where = near.index[:, 0], near.u[:, 0], near.v[:, 0]
        return interpolate(pixel_places(scene.maps, scene.features.shape[1]), *where)

    def observed(
        self, place: Tensor, phase: int, anchors: Pixels, root: Tensor, targets: Targets | None
    ) -> Observed:
        """Prepare points of one phase; ``root``, of the kernel among the anchors, whitens the basis."""
        scene = self._scene(phase)
        size = scene.features.shape[1]
        near = nearby(scene.maps, place, size, self.image.neighbours)
        corners, weight = corners_of((size, size), near.index, near.u, near.v)
        used, inverse = torch.unique(corners, return_inverse=True)
        time = self.scale.new_full((len(used),), float(self.scenes.times[phase]))
        shown = pixel_places(scene.maps, size).flatten(0, 2)[used]
        pixels = Pixels(shown, scene.features.flatten(0, 2)[used] / self.scale, time)
        kernel = likeness(pixels, anchors, self.reach)
        white = torch.linalg.solve_triangular(root, kernel.T, upper=False).T.contiguous()
        basis = functional.embedding_bag(inverse, white, mode="sum", per_sample_weights=weight)
        features = interpolate(scene.features, near.index, near.u, near.v)
        return Observed(near, features, basis.reshape(*near.index.shape, -1), scene.latent, targets)

    def logits(self, seen: Observed, coefficient: Float[Tensor, "m f"] | None) -> Float[Tensor, "p q"]:
        """Logits of the classes with the residual."""
        features = seen.features
        if coefficient is not None:
            features = features + (seen.basis @ coefficient) * self.scale
        return self.scenes.field.decode(features, seen.near, seen.latent, both=self.scenes.both)[1]

    def residual(self, strokes: Sequence[Stroke]) -> Residual:
        """Fit the residual."""
        anchors = self.anchors(strokes)
        own = likeness(anchors, anchors, self.reach)
        # Coinciding anchors must not make the root singular.
        root = torch.linalg.cholesky(own + 1e-3 * torch.eye(len(own), device=own.device))
        said, before = [], []
        for phase in self.phases:
            targets = self.targets.at(self.frames == phase)
            said.append(self.observed(self._model(targets.position), phase, anchors, root, targets))
            place = self.around(self._scene(phase), anchors, phase)
            before.append(self.observed(place, phase, anchors, root, None))
        with torch.no_grad():
            answers = [functional.log_softmax(self.logits(seen, None), dim=1) for seen in before]
        coefficient = torch.zeros((len(own), len(self.scale)), device=own.device, requires_grad=True)

        def objective() -> Tensor:
            total = SMALL * coefficient.square().sum()
            for seen in said:
                total = total + _misfit(self.logits(seen, coefficient), seen.targets)
            for seen, answer in zip(before, answers, strict=True):
                now = functional.log_softmax(self.logits(seen, coefficient), dim=1)
                moved = functional.kl_div(now, answer, reduction="batchmean", log_target=True)
                total = total + AS_BEFORE / len(before) * moved
            return total

        minimise(objective, coefficient, STEPS)
        weight = torch.linalg.solve_triangular(root.T, coefficient.detach(), upper=True)
        return Residual(anchors, weight * self.scale, self.scale, self.reach)


def _misfit(logits: Tensor, targets: Targets | None) -> Tensor:
    assert targets is not None
    named = (torch.from_numpy(x).to(logits.device) for x in (targets.label, targets.present))
    return misfit(logits, *named, torch.from_numpy(targets.share).to(logits))
