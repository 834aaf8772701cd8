"""The training objective of the image-conditioned field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nisf.config.schema import TrainConfig
from nisf.data.case import UNKNOWN
from nisf.device import autocast
from nisf.kinds.image.augment import Sample
from nisf.networks.image_field import ImageField, Scene
from nisf.networks.losses import dice_loss
from nisf.optimisation.ranks import gathered


def class_terms(logits: Float[Tensor, "p k"], label: Int[Tensor, "p"]) -> dict[str, Tensor]:
    """Cross-entropy and Dice loss of the classes over all points with a known label."""
    known = (label != UNKNOWN).sum().clamp_min(1)
    bce = functional.cross_entropy(logits, label, ignore_index=UNKNOWN, reduction="sum") / known
    return {
        "class_bce": bce,
        "dice_loss": dice_loss(logits[None], label[None], logits.new_ones(1, len(label))).mean(),
    }


def image_objective(
    field: ImageField,
    samples: Sequence[Sample],
    config: TrainConfig,
    together: Sequence[int] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy and Dice loss of the classes, and cross-entropy of the intensities, over all samples.

    The slices of all samples are encoded in one batch. ``together`` gives the numbers of consecutive samples
    that are phases of one subject; if None, each sample is a subject. On several ranks, the objective is that
    of all ranks' samples.
    """
    counts = [len(sample.images) for sample in samples]
    images, maps = torch.cat([sample.images for sample in samples]), [sample.maps for sample in samples]
    values, classes = [], []
    with autocast(images.device, config.precision):
        features, latents = field.encoder(images, maps, together)
        for sample, own, latent in zip(samples, features.split(counts), latents.split(counts), strict=True):
            intensity, class_logits = field(Scene(own, sample.maps, latent.mean(0)), sample.points)
            values.append(intensity)
            classes.append(class_logits)
    # The Dice of all points is not the mean of the ranks' own.
    logits, label = gathered(torch.cat(classes).float()), gathered(torch.cat([s.label for s in samples]))
    target = gathered(torch.cat([sample.intensity for sample in samples]))
    intensity_bce = functional.binary_cross_entropy_with_logits(gathered(torch.cat(values).float()), target)
    terms = {**class_terms(logits, label), "intensity_bce": intensity_bce}
    loss = terms["class_bce"] + terms["dice_loss"] + config.alpha * terms["intensity_bce"]
    return loss, {"loss": loss, **terms}
