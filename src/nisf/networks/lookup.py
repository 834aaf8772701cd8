"""Which measured slices a place takes its features from, where on them, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.device import autocast

FAR_MM = 1e4
"""Distance given to a slice that does not cover a place."""
SHARP_MM = 2.0
"""Distance at which a slice counts half as much as one through the place itself, in the sharper mean."""


@dataclass(frozen=True, eq=False)
class Nearby:
    """The k nearest slices of each of p places.

    Attributes:
        index: their index among all slices.
        u: where the place projects onto them, in pixels along the canvas's first axis.
        v: along the second.
        distance: of the place from them, signed, mm.
        weight: how much each counts in the broad mean; it falls to nothing where the next slice would take
            over, so that the answer has no jump. The sum is 1, or 0 where no slice covers the place.
        sharp: likewise in the mean that the nearest slice dominates.
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
    """The nearest slices of each place; not differentiable.

    Args:
        maps: model mm to canvas pixel (u, v) and signed distance in mm.
        points: model mm.
        size: pixels along the canvas's sides.
        count: slices wanted; fewer if there are not as many.
    """
    n = len(maps)
    # All (u), then all (v), then all distances, so that each is one block of memory a place.
    rows = maps.transpose(0, 1).reshape(3 * n, 4)
    with autocast(points.device, "fp32"):  # in bf16 places would be off by half a pixel
        u, v, distance = torch.addmm(rows[:, 3], points, rows[:, :3].T).split(n, dim=1)
    return nearest_slices(u, v, distance, size, count)


def nearby_each(
    maps: Float[Tensor, "b n 3 4"], points: Float[Tensor, "b p 3"], size: int, count: int
) -> Nearby:
    """`nearby` of b scenes with n slots each, places after places; indices count the slots of all scenes.

    Nothing in it waits for a GPU or depends on how many slots are in use: see `AWAY`.
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
"""Signed distance from a slot that no slice is in, as the last row of its map: farther than any slice from
everything, and yet the map can be inverted."""


def nearest_slices(u: Tensor, v: Tensor, distance: Tensor, size: int, count: int) -> Nearby:
    """The nearest slices of places, from where these project onto all slices.

    Args:
        u: pixel along the canvas's first axis, of each place on each slice (p, n).
        v: along the second.
        distance: signed, mm.
        size: pixels along the canvas's sides.
        count: slices wanted; fewer if there are not as many.
    """
    n, middle = u.shape[1], (size - 1) / 2
    outside = torch.maximum((u - middle).abs(), (v - middle).abs()) > size / 2
    count = min(count, n)
    nearest, index = torch.add(distance.abs(), outside, alpha=FAR_MM).topk(
        min(count + 1, n), 1, largest=False
    )
    index, near = index[:, :count].contiguous(), nearest[:, :count]
    # With no further slice nothing takes over, and all count alike.
    reach = nearest[:, count:] if n > count else torch.full_like(near, FAR_MM)
    weight = (1 - near / (reach + 0.01)).clamp_min(0) * (near < FAR_MM)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
    distance = distance.gather(1, index)
    sharp = weight / (distance.abs() + SHARP_MM)
    sharp = sharp / sharp.sum(1, keepdim=True).clamp_min(1e-6)
    return Nearby(index, u.gather(1, index), v.gather(1, index), distance, weight, sharp)


def without_slices(near: Nearby, left_out: Bool[Tensor, "n"]) -> Nearby:
    """The same look-up with some slices left out, except where one is the nearest.

    Args:
        near: nearest slices of p places, the nearest first.
        left_out: which of the n slices do not count.
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
    """The four pixels around places on canvases, as flat indices among those of all canvases, and weights.

    Args:
        size: pixels of a canvas along u and v.
        index: of the canvas, any shape.
        u: along the first pixel axis, same shape; beyond the canvas its edge counts.
        v: along the second.
    """
    h, w = size
    u, v = u.clamp(0, h - 1), v.clamp(0, w - 1)
    i, j = u.floor().clamp(max=h - 2), v.floor().clamp(max=w - 2)
    a, b = u - i, v - j
    both = a * b
    weight = torch.stack([1 - a - b + both, b - both, a - both, both], dim=-1).reshape(-1, 4)
    first = ((index * h + i.long()) * w + j.long()).reshape(-1, 1)
    pair = torch.arange(2, device=first.device)  # made there: a GPU does not wait for it
    return first + (w * pair[:, None] + pair).flatten(), weight


def sample(features: Float[Tensor, "n h w f"], index: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "..."]:
    """Features of canvas ``index`` at pixel ``(u, v)``, linearly between pixels; outside, those of the edge.

    Differentiable in the features.

    Args:
        index: of the canvas, any shape.
        u: along the first pixel axis, same shape.
        v: along the second.
    """
    n, h, w, f = features.shape
    corners, corner_weight = corners_of((h, w), index, u, v)
    table = features.reshape(n * h * w, f).to(corner_weight.dtype)
    if table.is_cuda and table.requires_grad:
        # The gradient of the other way sorts all corners; here they are added where they belong.
        picked = table.index_select(0, corners.flatten()).reshape(*corners.shape, f)
        return (picked * corner_weight[..., None]).sum(1).reshape(*index.shape, f)
    # Looks up and adds in one go: 4 times as fast as four look-ups.
    found = functional.embedding_bag(corners, table, mode="sum", per_sample_weights=corner_weight)
    return found.reshape(*index.shape, f)


def sample_mixed(
    tables: Sequence[tuple[Float[Tensor, "n h w f"], float]], index: Tensor, u: Tensor, v: Tensor
) -> Float[Tensor, "..."]:
    """Weighted sum of `sample` from several features; not differentiable.

    Args:
        tables: features of canvases that are posed alike, and how much each counts.
        index: of the canvas, any shape.
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
