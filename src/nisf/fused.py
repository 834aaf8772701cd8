"""The field as one fused kernel on a GPU: forward, and backward to latent, coordinates and weights.

Optional (``pip install 'nisf[gpu]'``) and never used unless asked for. Checked against the plain field in
Triton's interpreter only; its speed on a GPU has not been measured.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from nisf.field import Backbone, Field

Products = Literal["fp32", "tf32", "bf16"]
"""How matrices are multiplied; sums and phases are always fp32."""

MULTIPLY: dict[str, int] = {"fp32": 0, "tf32": 1, "bf16": 2}
KINDS = {"relu": 0, "sine": 1, "gabor": 2}
LAUNCH = {"num_warps": 8, "num_stages": 1}
"""One stage: two would hold more weights than a multiprocessor's shared memory takes."""
PROGRAMS = 264
"""Programs of the backward kernel: two for each multiprocessor of the largest card of today."""


def interpreting() -> bool:
    """Whether Triton runs its kernels in Python, on any machine, for checking."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not(field: Field) -> str | None:
    """Why ``field`` cannot be fused here, in half a sentence; None if it can."""
    config = field.config
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'nisf[gpu]')"
    if not torch.cuda.is_available() and not interpreting():
        return "there is no GPU"
    if config.activation not in KINDS:
        return f"layers alternate between two activations ({config.activation})"
    if config.backbone != "shared":
        return "intensity and classes have a network each"
    if config.width < 16 or config.width & (config.width - 1):
        return f"the width is {config.width}, not a power of two of at least 16"
    return None


def fused(
    field: Field, say: Callable[[str], None], *, products: Products = "fp32", block: int = 32
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """``field`` as one fused function of its arguments, or itself where it cannot be.

    Takes coordinates (s, n, d) and latent (s, l), and returns what `Field.forward` does. Gradients flow to
    coordinates, latent and all weights; weights that are frozen cost nothing.

    Args:
        field: the network. It stays the owner of its weights.
        say: told in one sentence when the plain field is used.
        products: how matrices are multiplied.
        block: points of a tile.
    """
    reason = why_not(field)
    if reason is not None:
        say(f"the fused kernel is not used: {reason}")
        return field
    config, backbone = field.config, field.backbones[0]
    assert isinstance(backbone, Backbone)
    heads = config.channels + config.classes
    padding = max(16, 1 << (heads - 1).bit_length()) - heads

    def stacked(tensors: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.stack(tensors) if tensors else field.class_head.bias.new_zeros(0, *shape)

    def call(coordinates: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        layers: list[Any] = list(backbone.layers)
        d = config.inputs
        first = functional.linear(latent, layers[0].weight[:, d:], layers[0].bias)
        head = torch.cat([field.intensity_head.weight, field.class_head.weight])
        bias = torch.cat([field.intensity_head.bias, field.class_head.bias])
        rows = first.shape[1]
        logits = _Fused.apply(
            field.inputs(coordinates).contiguous(),
            first.contiguous(),
            backbone.start(latent).contiguous(),
            layers[0].weight[:, :d].contiguous(),
            stacked([layer.weight for layer in layers[1:]], (rows, config.width)),
            stacked([layer.bias for layer in layers[1:]], (rows,)),
            functional.pad(head, (0, 0, 0, padding)),
            functional.pad(bias, (0, padding)),
            {
                "OMEGA": config.gabor_omega if config.activation == "gabor" else config.sine_omega,
                "SIGMA": config.gabor_sigma,
                "E": d,
                "W": config.width,
                "R": rows,
                "H": heads + padding,
                "KIND": KINDS[config.activation],
                "PRODUCTS": MULTIPLY[products] + (interpreting() and products == "bf16"),
                "BLOCK": block,
            },
        )
        return logits[..., : config.channels], logits[..., config.channels : heads]

    return call


class _Fused(torch.autograd.Function):
    """From what `fused` prepared to all logits (s, n, h); arguments as of the kernels."""

    @staticmethod
    def forward(ctx: Any, x, first, start, w0, w, b, hw, hb, settings: dict[str, Any]) -> Tensor:
        from nisf.fused_kernels import forward

        s, n, _ = x.shape
        out = x.new_empty(s, n, settings["H"])
        layers = len(w) + 1
        tiles = -(-n // settings["BLOCK"])
        forward[(tiles, s)](x, first, start, w0, w, b, hw, hb, out, n, layers, **settings, **LAUNCH)
        ctx.save_for_backward(x, first, start, w0, w, b, hw)
        ctx.settings = settings
        return out

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        from nisf.fused_kernels import backward

        saved, settings = ctx.saved_tensors, ctx.settings
        x, w, hw = saved[0], saved[4], saved[6]
        s, n, _ = x.shape
        layers = len(w) + 1
        programs = min(PROGRAMS, s * -(-n // settings["BLOCK"]))
        scratch = x.new_empty(programs, layers, settings["BLOCK"], settings["W"])
        gradients = [torch.zeros_like(t) for t in saved]
        dhb = hw.new_zeros(len(hw))
        weights = any(ctx.needs_input_grad[3:8])
        backward[(programs,)](
            *saved,
            above[0].contiguous(),
            scratch,
            *gradients,
            dhb,
            s,
            n,
            layers,
            **settings,
            **LAUNCH,
            WEIGHTS=weights,
        )
        found = [*gradients, dhb]
        return *(g if wanted else None for g, wanted in zip(found, ctx.needs_input_grad, strict=False)), None
