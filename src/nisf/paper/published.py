"""Published numbers of the paper (Stolt-Anso et al., MICCAI 2023, arXiv 2309.08643), for comparison."""

from __future__ import annotations

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
