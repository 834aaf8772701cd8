"""Cohorts of DICOM studies with another choice of series, or with the original folder names."""

from __future__ import annotations

from dataclasses import replace

from nisf.errors import BadSettingError
from nisf.io.dicom.study import identified
from nisf.io.readers.cohort import Cohort
from nisf.io.readers.layouts.dicom import case_of


def with_series(cohort: Cohort, wanted: str) -> Cohort:
    """The same cohort, using from each study the series with this number or description.

    Raises:
        BadSettingError: it is not DICOM.
    """
    if cohort.layout != "dicom":
        raise BadSettingError(
            f"{cohort.root}: the layout is {cohort.layout}, but only DICOM has series to choose from",
            options=["series"],
        )
    cases = [case_of(study.wanting(wanted)) for case in cohort.cases if (study := case.stacks[0].series)]
    return replace(cohort, cases=tuple(cases))


def with_identifiers(cohort: Cohort) -> Cohort:
    """The same cohort, with DICOM studies named like their folders and nothing hidden."""
    studies = [stack.series for case in cohort.cases for stack in case.stacks if stack.series is not None]
    return replace(cohort, cases=tuple(map(case_of, identified(studies)))) if studies else cohort


def people(cohort: Cohort) -> dict[str, dict[str, str]]:
    """The patient's name and ID and the study's date, by case name, for DICOM studies."""
    return {case.name: study.person for case in cohort.cases if (study := case.stacks[0].series) is not None}
