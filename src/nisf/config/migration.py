"""Translate settings written by older versions of nisf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nisf.config.schema import FitConfig

NEWER: dict[str, dict[str, Any]] = {
    "image": {"slice_exchange": 0, "phase_exchange": 0, "time_sigma": 0.0},
    "augment": {
        "blur_pixels": 1.1,
        "coil": 0.0,
        "curve": 0.0,
        "cut": 0.0,
        "stretch": 0.0,
        "sharpen": 0.0,
        "noise_profile": 0.0,
        "ghost": 0.0,
    },
    "train": {"optimiser": "adam", "precision": "fp32", "minutes": 0.0},
    "fit": asdict(FitConfig()),
    "region": {"certain": 0.0},
}
"""Settings that an older file may lack, by section, with the values of the old behaviour."""

RENAMED = {"image": {"exchange": "slice_exchange", "moments": "phase_exchange"}}
"""Settings that have other names in older files."""


def todays_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Translate settings of any version; settings newer than the file get the value of the old behaviour.

    Args:
        settings: all of them as JSON, by part.

    Raises:
        KeyError, TypeError, AttributeError: a part is missing or not a mapping.
    """
    out = dict(settings)
    for part, names in RENAMED.items():
        out[part] = {names.get(name, name): value for name, value in out[part].items()}
    return out | {part: {**newer, **out[part]} for part, newer in NEWER.items()}
