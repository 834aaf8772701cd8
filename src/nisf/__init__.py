"""Continuous segmentation of medical image volumes with neural implicit segmentation functions.

    import nisf

    subject = nisf.segment("sa.nii.gz", prior="prior")
    nisf.write_segmentation(subject, "out")

Every name below is imported when it is first used, so that ``import nisf`` costs nothing. Type checkers see
where each is from.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nisf.config.fit_options import FitOptions as FitOptions
    from nisf.config.presets import preset as preset
    from nisf.config.schema import AugmentConfig as AugmentConfig
    from nisf.config.schema import Config as Config
    from nisf.config.schema import FieldConfig as FieldConfig
    from nisf.config.schema import FitConfig as FitConfig
    from nisf.config.schema import ImageConfig as ImageConfig
    from nisf.config.schema import RegionConfig as RegionConfig
    from nisf.config.schema import TrainConfig as TrainConfig
    from nisf.correction.file import read_strokes as read_strokes
    from nisf.correction.file import write_strokes as write_strokes
    from nisf.correction.stroke import Stroke as Stroke
    from nisf.data.anatomy import Anatomy as Anatomy
    from nisf.data.anatomy import View as View
    from nisf.data.anatomy import load_anatomy as load_anatomy
    from nisf.data.case import UNKNOWN as UNKNOWN
    from nisf.data.case import Case as Case
    from nisf.data.case import Points as Points
    from nisf.data.case import Slice as Slice
    from nisf.data.case import Stack as Stack
    from nisf.data.case import slices_of_volume as slices_of_volume
    from nisf.data.geometry import Affine as Affine
    from nisf.data.geometry import Grid as Grid
    from nisf.data.hiding import hide as hide
    from nisf.data.region import Region as Region
    from nisf.errors import BadFileError as BadFileError
    from nisf.errors import BadSettingError as BadSettingError
    from nisf.errors import CannotFitError as CannotFitError
    from nisf.errors import NisfError as NisfError
    from nisf.errors import NoSuchModelError as NoSuchModelError
    from nisf.evaluation.cohort import evaluate_prior as evaluate_prior
    from nisf.evaluation.cohort import score_prior as score_prior
    from nisf.evaluation.metrics import Score as Score
    from nisf.evaluation.scores import Evaluation as Evaluation
    from nisf.evaluation.scores import evaluate_folder as evaluate_folder
    from nisf.evaluation.scores import score_case as score_case
    from nisf.io.readers import Cohort as Cohort
    from nisf.io.readers import check_cohort as check_cohort
    from nisf.io.readers import open_cohort as open_cohort
    from nisf.io.readers import read_case as read_case
    from nisf.io.readers import read_image as read_image
    from nisf.io.subject_file import write_subject as write_subject
    from nisf.io.writers import write_volume as write_volume
    from nisf.kinds.load import load_prior as load_prior
    from nisf.kinds.load import read_subject as read_subject
    from nisf.measures.case import CaseMeasures as CaseMeasures
    from nisf.measures.case import MeasureOptions as MeasureOptions
    from nisf.mesh.extraction import surfaces as surfaces
    from nisf.mesh.files import write_surface as write_surface
    from nisf.mesh.surface import Surface as Surface
    from nisf.prior.fit import fit as fit
    from nisf.prior.prior import Prior as Prior
    from nisf.quality.judge import judge as judge
    from nisf.quality.judgement import Judgement as Judgement
    from nisf.report.notebook import subject_html as subject_html
    from nisf.segmentation import Request as Request
    from nisf.segmentation import segment as segment
    from nisf.segmentation import segment_case as segment_case
    from nisf.segmentation import write_segmentation as write_segmentation
    from nisf.segmentation.correct import correct as correct
    from nisf.segmentation.measures import measure as measure
    from nisf.subject.rendering import Rendering as Rendering
    from nisf.subject.subject import Subject as Subject
    from nisf.subject.views import view_plane as view_plane
    from nisf.training.train import TrainOptions as TrainOptions
    from nisf.training.train import train as train
    from nisf.view import view as view

__version__ = "0.1.0"

_HOMES = {
    "nisf.config.fit_options": ("FitOptions",),
    "nisf.config.presets": ("preset",),
    "nisf.config.schema": (
        "AugmentConfig",
        "Config",
        "FieldConfig",
        "FitConfig",
        "ImageConfig",
        "RegionConfig",
        "TrainConfig",
    ),
    "nisf.correction.file": ("read_strokes", "write_strokes"),
    "nisf.correction.stroke": ("Stroke",),
    "nisf.data.anatomy": ("Anatomy", "View", "load_anatomy"),
    "nisf.data.case": ("UNKNOWN", "Case", "Points", "Slice", "Stack", "slices_of_volume"),
    "nisf.data.geometry": ("Affine", "Grid"),
    "nisf.data.hiding": ("hide",),
    "nisf.data.region": ("Region",),
    "nisf.errors": ("BadFileError", "BadSettingError", "CannotFitError", "NisfError", "NoSuchModelError"),
    "nisf.evaluation.cohort": ("evaluate_prior", "score_prior"),
    "nisf.evaluation.metrics": ("Score",),
    "nisf.evaluation.scores": ("Evaluation", "evaluate_folder", "score_case"),
    "nisf.io.readers": ("Cohort", "check_cohort", "open_cohort", "read_case", "read_image"),
    "nisf.io.subject_file": ("write_subject",),
    "nisf.io.writers": ("write_volume",),
    "nisf.kinds.load": ("load_prior", "read_subject"),
    "nisf.measures.case": ("CaseMeasures", "MeasureOptions"),
    "nisf.mesh.extraction": ("surfaces",),
    "nisf.mesh.files": ("write_surface",),
    "nisf.mesh.surface": ("Surface",),
    "nisf.prior.fit": ("fit",),
    "nisf.prior.prior": ("Prior",),
    "nisf.quality.judge": ("judge",),
    "nisf.quality.judgement": ("Judgement",),
    "nisf.report.notebook": ("subject_html",),
    "nisf.segmentation": ("Request", "segment", "segment_case", "write_segmentation"),
    "nisf.segmentation.correct": ("correct",),
    "nisf.segmentation.measures": ("measure",),
    "nisf.subject.rendering": ("Rendering",),
    "nisf.subject.subject": ("Subject",),
    "nisf.subject.views": ("view_plane",),
    "nisf.training.train": ("TrainOptions", "train"),
    "nisf.view": ("view",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]


if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'nisf' has no attribute '{name}'")
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
