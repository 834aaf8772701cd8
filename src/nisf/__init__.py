"""Continuous segmentation of medical image volumes with neural implicit segmentation functions.

    import nisf

    fitted = nisf.segment("sa.nii.gz", prior="prior")
    nisf.write_segmentation(fitted, "out")

Every name below is imported when it is first used, so that ``import nisf`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "nisf.data.anatomy": ("Anatomy", "load_anatomy"),
    "nisf.data.case": ("UNKNOWN", "Case", "Points", "Slice", "Stack", "slices_of_volume"),
    "nisf.config.schema": ("Config", "FieldConfig", "FitConfig", "RegionConfig", "TrainConfig"),
    "nisf.errors": ("NisfError",),
    "nisf.evaluation.scores": ("score_case",),
    "nisf.networks.latent_field": ("Field",),
    "nisf.kinds.latent.fit": ("find_region", "fit"),
    "nisf.subject.subject": ("Fitted", "Rendering"),
    "nisf.io.subject_file": ("read_fitted", "write_fitted"),
    "nisf.data.geometry": ("Affine", "Grid"),
    "nisf.data.hiding": ("hide",),
    "nisf.config.presets": ("preset",),
    "nisf.prior.prior": ("Prior", "load_prior"),
    "nisf.io.readers": ("check_cohort", "open_cohort", "read_case", "read_image"),
    "nisf.data.region": ("Region",),
    "nisf.segmentation": ("Request", "segment", "write_segmentation"),
    "nisf.training.train": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nisf' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
