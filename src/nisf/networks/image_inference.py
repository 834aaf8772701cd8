"""The image-conditioned field for inference, with fixed weights.

Work that the two directions of counting slices share is done once, means over the nearest slices are weighted
look-ups, and all layers write into the same few buffers, which fit into a core's cache. The results are those
of `nisf.networks.image_field.ImageField` to within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nisf.networks.image_field import ImageField, Scene
from nisf.networks.lookup import Nearby, interpolate_mixed


def _linears(layers: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Weight (inputs, outputs) and bias of each linear map."""
    return [(x.weight.T.contiguous(), x.bias) for x in layers if isinstance(x, nn.Linear)]


class FrozenImageField:
    """Answers of a field with its present weights; not differentiable.

    Args:
        field: the network.
        rows: maximum number of points per call.
    """

    def __init__(self, field: ImageField, rows: int) -> None:
        image, self.channels, self.rows = field.image, field.config.channels, rows
        with torch.no_grad():
            (first, self.first_bias), self.second = _linears(field.each)
            self.first, self.along = first[:-1], first[-1:] / image.distance_mm
            (join, self.join_bias), self.last = _linears(field.join)
            self.broad, self.sharp, self.latent = join.split([image.hidden, image.hidden, image.latent])
            self.head = (field.head.weight.T.contiguous(), field.head.bias)
            self.direct = field.direct.weight.T.contiguous()
        self.wide = first.new_empty((3, rows * image.neighbours, image.hidden))
        self.narrow = first.new_empty((3, rows, image.hidden))

    @torch.inference_mode()
    def __call__(
        self, scenes: Sequence[tuple[Scene, float]], near: Nearby, *, both: bool
    ) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p k"]]:
        """Logits of intensity and of class.

        Args:
            scenes: the encoded slices at one or more phases with the same maps, each with its weight; their
                weighted mean is decoded.
            near: the nearest slices of at most ``rows`` points.
            both: average over both directions of counting the slices, which makes the answer independent
                of the direction; training draws one direction at random.
        """
        places, count = near.weight.shape
        common, moved, each = self.wide[:, : places * count]
        joined, hidden, other = self.narrow[:, :places]
        rows = torch.arange(places * count, device=near.index.device).reshape(places, count)
        tables = [(scene.features, share) for scene, share in scenes]
        features = interpolate_mixed(tables, near.index, near.u, near.v).reshape(places * count, -1)
        torch.addmm(self.first_bias, features, self.first, out=common)
        distance = near.distance.reshape(-1, 1)
        latent = torch.stack([scene.latent * share for scene, share in scenes]).sum(0)
        bias = self.join_bias + latent @ self.latent
        for sign, result in ((1, hidden), (-1, other))[: 1 + both]:
            torch.addcmul(common, distance, self.along, value=sign, out=moved).relu_()
            torch.addmm(self.second[1], moved, self.second[0], out=each).relu_()
            torch.addmm(bias, _mean(each, rows, near.weight), self.broad, out=joined)
            joined.addmm_(_mean(each, rows, near.sharp), self.sharp).relu_()
            torch.addmm(self.last[1], joined, self.last[0], out=result).relu_()
        if both:
            hidden.add_(other).mul_(0.5)
        answer = torch.addmm(self.head[1], hidden, self.head[0])
        answer.addmm_(_mean(features, rows, near.sharp), self.direct)
        return answer[:, : self.channels], answer[:, self.channels :]


def _mean(table: Float[Tensor, "q f"], rows: Tensor, weight: Float[Tensor, "p k"]) -> Float[Tensor, "p f"]:
    """Weighted sums of the table's ``rows`` (p, k)."""
    return functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weight)
