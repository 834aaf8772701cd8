"""The terms of the objective (paper, equations 1 and 2).

Each term is averaged over each subject's own points and returned per subject ``(s,)``, so that subjects in a
batch do not affect each other's weight. Points labelled `UNKNOWN` count in no segmentation term; points of
weight 0 are padding and count nowhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.data.case import UNKNOWN


def masked_mean(values: Float[Tensor, "s n"], weight: Float[Tensor, "s n"]) -> Float[Tensor, "s"]:
    """Weighted mean over points; 0 for subjects without weight."""
    return (values * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def intensity_bce(
    logits: Float[Tensor, "s n c"], target: Float[Tensor, "s n c"], weight: Float[Tensor, "s n"]
) -> Float[Tensor, "s"]:
    """Binary cross-entropy between fitted and measured intensity in [0, 1]."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(-1)
    return masked_mean(loss, weight)


def class_bce(
    logits: Float[Tensor, "s n k"], label: Int[Tensor, "s n"], weight: Float[Tensor, "s n"]
) -> Float[Tensor, "s"]:
    """Binary cross-entropy of the softmax probabilities, averaged over the classes (paper's code)."""
    known = weight * (label != UNKNOWN)
    target = functional.one_hot(label.clamp_min(0), logits.shape[-1]).to(logits.dtype)
    log_p = torch.log_softmax(logits, dim=-1)
    # log(1 - p) without cancellation; -100 is the lower bound of logarithms in PyTorch's BCELoss.
    log_q = torch.log1p(-log_p.exp().clamp(max=1 - 1e-7))
    loss = -(target * log_p.clamp_min(-100) + (1 - target) * log_q).mean(-1)
    return masked_mean(loss, known)


def dice_loss(
    logits: Float[Tensor, "s n k"], label: Int[Tensor, "s n"], weight: Float[Tensor, "s n"]
) -> Float[Tensor, "s"]:
    """One minus the soft Dice, averaged over the classes; 0 for a subject without any label."""
    known = (weight * (label != UNKNOWN))[..., None]
    target = functional.one_hot(label.clamp_min(0), logits.shape[-1]).to(logits.dtype) * known
    probability = torch.softmax(logits, dim=-1) * known
    smooth = 1e-5
    overlap = 2 * (target * probability).sum(1) + smooth
    dice = overlap / (target.sum(1) + probability.sum(1) + smooth)
    return (1 - dice).mean(-1) * (known.sum((1, 2)) > 0)
