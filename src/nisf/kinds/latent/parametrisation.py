"""The field as a function of all that is fitted: latent, shifts, gains and pose, in standard deviations.

Each slice position was measured in a breath-hold of its own: it may be shifted within its plane, and brighter
or darker than the rest. The region may also be off the position and angle that it had in the training
subjects. All unknowns are in standard deviations of their Gaussian priors, so that zero is the prior's mean
and one damping factor suits all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import FitConfig
from nisf.data.points import CasePoints
from nisf.data.region import Region
from nisf.kinds.latent.breath_hold import BreathHold
from nisf.networks.latent_field import LatentField


@dataclass(frozen=True, eq=False)
class PlacedPoints:
    """Points of ``s`` subjects, with the geometry of the slices that they come from.

    Attributes:
        coordinates: field coordinates as measured (s, n, d).
        half: half lengths of the region, mm (s, 3).
        group: slice position of each point, an index into the subject's groups; -1 for none (s, n).
        axes: directions of the image axes at each point in model coordinates, unit vectors as columns
            (s, n, 3, 2).
    """

    coordinates: Float[Tensor, "s n d"]
    half: Float[Tensor, "s 3"]
    group: Int[Tensor, "s n"]
    axes: Float[Tensor, "s n 3 2"]

    def part(self, places: slice) -> PlacedPoints:
        """A part of the points."""
        return PlacedPoints(
            self.coordinates[:, places], self.half, self.group[:, places], self.axes[:, places]
        )

    def to(self, device: torch.device) -> PlacedPoints:
        """Move the points to a device."""
        return PlacedPoints(*(x.to(device) for x in (self.coordinates, self.half, self.group, self.axes)))

    def apart(self) -> PlacedPoints:
        """Each point as a subject of its own (s n, 1, ...)."""
        s, n, _ = self.coordinates.shape
        half = self.half[:, None].expand(s, n, 3).reshape(s * n, 3)
        single = (x.reshape(s * n, 1, *x.shape[2:]) for x in (self.coordinates, self.group, self.axes))
        coordinates, group, axes = single
        return PlacedPoints(coordinates, half, group, axes)


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """The field as a function of the unknowns: ``[latent | shifts | gains | offsets | pose]``.

    Attributes:
        field: the network.
        mean: mean of the prior over latents (l,).
        root: its covariance is ``root @ root.T`` (l, l).
        groups: largest number of slice positions among the subjects.
        shift_mm: standard deviation of a shift along each image axis; 0 leaves shifts out.
        gain: standard deviation of a slice's gain and offset; 0 leaves them out.
        pose_mm: standard deviation of the translation of the whole subject.
        pose_degrees: standard deviation of its rotation about each axis; if both are 0, there is no pose.
    """

    field: LatentField
    mean: Float[Tensor, "l"]
    root: Float[Tensor, "l l"]
    groups: int = 0
    shift_mm: float = 0.0
    gain: float = 0.0
    pose_mm: float = 0.0
    pose_degrees: float = 0.0

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of unknowns: latent, shifts, gains and offsets, pose."""
        pose = 6 if self.pose_mm or self.pose_degrees else 0
        per_slice = (2 * self.groups * bool(self.shift_mm), 2 * self.groups * bool(self.gain))
        return (len(self.mean), *per_slice, pose)

    def split(
        self, unknowns: Float[Tensor, "s u"]
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Latents (s, l), shifts (mm) and gains with offsets (s, g, 2), pose (mm, radians; s, 6)."""
        s = len(unknowns)
        latent, shift, gain, pose = unknowns.split(self.sizes, dim=1)
        scale = unknowns.new_tensor([self.pose_mm] * 3 + [np.deg2rad(self.pose_degrees)] * 3)
        return (
            self.mean + latent @ self.root.T,
            shift.reshape(s, -1, 2) * self.shift_mm if shift.shape[1] else None,
            gain.reshape(s, -1, 2) * self.gain if gain.shape[1] else None,
            pose * scale if pose.shape[1] else None,
        )

    def join(self, latent: Float[Tensor, "s l"]) -> Float[Tensor, "s u"]:
        """The unknowns with these latents and everything else zero."""
        white = torch.linalg.solve_triangular(self.root, (latent - self.mean).T, upper=False).T
        return torch.cat([white, white.new_zeros(len(latent), sum(self.sizes[1:]))], dim=1)

    def intensity(self, unknowns: Float[Tensor, "s u"], points: PlacedPoints) -> Float[Tensor, "s n c"]:
        """Intensity logits at the points, as the scanner saw them.

        A slice's gain and offset act on the logit, which keeps intensities between 0 and 1: they change the
        contrast about mid-grey and the brightness.
        """
        latent, shift, gain, pose = self.split(unknowns)
        coordinates = points.coordinates
        outside = (points.group < 0)[..., None]
        index = points.group.clamp_min(0)[..., None].expand(-1, -1, 2)
        if shift is not None or pose is not None:
            # A field of two dimensions leaves the third out; its slice is at zero.
            third = max(0, 3 - coordinates.shape[-1])
            place = functional.pad(coordinates[..., :3], (0, third)) * points.half[:, None]
            if shift is not None:
                own = torch.gather(shift, 1, index).masked_fill(outside, 0.0)
                # The image at a point shows the tissue that breathing has moved there.
                place = place - (points.axes * own[..., None, :]).sum(-1)
            if pose is not None:
                place = place @ rotation(pose[:, 3:]).transpose(1, 2) + pose[:, None, :3]
            moved = torch.cat([place / points.half[:, None], coordinates[..., 3:]], dim=-1)
            coordinates = moved[..., : coordinates.shape[-1]]
        logits = self.field.intensity(coordinates, latent)
        if gain is not None:
            own = torch.gather(gain, 1, index).masked_fill(outside, 0.0)
            logits = (1 + own[..., :1]) * logits + own[..., 1:]
        return logits


def rotation(turn: Float[Tensor, "s 3"]) -> Float[Tensor, "s 3 3"]:
    """Rotation matrices from rotation vectors (radians), Rodrigues' formula; smooth at zero."""
    zero = torch.zeros_like(turn[:, 0])
    x, y, z = turn.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    angle = (turn.square().sum(1) + 1e-12).sqrt()[:, None, None]
    first, second = torch.sinc(angle / torch.pi), 0.5 * torch.sinc(angle / (2 * torch.pi)).square()
    return torch.eye(3, dtype=turn.dtype, device=turn.device) + first * cross + second * cross @ cross


def groups_of(points: CasePoints) -> list[tuple[int, int]]:
    """Stack and position of the slices that share a shift, a gain and an offset: one per position."""
    return sorted(set(points.breath_holds))


def breath_holds_of(
    model: Parametrisation, unknowns: Float[Tensor, "s u"], cases: Sequence[CasePoints]
) -> list[tuple[BreathHold, ...]]:
    """The fitted shifts, gains and offsets of each subject; empty where there are none."""
    _, shift, gain, _ = model.split(unknowns)
    out = []
    for row, case in enumerate(cases):
        holds = []
        if shift is not None or gain is not None:
            for group, (stack, position) in enumerate(groups_of(case)):
                x, y = (0.0, 0.0) if shift is None else shift[row, group].tolist()
                more, offset = (0.0, 0.0) if gain is None else gain[row, group].tolist()
                holds.append(BreathHold(stack, position, (x, y), 1 + more, offset))
        out.append(tuple(holds))
    return out


def moved_region(model: Parametrisation, unknowns: Float[Tensor, "one u"], region: Region) -> Region:
    """The region of the only subject, moved by its fitted pose."""
    pose = model.split(unknowns)[3]
    if pose is None:
        return region
    shift, turn = pose[0].double().cpu().numpy().reshape(2, 3)
    return region.moved(shift, turn)


def placed_points(
    items: Sequence[tuple[CasePoints, np.ndarray]], coordinates: Float[Tensor, "s n d"]
) -> PlacedPoints:
    """Attach the slices' geometry to the points of a batch.

    Args:
        items: cases and flat indices of the drawn points, one per subject, as for
            `nisf.data.points.batch_of`.
        coordinates: coordinates of these points, from that function.
    """
    s, n, _ = coordinates.shape
    group, axes = np.full((s, n), -1, dtype=np.int64), np.zeros((s, n, 3, 2), dtype=np.float32)
    half = np.stack([case.region.half for case, _ in items]).astype(np.float32)
    for row, (case, index) in enumerate(items):
        names = {name: number for number, name in enumerate(groups_of(case))}
        of_slice = np.array([names[name] for name in case.breath_holds], dtype=np.int64)
        directions = case.maps[:, :, :2] * case.region.half[:, None]
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        measured = np.flatnonzero(index < len(case.slice))
        chosen = case.slice[index[measured]]
        group[row, measured] = of_slice[chosen]
        axes[row, measured] = directions[chosen]
    return PlacedPoints(coordinates, torch.from_numpy(half), torch.from_numpy(group), torch.from_numpy(axes))


def parametrisation_of(
    field: LatentField,
    mean: Float[Tensor, "l"],
    covariance: Float[Tensor, "l l"],
    config: FitConfig,
    cases: Sequence[CasePoints],
) -> Parametrisation:
    """The unknowns that the settings ask for.

    Args:
        field: the network.
        mean: mean of the training latents.
        covariance: likewise.
        config: what is fitted, and its priors.
        cases: whose slices they are.
    """
    return Parametrisation(
        field,
        mean,
        latent_root(covariance, config.shrinkage),
        groups=max((len(groups_of(case)) for case in cases), default=0),
        shift_mm=config.shift_mm,
        gain=config.gain,
        pose_mm=config.pose_mm,
        pose_degrees=config.pose_degrees,
    )


def latent_root(covariance: Float[Tensor, "l l"], shrinkage: float) -> Float[Tensor, "l l"]:
    """Lower triangular root of the covariance, shrunk towards a multiple of the identity.

    With fewer subjects than latent dimensions the covariance is singular, but directions in which no training
    subject varies are not impossible. The trace is kept (Ledoit and Wolf, 2004).
    """
    size = len(covariance)
    even = torch.eye(size).to(covariance) * (torch.trace(covariance) / size).clamp_min(1e-12)
    return torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * even)
