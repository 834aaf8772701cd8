"""Reports: one self-contained page a case, and one of the cohort."""
