"""The encoder for inference: with fixed weights, each layer is computed in the fastest order.

Tensors are stored channels last, so that pooling, norms and linear maps read memory contiguously. A
convolution of an upsampled image is computed on the coarse image: two of three neighbouring fine pixels come
from the same coarse pixel, so that their weights can be added in advance, and nothing is upsampled or
concatenated. The results are those of `nisf.networks.encoder.Encoder` to within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nisf.networks.encoder import Encoder
from nisf.networks.phase_exchange import PhaseExchange

SLOPE = 0.01
"""Negative slope of the encoder's leaky rectifiers."""
EPSILON = 1e-5
"""Added to variances by PyTorch's normalisation layers."""


@dataclass(frozen=True, eq=False)
class _Block:
    """Two convolutions with their norms; in the decoder the first also reads a coarser image.

    Attributes:
        weights: weights of both convolutions (outputs, inputs, 3, 3); the first only for the finer image.
        norms: weight and bias of both norms.
        coarse: weights for the coarser image, for each of the four fine pixels in a coarse one
            (4 * outputs, inputs, 2, 2); None in the contracting path.
    """

    weights: tuple[Tensor, Tensor]
    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    coarse: Tensor | None

    def __call__(
        self, x: Float[Tensor, "n c h w"], below: Float[Tensor, "n d h2 w2"] | None = None
    ) -> Float[Tensor, "n o h w"]:
        for weight, (scale, shift) in zip(self.weights, self.norms, strict=True):
            x = functional.conv2d(x, weight, padding=1)
            if below is not None and self.coarse is not None:
                _add_enlarged(x, functional.conv2d(below, self.coarse, padding=1))
                below = None
            functional.leaky_relu_(_normalise(x, scale, shift), SLOPE)
        return x


class FrozenEncoder:
    """Features and latents of an encoder with its present weights; not differentiable.

    Args:
        encoder: the network.
    """

    def __init__(self, encoder: Encoder) -> None:
        with torch.no_grad():
            self.down = [_block(block, 0) for block in encoder.down]
            widths = [block.weights[1].shape[0] for block in self.down]
            self.up = [_block(block, widths[level]) for level, block in enumerate(encoder.up)]
            # Outputs of the head for the four fine pixels, row by row, each with all its features.
            weight = encoder.head.weight.flatten(1).unflatten(0, (-1, 2, 2)).permute(1, 2, 0, 3)
            bias = (
                weight.new_zeros(len(encoder.head.weight)) if encoder.head.bias is None else encoder.head.bias
            )
            self.head = (weight, bias.unflatten(0, (-1, 2, 2)).permute(1, 2, 0))
        self.latent, self.exchange = encoder.latent, encoder.exchange
        # Annotated because an empty list of modules has no element type.
        self.phases = [module for module in encoder.moments if isinstance(module, PhaseExchange)]

    @torch.inference_mode()
    def coarse(
        self,
        images: Float[Tensor, "n c h w"],
        maps: Float[Tensor, "m 3 4"] | Float[Tensor, "g m 3 4"],
        shown: Sequence[Tensor] | None = None,
        reference: int | None = None,
    ) -> tuple[Float[Tensor, "n h2 w2 k"], Float[Tensor, "n l"], list[Tensor]]:
        """Features at every second pixel, from which `features` makes those of every pixel, and latents.

        Args:
            images: intensities in [0, 1] of the slices of one phase or of several in turn; with g sets of
                maps, of all phases with the first set, then of all with the second, and so on.
            maps: maps of one phase's slices: model mm to canvas pixel and signed distance in mm. With several
                sets, the slice exchange of all phases is computed at once, which suits a GPU.
            shown: features of the reference phases on each level, set by set; if None, the reference is
                among these phases.
            reference: number of leading phases that are the reference; None for all.

        Returns:
            The features, one latent per slice, and the reference's features on each level.
        """
        seen: list[Tensor] = []
        sets = 1 if maps.ndim == 3 else len(maps)
        slices = maps.shape[-3]
        order = (sets, len(images) // (sets * slices), slices)
        each = [maps] * order[1] if maps.ndim == 3 else maps.repeat_interleave(order[1], 0)

        def exchanged(x: Tensor, done: int) -> Tensor:
            """Apply the exchanges that follow the first ``done`` levels of the decoder."""
            if done < len(self.phases):
                own = x.unflatten(0, order)
                mean = own[:, :reference].mean(1).flatten(0, 1) if shown is None else shown[done]
                seen.append(mean)
                x = _with_shown(self.phases[done], x, mean, order)
            return self.exchange[done](x, each) if done < len(self.exchange) else x

        x = functional.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        x = exchanged(x, 0)
        latent = self.latent(x.mean((2, 3)))
        for level in reversed(range(len(self.up))):
            x = self.up[level](skips[level], x)
            x = exchanged(x, len(self.up) - level)
        return x.permute(0, 2, 3, 1), latent, seen

    @torch.inference_mode()
    def features(
        self, seen: Sequence[tuple[Float[Tensor, "n h2 w2 k"], Sequence[int]]]
    ) -> Float[Tensor, "n h w f"]:
        """Features of every pixel, averaged over mirror images.

        Args:
            seen: the result of `coarse` for each mirror image, and the pixel axes along which it is flipped.
        """
        weight, bias = self.head
        n, h, w, channels = seen[0][0].shape
        out = bias.new_empty((n, h, 2, w, 2, bias.shape[2]))
        # The head is linear, so the mirror images can be flipped back and averaged before it.
        turned = torch.cat([x.flip([1 + axis for axis in axes]) for x, axes in seen], dim=-1)
        turned = turned.reshape(-1, channels * len(seen))
        for row, column in np.ndindex(2, 2):
            there = [(row ^ (0 in axes), column ^ (1 in axes)) for _, axes in seen]
            weights = torch.cat([weight[place] for place in there], dim=1).T / len(seen)
            constant = torch.stack([bias[place] for place in there]).mean(0)
            out[:, :, row, :, column] = torch.addmm(constant, turned, weights).reshape(n, h, w, -1)
        return out.reshape(n, 2 * h, 2 * w, -1)


def _block(block: nn.Module, own: int) -> _Block:
    """Freeze a block of the encoder; its first ``own`` inputs are the finer image's, all if 0."""
    assert isinstance(block, nn.Sequential)
    layers = list(block)
    convolutions = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d)]
    norms = [(layer.weight, layer.bias) for layer in layers if isinstance(layer, nn.InstanceNorm2d)]
    first, second = (weight.contiguous(memory_format=torch.channels_last) for weight in convolutions)
    coarse = None
    if own:
        coarse = _of_coarse(first[:, own:]).contiguous(memory_format=torch.channels_last)
        first = first[:, :own].contiguous(memory_format=torch.channels_last)
    return _Block((first, second), (norms[0], norms[1]), coarse)


