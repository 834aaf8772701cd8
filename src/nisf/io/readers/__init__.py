"""Readers: from files in folders to cases, with one module per layout in `layouts`."""

from nisf.io.readers.cache import cached_case
from nisf.io.readers.cases import CaseReader
from nisf.io.readers.check import Report, check_cohort
from nisf.io.readers.cohort import Cohort, names_in, only_named, open_cohort, read_case, read_image
from nisf.io.readers.listing import CaseFiles, Problem, StackFiles
from nisf.io.readers.nifti import Header, read_header, read_volume
from nisf.io.readers.stored import CachedCases, stored_cases

__all__ = [
    "CachedCases",
    "CaseFiles",
    "CaseReader",
    "Cohort",
    "Header",
    "Problem",
    "Report",
    "StackFiles",
    "cached_case",
    "check_cohort",
    "names_in",
    "only_named",
    "open_cohort",
    "read_case",
    "read_header",
    "read_image",
    "read_volume",
    "stored_cases",
]
