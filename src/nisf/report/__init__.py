"""Reports: one self-contained page per case, and one for the cohort."""
