"""Reading and writing: cohorts and images, NIfTI, the file of a subject."""
