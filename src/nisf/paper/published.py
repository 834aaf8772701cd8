"""Published numbers of the paper (Stolt-Anso et al., MICCAI 2023, arXiv 2309.08643), for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nisf.files import read_json

WEIGHTS_RATE = 1e-4
"""Adam's learning rate for the weights, in training and in the public code's fits."""
SUBJECTS = 100
"""Number of test subjects in table 1 (UK Biobank)."""


def published() -> dict[str, Any]:
    """``table1``: mean and standard deviation of Dice by structure; ``best_steps``: inference steps."""
    return read_json(Path(__file__).with_suffix(".json"))


def published_dice(labels: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Table 1 of the paper: mean and standard deviation of the Dice of each structure and of their mean.

    Args:
        labels: the structures to compare; the result is empty if they are not those of the paper.
    """
    table = {label: (float(mean), float(spread)) for label, (mean, spread) in published()["table1"].items()}
    return table if {*labels, "mean"} == table.keys() else {}
