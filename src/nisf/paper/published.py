"""Numbers of the paper (Stolt-Anso et al., MICCAI 2023, arXiv 2309.08643), to stand beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nisf.files import read_json

WEIGHTS_RATE = 1e-4
"""Adam's rate of the weights, in training and in the public code's fits."""
SUBJECTS = 100
"""Test subjects of table 1 (UK Biobank)."""


def published() -> dict[str, Any]:
    """``table1``: structure to mean and standard deviation of Dice; ``best_steps``: of inference."""
    return read_json(Path(__file__).with_suffix(".json"))
