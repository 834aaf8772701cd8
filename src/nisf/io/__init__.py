"""Reading and writing: cohorts and images, NIfTI, subject files."""
