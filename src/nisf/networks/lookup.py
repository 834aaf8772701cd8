"""From which measured slices a point takes its features, where on them, and with which weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.device import autocast

FAR_MM = 1e4
"""Distance assigned to slices that do not cover a point."""
SHARP_MM = 2.0
"""Distance at which a slice has half the weight, in the sharper mean, of a slice through the point itself."""


@dataclass(frozen=True, eq=False)
class Nearby:
    """The k nearest slices of each of p points.

    Attributes:
        index: their index among all slices.
        u: where the point projects onto them, in pixels along the canvas's first axis.
        v: likewise along the second axis.
        distance: signed distance of the point from them, mm.
        weight: their weights in the broad mean. A weight falls to zero where the next slice would take over,
            so that the field is continuous. The weights sum to 1, or to 0 where no slice covers the point.
        sharp: their weights in the mean that the nearest slice dominates.
    """

    index: Int[Tensor, "p k"]
    u: Float[Tensor, "p k"]
    v: Float[Tensor, "p k"]
    distance: Float[Tensor, "p k"]
    weight: Float[Tensor, "p k"]
    sharp: Float[Tensor, "p k"]

    def __getitem__(self, rows: slice | Int[Tensor, "r"]) -> Nearby:
        """Some of the places."""
        return Nearby(*(getattr(self, entry.name)[rows] for entry in fields(self)))


def nearby(maps: Float[Tensor, "n 3 4"], points: Float[Tensor, "p 3"], size: int, count: int) -> Nearby:
    """The nearest slices of each point; not differentiable.

    Args:
        maps: model mm to canvas pixel (u, v) and signed distance in mm.
        points: model mm.
        size: pixels along the canvas's sides.
        count: number of slices; fewer if there are not as many.
    """
    n = len(maps)
    # First all u, then all v, then all distances, so that each is contiguous for a point.
    rows = maps.transpose(0, 1).reshape(3 * n, 4)
    with autocast(points.device, "fp32"):  # in bf16, points would be off by half a pixel
        u, v, distance = torch.addmm(rows[:, 3], points, rows[:, :3].T).split(n, dim=1)
    return nearest_slices(u, v, distance, size, count)


def nearby_each(
    maps: Float[Tensor, "b n 3 4"], points: Float[Tensor, "b p 3"], size: int, count: int
) -> Nearby:
    """`nearby` for b scenes with n slots each, points in turn; indices count the slots of all scenes.

    It never synchronises with a GPU and does not depend on the number of used slots: see `AWAY`.
    """
    b, n = maps.shape[:2]
    rows = maps.transpose(1, 2).reshape(b, 3 * n, 4)
    with autocast(points.device, "fp32"):
        found = torch.baddbmm(rows[:, None, :, 3], points, rows[..., :3].mT)
    near = nearest_slices(*found.flatten(0, 1).split(n, dim=1), size, count)
    first = torch.arange(b, device=maps.device)[:, None, None] * n
    index = near.index.reshape(b, points.shape[1], -1) + first
    return replace(near, index=index.flatten(0, 1))


AWAY = (0.0, 0.0, 1e-3, 1.001 * FAR_MM)
"""Last row of the map of an empty slot, which gives its signed distance. It is farther from any point than
every slice, and the map remains invertible."""


def nearest_slices(u: Tensor, v: Tensor, distance: Tensor, size: int, count: int) -> Nearby:
    """The nearest slices of points, given their projections onto all slices.

    Args:
        u: pixel along the canvas's first axis, of each point on each slice (p, n).
        v: likewise along the second axis.
        distance: signed, mm.
        size: pixels along the canvas's sides.
        count: number of slices; fewer if there are not as many.
    """
    n, middle = u.shape[1], (size - 1) / 2
    outside = torch.maximum((u - middle).abs(), (v - middle).abs()) > size / 2
    count = min(count, n)
    nearest, index = torch.add(distance.abs(), outside, alpha=FAR_MM).topk(
        min(count + 1, n), 1, largest=False
    )
    index, near = index[:, :count].contiguous(), nearest[:, :count]
    # Without a further slice that could take over, all have equal weight.
    reach = nearest[:, count:] if n > count else torch.full_like(near, FAR_MM)
    weight = (1 - near / (reach + 0.01)).clamp_min(0) * (near < FAR_MM)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
    distance = distance.gather(1, index)
    sharp = weight / (distance.abs() + SHARP_MM)
    sharp = sharp / sharp.sum(1, keepdim=True).clamp_min(1e-6)
    return Nearby(index, u.gather(1, index), v.gather(1, index), distance, weight, sharp)


def without_slices(near: Nearby, left_out: Bool[Tensor, "n"]) -> Nearby:
    """The same look-up without some slices, except where one of them is the nearest.

    Args:
        near: nearest slices of p points, the nearest first.
        left_out: which of the n slices to leave out.
    """
    stays = ~left_out[near.index]
    stays[:, 0] = True
    kept = []
    for weight in (near.weight, near.sharp):
        total, weight = weight.sum(1, keepdim=True), weight * stays
        kept.append(weight * (total / weight.sum(1, keepdim=True).clamp_min(1e-6)))
    return replace(near, weight=kept[0], sharp=kept[1])


def corners_of(
    size: tuple[int, int], index: Tensor, u: Tensor, v: Tensor
) -> tuple[Int[Tensor, "q 4"], Float[Tensor, "q 4"]]:
    """The four pixels around points on canvases, as flat indices into all canvases, and their weights.

    Args:
        size: pixels of a canvas along u and v.
        index: index of the canvas, any shape.
        u: along the first pixel axis, same shape; clamped to the canvas.
        v: along the second.
    """
    h, w = size
    u, v = u.clamp(0, h - 1), v.clamp(0, w - 1)
    i, j = u.floor().clamp(max=h - 2), v.floor().clamp(max=w - 2)
    a, b = u - i, v - j
    both = a * b
    weight = torch.stack([1 - a - b + both, b - both, a - both, both], dim=-1).reshape(-1, 4)
    first = ((index * h + i.long()) * w + j.long()).reshape(-1, 1)
    pair = torch.arange(2, device=first.device)  # created on the device, which avoids a synchronisation
    return first + (w * pair[:, None] + pair).flatten(), weight


def interpolate(
    features: Float[Tensor, "n h w f"], index: Tensor, u: Tensor, v: Tensor
) -> Float[Tensor, "..."]:
    """Features of canvas ``index`` at pixel ``(u, v)``, interpolated linearly; clamped to the canvas.

    Differentiable in the features.

    Args:
        features: features of each pixel of each canvas.
        index: index of the canvas, any shape.
        u: along the first pixel axis, same shape.
        v: along the second.
    """
    n, h, w, f = features.shape
    corners, corner_weight = corners_of((h, w), index, u, v)
    table = features.reshape(n * h * w, f).to(corner_weight.dtype)
    if table.is_cuda and table.requires_grad:
        # PyTorch's gradient of advanced indexing sorts all corners; here they are added in place.
        picked = table.index_select(0, corners.flatten()).reshape(*corners.shape, f)
        return (picked * corner_weight[..., None]).sum(1).reshape(*index.shape, f)
    # Look-up and weighted sum in one operation: 4 times as fast as four look-ups.
    found = functional.embedding_bag(corners, table, mode="sum", per_sample_weights=corner_weight)
    return found.reshape(*index.shape, f)


def interpolate_mixed(
    tables: Sequence[tuple[Float[Tensor, "n h w f"], float]], index: Tensor, u: Tensor, v: Tensor
) -> Float[Tensor, "..."]:
    """Weighted sum of `interpolate` over several sets of features; not differentiable.

    Args:
        tables: features of canvases with the same poses, each with its weight.
        index: index of the canvas, any shape.
        u: along the first pixel axis, same shape.
        v: along the second.
    """
    (n, h, w, f), total = tables[0][0].shape, None
    corners, corner_weight = corners_of((h, w), index, u, v)
    for features, share in tables:
        table = features.reshape(n * h * w, f).to(corner_weight.dtype)
        weight = corner_weight if share == 1 else corner_weight * share
        found = functional.embedding_bag(corners, table, mode="sum", per_sample_weights=weight)
        total = found if total is None else total.add_(found)
    assert total is not None
    return total.reshape(*index.shape, f)
