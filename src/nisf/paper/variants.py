"""Priors that differ in one setting, scored on the same voxels of the same test subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nisf.kinds.latent.fit import fit_latents
from nisf.kinds.latent.validation import point_dice, scored_points
from nisf.paper.study import Study, Variant

VOXELS = 16_384
"""Number of labelled voxels of a subject on which its Dice is computed."""


def base(study: Study) -> Variant:
    """The variant without changes."""
    return Variant("base", study.budget.variant_config())


def named(study: Study, name: str, *settings: str) -> Variant:
    """The variant with these settings; the base if they change nothing."""
    config = study.budget.variant_config(*settings)
    return base(study) if config == base(study).config else Variant(name, config)


def score_variant(study: Study, variant: Variant) -> list[dict[str, Any]]:
    """Dice of each test subject and structure, as rows; frozen weights, validated number of steps."""
    prior = study.latent_prior(variant)
    field, names = prior.field, study.anatomy.labels
    cases = study.test[: study.budget.curve_cases]
    settings = {"prior": prior.fingerprint, "fit": asdict(prior.config.fit)}

    def work() -> list[dict[str, Any]]:
        points = prior.validation_points(cases)
        start = prior.latent_mean[None].repeat(len(points), 1)
        latents, losses = fit_latents(field, points, start, prior.config.fit)
        rows = []
        for case, index, latent, loss in zip(
            points, scored_points(points, 3, VOXELS), latents, losses, strict=True
        ):
            dice = point_dice(field, latent, case, index, len(names))
            rows += [
                {"case": case.name, "label": name, "dice": float(value), "loss": float(loss)}
                for name, value in zip(names[1:], dice, strict=True)
                if np.isfinite(value)
            ]
        study.say(f"{variant.name}: Dice {np.mean([row['dice'] for row in rows]):.3f}")
        return rows

    return study.once(f"variants/{variant.name}", cases, settings, work)


def dots(axes: Any, names: Sequence[str], values: Sequence[float], spreads: Sequence[float]) -> None:
    """Plot mean and standard deviation over subjects, one dot per name."""
    axes.errorbar(range(len(names)), values, spreads, fmt="o", color="#0072B2", capsize=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", color="0.9")