def _with_shown(
    exchange: PhaseExchange,
    x: Float[Tensor, "gpm c h w"],
    shown: Float[Tensor, "gm c h w"],
    order: tuple[int, int, int],
) -> Float[Tensor, "gpm c h w"]:
    """The phase exchange; its 1 x 1 convolutions are computed as linear maps of rows.

    Args:
        exchange: the layer.
        x: features of g sets of p phases with m slices.
        shown: features of the reference, set by set.
        order: g, p, m.
    """
    rows, theirs = x.permute(0, 2, 3, 1), shown.permute(0, 2, 3, 1)
    own, other, into = (part.weight.flatten(1) for part in (exchange.own, exchange.shown, exchange.into))
    both = functional.linear(rows, own, exchange.own.bias)
    both.unflatten(0, order).add_(functional.linear(theirs, other).unflatten(0, (order[0], 1, order[2])))
    return (rows + functional.linear(both.relu_(), into, exchange.into.bias)).permute(0, 3, 1, 2)


def _normalise(x: Float[Tensor, "n c h w"], scale: Tensor, shift: Tensor) -> Float[Tensor, "n c h w"]:
    """Instance norm in place for channels-last images; PyTorch's is far slower for these."""
    rows = x.permute(0, 2, 3, 1).flatten(1, 2)
    rows -= rows.mean(1, keepdim=True)
    variance = rows.square().mean(1, keepdim=True)
    torch.addcmul(shift, rows, scale / torch.sqrt(variance + EPSILON), out=rows)
    return x


def _of_coarse(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o4 i 2 2"]:
    """Weights for the coarse pixels around each of the four fine ones; rows first, then columns."""
    # The first fine pixel sees one of the coarse pixel before and two of its own, the second two and one.
    along = weight.new_tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    return torch.einsum("oiuv,aku,blv->aboikl", weight, along, along).flatten(0, 2)


def _add_enlarged(x: Float[Tensor, "n o h w"], found: Float[Tensor, "n o4 h3 w3"]) -> None:
    """Add the contribution of the coarse pixels to the fine ones."""
    _, outputs, h, w = x.shape
    fine = x.permute(0, 2, 3, 1).unflatten(2, (w // 2, 2)).unflatten(1, (h // 2, 2))
    each = found.permute(0, 2, 3, 1)
    for row, column in np.ndindex(2, 2):
        first = (2 * row + column) * outputs
        here = each[:, row : row + h // 2, column : column + w // 2, first : first + outputs]
        fine[:, :, row, :, column] += here
